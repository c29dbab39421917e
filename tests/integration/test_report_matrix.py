"""Every wish for reports (RFC 3461) against everything that can become of a message: who is told, and what.

What is to be told is written down here from the RFCs; each report that leaves the spool is read by `tests.tools.rfc3464` and
by the standard library.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from delivery.bounce import Reporter
from delivery.replies import ReplyReader
from ingress.parameters import mail_parameters, rcpt_parameters
from policy.route import Route
from scheduler.runner import Runner
from spool.address import parse_address
from spool.layout import layout
from spool.message import Claimed, Destination, Recipient, Submission
from spool.outcome import Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply
from spool.state import Kind
from tests.tools import reported, rfc3464
from tests.tools.configured import Configured, FakeUsers
from tests.tools.scheduling import PACE, World, world
from tests.tools.scorecard import Cases
from tests.tools.spooled import DONE, HOUR, Letter, submission

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("6 reports")]

REMOTE = "mx.example.org [192.0.2.1]"
KINDS = (Kind.FAILED, Kind.DELAYED, Kind.DELIVERED, Kind.RELAYED)
WORDS = ("SUCCESS", "FAILURE", "DELAY")
NOTIFY = ("", "NEVER", *(",".join(some) for count in (1, 2, 3) for some in itertools.combinations(WORDS, count)))
RET = ("", "HDRS", "FULL")
#: What ORCPT says, and how a report says it: among ASCII, and among UTF-8.
ORCPT = {
    "": ("", ""),
    "rfc822;Bob+2Bx@example.org": ("Bob+x@example.org",) * 2,
    r"utf-8;b\x{F8}b@example.org": (r"b\x{F8}b@example.org", "bøb@example.org"),
}
ORCPT_UTF8 = {**ORCPT, "utf-8;bøb@example.org": ("", "bøb@example.org")}
#: Octets of what is reported on, and its header.
HEADER = "From: ann@example.org\r\nMessage-ID: <m@example.org>\r\nSubject: {}\r\n"
CONTENT = "\r\nAt one?\r\n.\r\n--=_\r\n"
#: The words after which a trouble is recognised in a report.
SAID = "said it twice"
#: Until a report about what just happened is due.
GATHERED = 2_000
#: How many of all wishes are tried when time is short.
SHORT = 150


@dataclass(frozen=True)
class Wish:
    """One combination."""

    number: int
    kind: Kind
    notify: str
    ret: str
    orcpt: str
    #: What needs SMTPUTF8: nothing, the parameter alone, the recipient, the sender.
    utf8: str

    @property
    def is_told(self) -> bool:
        """Whether the sender is told of what became of it (RFC 3461 4.1)."""
        words = self.notify.split(",") if self.notify else ["FAILURE", "DELAY"]
        return {Kind.FAILED: "FAILURE", Kind.DELAYED: "DELAY"}.get(self.kind, "SUCCESS") in words

    @property
    def recipient(self) -> str:
        """Whom the message is for."""
        return "bøb@exämple.org" if self.utf8 == "recipient" else "bob@example.org"

    @property
    def sender(self) -> str:
        """Who wrote it."""
        return "änn@example.org" if self.utf8 == "sender" else "ann@example.org"

    @property
    def header(self) -> bytes:
        """Its header."""
        return HEADER.format("lünch" if self.utf8 else "lunch").encode()

    def submission(self, now: int) -> Submission:
        """The message as it comes in, its parameters read by the server."""
        mail = mail_parameters(
            " ".join(
                [f"ENVID=no+2B{self.number}", *[f"RET={self.ret}"] * bool(self.ret), *["SMTPUTF8"] * bool(self.utf8)]
            ),
            dsn=True,
        )
        words = [f"NOTIFY={self.notify}"] * bool(self.notify) + [f"ORCPT={self.orcpt}"] * bool(self.orcpt)
        rcpt = rcpt_parameters(" ".join(words), dsn=True, smtputf8=bool(self.utf8))
        given = submission(now, Letter(body=self.header + CONTENT.encode(), sender=parse_address(self.sender)))
        message = replace(given.message, ret=mail.ret, envid=mail.envid, body_kind=mail.body_kind)
        address = parse_address(self.recipient)
        recipient = Recipient(address, rcpt.orcpt, rcpt.notify, rcpt.notify_given)
        (envelope,) = given.envelopes
        envelope = replace(envelope, recipient=recipient, destination=Destination(address))
        return replace(given, message=message, envelopes=(envelope,))


def wishes() -> Iterator[Wish]:
    """All of them."""
    numbers = itertools.count()
    for kind, notify, ret, utf8 in itertools.product(KINDS, NOTIFY, RET, ("", "parameter", "recipient", "sender")):
        for orcpt in ORCPT_UTF8 if utf8 else ORCPT:
            yield Wish(next(numbers), kind, notify, ret, orcpt, utf8)


def remote_reply(*lines: str) -> Reply:
    """What a server says in several lines."""
    reader = ReplyReader()
    reader.feed("".join(f"{line}\r\n" for line in lines).encode())
    return reader.pop()


OUTCOMES: dict[Kind, Outcome] = {
    Kind.FAILED: Failed(remote_reply("550-5.1.1 no such user,", f"550 5.1.1 {SAID}"), REMOTE, Stage.RCPT),
    Kind.DELAYED: Deferred(remote_reply("450-4.2.1 greylisted,", f"450 4.2.1 {SAID}"), REMOTE, Stage.RCPT),
    Kind.DELIVERED: Delivered(Reply(250, "2.0.0", "delivered"), stage=Stage.LOCAL),
    Kind.RELAYED: Delivered(remote_reply("250-2.6.0 queued,", f"250 2.6.0 {SAID}"), REMOTE),
}
STATUS = {Kind.FAILED: "5.1.1", Kind.DELAYED: "4.2.1", Kind.DELIVERED: "2.0.0", Kind.RELAYED: "2.6.0"}
DIAGNOSTIC = {
    Kind.FAILED: ("smtp", f"550 5.1.1 no such user, {SAID}"),
    Kind.DELAYED: ("smtp", f"450 4.2.1 greylisted, {SAID}"),
    Kind.RELAYED: ("smtp", f"250 2.6.0 queued, {SAID}"),
}


async def test_everybody_is_told_what_was_asked_for_and_in_the_form_of_the_rfcs(
    tmp_path: Path, cases: Cases, thorough: bool
) -> None:
    every = list(wishes())
    chosen = every if thorough else random.Random(3461).sample(every, SHORT)
    found = await reports(tmp_path, chosen)
    for wish in chosen:
        cases.tried()
        try:
            check(wish, found.pop(wish.number, []))
        except AssertionError as error:
            cases.failed(f"{wish}: {error}")
    assert not found


async def reports(place: Path, chosen: list[Wish]) -> dict[int, list[bytes]]:
    """The reports about each of ``chosen``, after each came to what it is to come to."""
    found: dict[int, list[bytes]] = {}
    by_number = {f"no+2B{wish.number}": wish for wish in chosen}

    def outcome(claimed: Claimed, route: Route) -> Outcome:
        if not claimed.message.return_path.is_null:
            return OUTCOMES[by_number[claimed.message.envid].kind]
        report = claimed.body.read()
        number = int(report.partition(b"Original-Envelope-Id: no+")[2].split()[0])
        found.setdefault(number, []).append(report)
        return DONE

    async with world(layout(str(place))) as house:
        with_reporter(house, place)
        house.outcome = outcome
        for wish in chosen:
            await house.spool.accept(wish.submission(house.spool.clock.now()))
        async with house.at_work():
            await house.settled()
            for wait in (GATHERED, 4 * HOUR, GATHERED):
                house.advance(wait)
                await house.settled()
    return found


def with_reporter(house: World, place: Path) -> None:
    """Reports are made as the daemon makes them, and go to a smarthost."""
    config = Configured(place / "conf").load("""
        listen on socket
        action "relay" relay host smtp://mail.example.org
        match from local for any action "relay"
    """)
    house.config = config
    reporter = Reporter(lambda: config, house.spool.clock, FakeUsers())
    house.runner = Runner(house.spool, lambda: config, house.deliver, reporter.report, PACE)


def check(wish: Wish, found: list[bytes]) -> None:
    """Whether these are the right reports."""
    assert len(found) == wish.is_told, f"{len(found)} reports"
    for octets in found:
        reported.read(octets)
        report = rfc3464.parse(octets)
        assert report.is_international == bool(wish.utf8)
        assert report.header.fields["to"].strip() == wish.sender
        assert report.about_message.fields["original-envelope-id"].strip() == f"no+{wish.number}"
        check_recipient(wish, *report.recipients)
        check_returned(wish, report)


def check_recipient(wish: Wish, recipient: rfc3464.Group) -> None:
    """The fields about the one recipient."""
    said = ORCPT_UTF8[wish.orcpt][bool(wish.utf8)]
    if said:
        assert recipient.typed("original-recipient") == (wish.orcpt.partition(";")[0], said)
    else:
        assert "original-recipient" not in recipient.fields
    kind = "rfc822" if wish.recipient.isascii() else "utf-8"
    assert recipient.typed("final-recipient") == (kind, wish.recipient)
    assert recipient.fields["action"].strip() == wish.kind.value
    assert recipient.fields["status"].strip() == STATUS[wish.kind]
    if wish.kind in DIAGNOSTIC:
        assert recipient.typed("diagnostic-code") == DIAGNOSTIC[wish.kind]
        assert recipient.typed("remote-mta") == ("dns", REMOTE)
    else:
        assert "remote-mta" not in recipient.fields
    assert ("will-retry-until" in recipient.fields) == (wish.kind is Kind.DELAYED)


def check_returned(wish: Wish, report: rfc3464.Parts) -> None:
    """What came back of the message: all of it only of a failure, and only when asked for (RFC 3461 4.3)."""
    if wish.kind is Kind.FAILED and wish.ret == "FULL":
        assert report.returned_type == ("message/global" if wish.utf8 else "message/rfc822")
        assert report.returned.startswith(wish.header + CONTENT.encode())
    else:
        assert report.returned_type == ("message/global-headers" if wish.utf8 else "text/rfc822-headers")
        assert report.returned.strip() == wish.header.strip()
