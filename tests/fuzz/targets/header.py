"""Headers of strangers, and messages as programs give them to ``sendmail``: what we write of them is a header again, with
the same fields but for those that we mean to change.

The first octet of an input chooses: even, a message as it comes by SMTP; odd, as ``sendmail`` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ingress.addressing import masquerade, qualify
from ingress.compose import BadMessage, LineWatch, quoted_printable, read_header, wire_form
from ingress.headers import complete, header_end, hops, without_bcc
from ingress.mailboxes import BadAddress
from ingress.source import Source
from spool.ids import MessageId
from tests.fuzz.target import require

_HOST: Final = "mx.here.example"
_SENDER: Final = "login@here.example"
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
_ADDRESSED: Final = (b"from", b"to", b"cc")
_HEADERS: Final = (
    b"From: ann\r\nTo: bob, Carl <carl@d.example>\r\nBcc: eve\r\nSubject: x\r\n\r\nhello\r\n",
    b"Received: from a\r\n\tby b; now\r\nFrom : \"A, B\" <ann>, (c(\\)d)) g: x, y@z;\r\nTO:\r\n <@r:ann>\r\n\r\n",
    b"bcc :x\r\n y\r\nBcc: z\r\nto: a b <c>\r\nCc: [d], e@f, \"g\\\"h\"@i\r\nDate: now\r\nMessage-ID: <a@b>\r\n\r\n",
    b"no header at all\r\nX: y\r\n\r\n", b"\r\nbody\r\n",
    b"From: a\r\nthis is none\r\n", b"From: <>\r\nFrom: a,,b;\r\n\r\n", b"Content-Type: multipart/x\n\ny",
    b"From ann Mon\nTo: x\nSubject: y\rz\n\nbody\r\n.\n..\nlast", b"To: a\n\xff" + b"x" * 1100,
)  # fmt: skip


class Headers:
    """See the module."""

    def __init__(self) -> None:
        self._at = 0

    def seeds(self) -> Iterable[bytes]:
        """Headers with something of everything."""
        for octets in _HEADERS:
            yield b"\0" + octets
            yield b"\1" + octets
            yield b"\3" + octets

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        kind, content = (octets[:1] or b"\0")[0], octets[1:]
        if kind & 1:
            _submitted(content, dot_ends=bool(kind & 2))
        else:
            _received(content)

    def close(self) -> None:
        """See `Target`."""


def make() -> Headers:
    """For `tests.fuzz.target.load`."""
    return Headers()


def _received(content: bytes) -> None:
    if (
        content.count(b"\r\n") != content.count(b"\r")
        or content.count(b"\r") != content.count(b"\n")
        or b"\0" in content
    ):
        # None such comes from `DataReceiver`.
        return
    end = header_end(content)
    if not end:
        return
    fields = content[:end]
    before = list(_fields(fields))
    hops(fields)
    open_ = without_bcc(fields)
    require(_judged(open_) == [each for each in before if each[0] != b"bcc"], "without Bcc, other fields differ")
    qualified = qualify(open_, _HOST)
    _judge_changed(open_, qualified, _ADDRESSED)
    require(qualify(qualified, _HOST) == qualified, f"qualified twice: {qualified!r}")
    masked = masquerade(qualified, _SENDER)
    _judge_changed(qualified, masked, (b"from",))
    completed = complete(masked, MessageId("m" * 20), _HOST, 0.0)
    require(completed.startswith(masked), "completed in the wrong place")
    names = [name for name, _ in _judged(completed)]
    require(b"date" in names and b"message-id" in names, f"not complete: {names}")


def _judge_changed(before: bytes, after: bytes, named: tuple[bytes, ...]) -> None:
    """The fields are the same but for those that are ``named``, and they have the same names."""
    first, second = _judged(before), _judged(after)
    require([name for name, _ in first] == [name for name, _ in second], f"other fields: {before!r} {after!r}")
    for (name, value), (_, changed) in zip(first, second, strict=True):
        require(name in named or value == changed, f"{name!r} was changed")


def _judged(header: bytes) -> list[tuple[bytes, bytes]]:
    require(header_end(header) in (len(header), None if header else 0) or not header, f"no header any more: {header!r}")
    return list(_fields(header))


def _fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name in lower case, and the whole field; read line by line, as a reader of mail does."""
    name, lines = b"", list[bytes]()
    for line in header.splitlines(keepends=True):
        if line[:1] in b" \t" and lines:
            lines.append(line)
            continue
        if lines:
            yield name, b"".join(lines)
        match = _FIELD.match(line)
        require(match, f"no field: {line!r}")
        assert match is not None
        name, lines = match[1].lower(), [line]
    if lines:
        yield name, b"".join(lines)


class _Octets(Source):
    """A `Source` without a descriptor, which comes in pieces."""

    def __init__(self, octets: bytes, dot_ends: bool) -> None:
        super().__init__(-1, dot_ends)
        self._rest = octets

    def _read_raw(self) -> bytes:
        piece, self._rest = self._rest[:37], self._rest[37:]
        return piece


def _submitted(content: bytes, dot_ends: bool) -> None:
    source = _Octets(content, dot_ends)
    try:
        found = read_header(source)
        found.recipients()
    except (BadMessage, BadAddress) as error:
        require(str(error).isprintable(), f"not printable: {str(error)!r}")
        return
    found.author()
    if not found.has(b"from"):
        found.add_author(b"ann@here.example", content[:40].decode("utf-8", "replace"))
    found.add_addressee()
    found.add_date(0.0)
    watch, pieces = LineWatch(), []
    for piece in wire_form(source):
        watch.see(piece)
        pieces.append(piece)
    if watch.longest > 998 and found.can_be_encoded():
        found.add_encoding()
        pieces = list(quoted_printable(pieces))
        require(max(map(len, b"".join(pieces).split(b"\r\n"))) <= 76, "an encoded line is too long")
    header, body = found.encode(), b"".join(pieces)
    message = header + body
    require(b"\0" not in message, "a NUL")
    require(message.count(b"\r\n") == message.count(b"\r") == message.count(b"\n"), f"bare: {message!r}")
    require(message.endswith(b"\r\n"), f"the last line has no end: {message!r}")
    require(header_end(header) == len(header) - 2, f"not a header: {header!r}")
    names = [name for name, _ in _fields(header[:-2])]
    require(b"bcc" not in names and b"from" in names, f"the wrong fields: {names}")
