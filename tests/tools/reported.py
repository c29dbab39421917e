"""What a report is about, and a reader of reports that shares nothing with their writer."""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass, field, replace
from email.message import EmailMessage

from delivery.dsn import Dsn, Occasion, Original, compose
from spool.address import parse_address
from spool.ids import MessageId
from spool.message import Destination, Message, Recipient
from spool.outcome import Failed, Outcome, Stage
from spool.reply import Reply
from spool.report import ReportLine
from spool.state import Event, Kind
from tests.tools.spooled import DAY, SENDER

ARRIVED = 1_700_000_000_000
REFUSED = Failed(Reply(550, "5.1.1", "no such user here"), "mx.example.org (192.0.2.1)", Stage.RCPT)
HEADER = b"From: ann@example.com\r\nMessage-ID: <first@example.com>\r\nSubject: lunch\r\n"


@dataclass(frozen=True)
class About:
    """What a test wants to say about one recipient."""

    address: str = "bob@example.org"
    final: str = ""
    orcpt: str = ""
    event: Event = Event.FAILED
    outcome: Outcome = REFUSED


def line(about: About | None = None) -> ReportLine:
    """What became of one recipient, a minute after the message came."""
    about = about or About()
    given = parse_address(about.address)
    final = parse_address(about.final or about.address)
    recipient = Recipient(given, about.orcpt)
    return ReportLine(recipient, Destination(final), about.event, about.outcome, ARRIVED + 60_000, ARRIVED + 4 * DAY)


def occasion(kind: Kind = Kind.FAILED, *lines: ReportLine) -> Occasion:
    """A report about an ordinary message."""
    return Occasion(
        kind,
        Message(MessageId("m" * 20), SENDER, ARRIVED, ARRIVED / 1000, 1000),
        lines or (line(),),
        Original(HEADER, is_whole=False),
        "mail.example.net",
        MessageId("r" * 20),
        ARRIVED / 1000 + 60,
        lambda at: at / 1000,
    )


def about_message(report: Occasion, **fields: object) -> Occasion:
    """The same about another message."""
    return replace(report, message=replace(report.message, **fields))  # type: ignore[arg-type]


@dataclass
class Reading:
    """A report as a mail program sees it."""

    mail: EmailMessage
    parts: list[EmailMessage] = field(default_factory=list)

    @property
    def words(self) -> str:
        """The first part."""
        text = self.parts[0].get_content()
        assert isinstance(text, str)
        return text

    def fields(self, group: int) -> dict[str, str]:
        """The fields about the message (0) or a recipient (from 1), unfolded."""
        content = self.parts[1].get_payload()
        assert isinstance(content, list)
        fields = content[group]
        assert isinstance(fields, EmailMessage)
        return {name: str(value).replace("\r\n", "") for name, value in fields.items()}


def read(report: Dsn | bytes) -> Reading:
    """Parse with the standard library, which knows nothing of how reports are written."""
    content = report if isinstance(report, bytes) else report.content
    mail = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert isinstance(mail, EmailMessage)
    assert mail.defects == []
    parts = list(mail.iter_parts())
    return Reading(mail, [part for part in parts if isinstance(part, EmailMessage)])


def written(report: Occasion) -> Reading:
    """Compose and read."""
    return read(compose(report))
