"""Delivery reports: a message to a sender about what became of his message, for people and for programs.

Three parts: what happened in words; the same in fields (`delivery.status_fields`); the original's header, or all of it
when a failure is reported to a sender who asked for that. Of the original nothing is changed.

Guarantees: lines end in CRLF and none is longer than the original's own; addresses and remote words cannot break out of
their line. Nothing here waits or fails.

RFC 6522 (multipart/report), RFC 3464 (delivery status), RFC 6533 (with UTF-8), RFC 3461 6 (which original is returned),
RFC 3834 (automatic answers).
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from delivery.status_fields import about_message, about_recipient, fold
from spool.ids import MessageId
from spool.message import BodyKind, Message
from spool.reply import printable
from spool.report import ReportLine
from spool.state import Event, Kind

_ORIGINAL_ID: Final = re.compile(
    rb"^message-id:[ \t]*(?:\r\n[ \t]+)?(<[!-;=?-~]{1,900}>)", re.IGNORECASE | re.MULTILINE
)

_OPENING: Final = {
    Kind.FAILED: "Your message could not be delivered to the recipients below, and will not be tried again.",
    Kind.DELAYED: "Your message has not been delivered yet to the recipients below. There is nothing you have to do:",
    Kind.DELIVERED: "As you asked to be told: your message has been delivered to the recipients below.",
    Kind.RELAYED: "Your message for the recipients below has been handed on to a server that does not report deliveries:\n"
    "you will hear of it again only if it fails.",
    Kind.EXPANDED: "Each of the recipients below stands for several others, to whom your message goes on from here.\n"
    "You asked to be told of success: this is all that is told of it.",
}
_SPANS: Final = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second"))


@dataclass(frozen=True, slots=True)
class Original:
    """What is returned of the message that the report is about."""

    content: bytes
    #: The whole message, not only its header.
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Occasion:
    """All that a report is made of."""

    kind: Kind
    message: Message
    lines: Sequence[ReportLine]
    #: None when it cannot be read any more.
    original: Original | None
    #: The name of this server, in ASCII.
    server: str
    id: MessageId
    #: The time of day, in seconds since 1970.
    now: float
    #: The time of day at a spool time.
    wall_at: Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Dsn:
    """A report, and what it needs of the next hop."""

    content: bytes
    body_kind: BodyKind


def compose(occasion: Occasion) -> Dsn:
    """Write the report."""
    utf8 = _needs_utf8(occasion)
    parts = [_words(occasion), _fields(occasion, utf8=utf8)]
    if occasion.original is not None:
        parts.append(_returned(occasion.original, utf8=utf8))
    boundary = f"=_{occasion.id}"
    separator = b"--" + boundary.encode() + b"\r\n"
    body = b"".join(separator + part for part in parts) + b"--" + boundary.encode() + b"--\r\n"
    sender = occasion.message.return_path
    body_kind = BodyKind.PLAIN if body.isascii() else BodyKind.EIGHT_BIT
    if not sender.is_ascii:
        body_kind |= BodyKind.SMTPUTF8
    return Dsn(_header(occasion, boundary, utf8=utf8, eight_bit=not body.isascii()) + body, body_kind)


def _needs_utf8(occasion: Occasion) -> bool:
    addresses = [occasion.message.return_path, *(line.destination.address for line in occasion.lines)]
    return BodyKind.SMTPUTF8 in occasion.message.body_kind or not all(address.is_ascii for address in addresses)


def _header(occasion: Occasion, boundary: str, *, utf8: bool, eight_bit: bool) -> bytes:
    report_type = "global-delivery-status" if utf8 else "delivery-status"
    fields = [
        ("From", f"Mailer Daemon <MAILER-DAEMON@{occasion.server}>"),
        ("To", str(occasion.message.return_path)),
        ("Subject", f"Delivery status notification: {occasion.kind.value}"),
        ("Date", formatdate(occasion.now, localtime=True)),
        ("Message-ID", f"<{occasion.id}@{occasion.server}>"),
        *_references(occasion.original),
        ("Auto-Submitted", "auto-replied"),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/report; report-type={report_type}; boundary="{boundary}"'),
    ]
    if eight_bit:
        fields.append(("Content-Transfer-Encoding", "8bit"))
    return "".join(fold(name, value) for name, value in fields).encode() + b"\r\n"


def _references(original: Original | None) -> list[tuple[str, str]]:
    """RFC 3834 3.1.5, 3.1.6: with these a mail program shows the report beside the message."""
    header = original.content.partition(b"\r\n\r\n")[0] if original else b""
    found = _ORIGINAL_ID.search(header)
    if found is None:
        return []
    name = found[1].decode()
    return [("In-Reply-To", name), ("References", name)]


# -- the first part: words --------------------------------------------------------------------------------------------


def _words(occasion: Occasion) -> bytes:
    text = "\n".join(_sentences(occasion))
    if text.isascii():
        return _part("text/plain; charset=us-ascii", text.replace("\n", "\r\n").encode())
    encoded = quopri.encodestring(text.encode()).replace(b"\n", b"\r\n")
    return _part("text/plain; charset=utf-8", encoded, "quoted-printable")


def _sentences(occasion: Occasion) -> list[str]:
    sentences = [f"This is the mail server {occasion.server}.", "", _OPENING[occasion.kind]]
    if occasion.kind is Kind.DELAYED:
        until = max(line.deadline for line in occasion.lines)
        sentences.append(f"it is tried again until {_date(occasion.wall_at(until))}.")
    for line in occasion.lines:
        sentences += ["", str(line.recipient.address), *("    " + reason for reason in _reasons(occasion, line))]
    what = "message" if occasion.original is not None and occasion.original.is_whole else "message's header"
    sentences += [
        "",
        "The same follows in a form for programs" + (f", and then your {what}." if occasion.original else "."),
    ]
    return [*sentences, ""]


def _reasons(occasion: Occasion, line: ReportLine) -> list[str]:
    outcome = line.outcome
    reasons = []
    if line.event is Event.EXPIRED:
        tried = _span(line.deadline - occasion.message.arrived)
        reasons.append(f"It was tried for {tried}, which is as long as this server tries. The last trouble was:")
    if outcome.remote:
        reasons.append(f"{printable(outcome.remote)} said: {outcome.reply}")
    elif line.event is not Event.DELIVERED:
        reasons.append(outcome.reply.text or str(outcome.reply))
    return reasons


def _date(wall: float) -> str:
    return formatdate(wall, localtime=True)


def _span(milliseconds: int) -> str:
    """A length of time in its two largest units."""
    words = []
    for unit, name in _SPANS:
        count, milliseconds = divmod(max(0, milliseconds), unit)
        if count:
            words.append(f"{count} {name}{'s' if count > 1 else ''}")
    return " and ".join(words[:2]) or "less than a second"


# -- the others -------------------------------------------------------------------------------------------------------


def _fields(occasion: Occasion, *, utf8: bool) -> bytes:
    groups = [about_message(occasion.message, occasion.server)]
    groups += [about_recipient(line, occasion.kind, occasion.wall_at, utf8=utf8) for line in occasion.lines]
    content = "\r\n".join(groups).encode()
    return _part("message/global-delivery-status" if utf8 else "message/delivery-status", content)


def _returned(original: Original, *, utf8: bool) -> bytes:
    if original.is_whole:
        return _part("message/global" if utf8 else "message/rfc822", original.content)
    return _part("message/global-headers" if utf8 else "text/rfc822-headers", original.content)


def _part(content_type: str, content: bytes, encoding: str = "") -> bytes:
    encoding = encoding or ("" if content.isascii() else "8bit")
    header = f"Content-Type: {content_type}\r\n"
    if encoding:
        header += f"Content-Transfer-Encoding: {encoding}\r\n"
    ending = b"" if content.endswith(b"\r\n") else b"\r\n"
    return header.encode() + b"\r\n" + content + ending + b"\r\n"
