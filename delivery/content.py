"""The content of a message as a local mailbox wants it: lines end in LF, and no line of an mbox looks like a separator.

Guarantees: `rd_quoted` can be undone: taking one ``>`` from every line that begins with one or more of them before
``From `` gives back the message (the mboxrd rule). So it holds for every line, not only for those after an empty one.

Failure: what iterating a body raises (`spool.errors.BodyDamaged`) passes through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spool.bodies import Body

#: Octets of a header section that are looked at for loops and marks; twice what the largest real ones have.
MAX_HEADER: Final = 256 * 1024
#: Octets of an unfinished line that decide whether it begins like a separator, however often that was quoted.
_LINE_START: Final = 1024

_SPAM = re.compile(rb"(?:\A|\n)x-spam(?:-flag)?: yes(?:\r|\Z)", re.IGNORECASE)
_SEPARATOR = re.compile(rb"^(?=>*From )", re.MULTILINE)


def unix_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """CRLF becomes LF, wherever the pieces are cut."""
    held = b""
    for piece in pieces:
        text = held + piece
        held = b"\r" if text.endswith(b"\r") else b""
        yield text[: len(text) - len(held)].replace(b"\r\n", b"\n")
    yield held


def rd_quoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A ``>`` before every line (ending in LF) that begins with ``From ``, quoted before or not."""
    held = b""
    at_line_start = True
    for piece in pieces:
        text = held + piece
        cut = text.rfind(b"\n") + 1
        if len(text) - cut > _LINE_START:
            cut = len(text)
        held = text[cut:]
        if cut:
            yield _quote(text[:cut], at_line_start)
            at_line_start = text.endswith(b"\n", 0, cut)
    yield _quote(held, at_line_start)


def _quote(text: bytes, at_line_start: bool) -> bytes:
    if b"From " not in text:
        return text
    if at_line_start:
        return _SEPARATOR.sub(b">", text)
    rest_of_line, end, lines = text.partition(b"\n")
    return rest_of_line + end + _SEPARATOR.sub(b">", lines)


def was_delivered_to(body: Body, address: str) -> bool:
    """Whether a ``Delivered-To`` header names the address, without regard to case."""
    wanted = address.casefold()
    for field in _header_fields(body):
        name, _, value = field.partition(b":")
        if name.strip().lower() == b"delivered-to":
            text = b" ".join(value.split()).decode("utf-8", "replace")
            if text.removeprefix("<").removesuffix(">").casefold() == wanted:
                return True
    return False


def is_marked_as_spam(body: Body) -> bool:
    """Whether a line of the header is ``X-Spam: yes`` or ``X-Spam-Flag: yes``, whole and without regard to case."""
    return _SPAM.search(_header_section(body)) is not None


def _header_fields(body: Body) -> Iterator[bytes]:
    """Each header field, folded lines joined (RFC 5322 2.2.3)."""
    section = _header_section(body)
    # Most mail has been delivered nowhere yet: one search spares taking its header apart.
    if b"delivered-to" in section.lower():
        yield from re.split(rb"\r\n(?![ \t])", section)


def _header_section(body: Body) -> bytes:
    section = b""
    for piece in body.chunks():
        section += piece
        if b"\r\n\r\n" in section or len(section) > MAX_HEADER:
            break
    return section.partition(b"\r\n\r\n")[0]
