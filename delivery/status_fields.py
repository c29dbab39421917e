"""What a delivery report says to programs: the fields of RFC 3464, one group for the message and one for each recipient.

Guarantees: every line is ASCII, unless UTF-8 was asked for (RFC 6533), ends in CRLF, and is shorter than 998 octets; nothing
that a client or another server said can begin a field of its own.

RFC 3464 2 (fields), RFC 3463 (status), RFC 3461 4 (xtext), RFC 6533 3 (UTF-8 addresses).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Final

from spool.address import Address
from spool.message import Message
from spool.outcome import Delivered
from spool.reply import EnhancedStatus, printable
from spool.report import ReportLine
from spool.state import Event, Kind

#: Columns after which a line is folded at a blank, as mail has always been written.
FOLD_AT: Final = 76
#: Columns after which a line is folded whatever stands there: RFC 5322 2.1.1 allows 998 octets, a character may have four.
FOLD_ANYWHERE: Final = 240

_CLASS: Final = {Event.DELIVERED: 2, Event.DEFERRED: 4, Event.FAILED: 5, Event.EXPIRED: 5}
#: RFC 3463 3.5: delivery time expired.
_TIME_IS_OVER: Final = "5.4.7"
#: A type of our own for what this machine said itself; RFC 3464 2.1.1 wants such to begin with "X-".
_OUR_OWN_WORDS: Final = "X-Mailspool"
_HEX_CHAR: Final = re.compile(rb"\+([0-9A-F]{2})")
_UNICODE_CHAR: Final = re.compile(r"\\x\{([0-9A-F]{2,6})\}")


def status_of(line: ReportLine) -> str:
    """The enhanced status of what became of a recipient, in the class of the event."""
    if line.event is Event.EXPIRED:
        return _TIME_IS_OVER
    klass = _CLASS[line.event]
    status = EnhancedStatus.parse(line.outcome.reply.status)
    return f"{klass}.{status.subject}.{status.detail}" if status else f"{klass}.0.0"


def about_message(message: Message, reporter: str) -> str:
    """The group of fields about the message itself, in the order of the RFC; ``reporter`` is our name."""
    fields = [("Original-Envelope-Id", _decode_xtext(message.envid))] if message.envid else []
    fields.append(("Reporting-MTA", f"dns; {reporter}"))
    fields.append(("Arrival-Date", formatdate(message.received_at, localtime=True)))
    return _group(fields, utf8=False)


def about_recipient(line: ReportLine, kind: Kind, wall_at: Callable[[int], float], *, utf8: bool) -> str:
    """The group of fields about one recipient; ``wall_at`` tells the time of day at a spool time."""
    outcome = line.outcome
    fields = []
    if line.recipient.orcpt:
        fields.append(("Original-Recipient", _original(line.recipient.orcpt, utf8=utf8)))
    fields.append(("Final-Recipient", _typed(line.destination.address, utf8=utf8)))
    fields.append(("Action", kind.value))
    fields.append(("Status", status_of(line)))
    if outcome.remote:
        fields.append(("Remote-MTA", f"dns; {outcome.remote}"))
    if outcome.remote or not isinstance(outcome, Delivered):
        own = f"{_OUR_OWN_WORDS}; {outcome.reply.text or outcome.reply}"
        words = f"smtp; {outcome.reply}" if outcome.remote else own
        fields.append(("Diagnostic-Code", words))
    fields.append(("Last-Attempt-Date", formatdate(wall_at(line.at), localtime=True)))
    if kind is Kind.DELAYED:
        fields.append(("Will-Retry-Until", formatdate(wall_at(line.deadline), localtime=True)))
    return _group(fields, utf8=utf8)


def _group(fields: Iterable[tuple[str, str]], *, utf8: bool) -> str:
    return "".join(fold(name, value if utf8 else _ascii(value)) for name, value in fields)


def fold(name: str, value: str) -> str:
    """A header field, folded where there is a blank (RFC 5322 2.2.3); ``value`` may be anything."""
    rest = f"{name}: {printable(value)}"
    lines, start = [], len(name) + 2
    while len(rest) > FOLD_AT and (cut := _place_to_fold(rest, start)):
        lines.append(rest[:cut])
        rest, start = " " + rest[cut:].lstrip(" "), 1
    return "".join(line + "\r\n" for line in [*lines, rest])


def _place_to_fold(text: str, start: int) -> int:
    """Where to cut ``text``: at the last blank that fits, else at the next one; 0 for nowhere."""
    cut = text.rfind(" ", start, FOLD_AT + 1)
    if cut < 0:
        cut = text.find(" ", FOLD_AT)
    if 0 < cut <= FOLD_ANYWHERE:
        return cut
    return FOLD_ANYWHERE if len(text) > FOLD_ANYWHERE else 0


def _typed(address: Address, *, utf8: bool) -> str:
    if address.is_ascii:
        return f"rfc822; {address}"
    return f"utf-8; {address}" if utf8 else f"utf-8; {_utf8_xtext(str(address))}"


def _original(orcpt: str, *, utf8: bool) -> str:
    kind, _, text = orcpt.partition(";")
    if kind.lower() != "utf-8":
        return f"{kind}; {_decode_xtext(text)}"
    return f"{kind}; {_UNICODE_CHAR.sub(_character, text) if utf8 else text}"


def _decode_xtext(text: str) -> str:
    octets = _HEX_CHAR.sub(lambda match: bytes([int(match[1], 16)]), text.encode())
    return octets.decode(errors="replace")


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    is_one = number < 0x110000 and not 0xD800 <= number < 0xE000
    return chr(number) if is_one else match[0]


def _utf8_xtext(text: str) -> str:
    """RFC 6533 3: an address in a place where only ASCII is allowed."""
    return "".join(char if " " < char < "\x7f" and char not in "+=\\" else f"\\x{{{ord(char):02X}}}" for char in text)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
