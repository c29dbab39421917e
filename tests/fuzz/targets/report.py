"""Reports to senders, out of what strangers and their servers said: always what RFC 3464, 6522 and 6533 call a report.

An input is five texts, with 0xFF between them: an envelope id, an original recipient, an address, the words of a server,
and the header of the original. The first octet chooses the kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from delivery.bounce import header_of
from delivery.dsn import Original, compose
from delivery.replies import GarbledReply, ReplyReader
from ingress.headers import header_end
from ingress.parameters import BadParameter
from ingress.paths import BadPath, read_mail, read_rcpt
from spool.message import Destination, Message
from spool.outcome import Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply
from spool.report import ReportLine
from spool.state import Event, Kind
from tests.fuzz.target import require
from tests.tools.reported import ARRIVED, occasion
from tests.tools.rfc3464 import parse
from tests.tools.spooled import DAY

_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_BETWEEN: Final = b"\xff"
_KINDS: Final = (
    (Kind.FAILED, Event.FAILED, Failed), (Kind.DELAYED, Event.DEFERRED, Deferred),
    (Kind.RELAYED, Event.DELIVERED, Delivered),
    (Kind.DELIVERED, Event.DELIVERED, Delivered), (Kind.EXPANDED, Event.DELIVERED, Delivered),
    (Kind.FAILED, Event.EXPIRED, Deferred),
)  # fmt: skip
_SEEDS: Final = (
    (b"QQ314159", b"rfc822;Bob+40x", b"bob@example.org", b"550 5.1.1 no such user\r\n", b"Message-ID: <a@b>\r\n\r\n"),
    (b"a+2Bb", b"utf-8;\xc3\xa4\\x{E4}@x", "ä@ö.example".encode(), b"451-4.2.0 try\r\n451 4.2.0 x\r\n",
     b"X: \xc3\xa4\r\n\r\n"),
    (b"", b"", b"\"a b\"@c.example", b"250 " + b"long words " * 30 + b"\r\n", b"Subject: \r\n =?utf-8?Q?x?=\r\n"),
)  # fmt: skip


class Reports:
    """See the module."""

    def seeds(self) -> Iterable[bytes]:
        """Ordinary ones of each kind."""
        for texts in _SEEDS:
            yield from (bytes([number]) + _BETWEEN.join(texts) for number in range(2 * len(_KINDS)))

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        choice = (octets[:1] or b"\0")[0]
        kind, event, outcome = _KINDS[choice % len(_KINDS)]
        envid, orcpt, address, words, header = [*octets[1:].split(_BETWEEN), *[b""] * 5][:5]
        message = _message(envid, b"ann@example.com" if choice & 64 else address)
        line = _line(orcpt, address, event, _outcome(words, outcome))
        if message is None or line is None:
            return
        content = header_of(header)
        if _BARE.search(content) or header_end(content) != len(content):
            # None such is in a spool.
            return
        report = replace(occasion(kind, line), message=message, original=Original(content, is_whole=False))
        written = compose(report)
        try:
            parts = parse(written.content)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{written.content!r}") from error
        require(len(parts.recipients) == 1, "more recipients than one")
        require(written.content.count(b"\r\n") == written.content.count(b"\n"), "bare line ends")

    def close(self) -> None:
        """See `Target`."""


def make() -> Reports:
    """For `tests.fuzz.target.load`."""
    return Reports()


def _message(envid: bytes, sender: bytes) -> Message | None:
    """What a client may have said; None for what is refused."""
    given = b" ENVID=" + envid if envid else b""
    try:
        text = (b"FROM:<" + sender + b"> SMTPUTF8" + given).decode()
        address, parameters = read_mail(text, "here.example", dsn=True)
    except (UnicodeDecodeError, BadPath, BadParameter):
        return None
    if address.is_null:
        return None
    base = occasion().message
    return replace(base, return_path=address, envid=parameters.envid, body_kind=parameters.body_kind)


def _line(orcpt: bytes, address: bytes, event: Event, outcome: Outcome) -> ReportLine | None:
    given = b" ORCPT=" + orcpt if orcpt else b""
    try:
        recipient = read_rcpt((b"TO:<" + address + b">" + given).decode(), "here.example", dsn=True, smtputf8=True)
    except (UnicodeDecodeError, BadPath, BadParameter):
        return None
    return ReportLine(recipient, Destination(recipient.address), event, outcome, ARRIVED + 60_000, ARRIVED + 4 * DAY)


def _outcome(words: bytes, kind: type[Outcome]) -> Outcome:
    reader = ReplyReader()
    try:
        reader.feed(words)
        reply = reader.pop()
    except (GarbledReply, IndexError) as error:
        reply = Reply(451, "4.4.2", str(error))
    return kind(reply, "mx.example.org (192.0.2.1)", Stage.RCPT)
