"""The addresses in From, To and Cc, completed or replaced where they stand; not another octet of the field changes.

Programs on a machine write ``To: root`` and mean a user of it: outside the machine only ``root@HOST`` means that. Names,
comments, groups, quotes and line breaks stay as they are. What is no list of addresses is not completed, and neither is
anything beyond `MAX_OCTETS`: a reader of mail will make of it what he can. For the same reason it is not left to a client
whose From is to be replaced: there the sender takes the place of all of it.

Guarantees: a field remains one field. No address of a client's own is left in From when it is replaced, but in a name,
a comment or quotes. Time is linear in the size of the header.

RFC 5322 3.4 (lists of addresses), 3.2.2 (comments), 3.2.4 (quotes); RFC 6409 8.1 (completing addresses).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

#: Octets of all these fields together that are looked at: a thousand recipients with long names.
MAX_OCTETS: Final = 64 * 1024

_FIELD = re.compile(rb"^(from|to|cc)([ \t]*+:)([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)", re.IGNORECASE | re.MULTILINE)
_TOKEN = re.compile(
    rb'(?P<blank>[ \t\r\n]++)|(?P<word>"(?:[^"\\]|\\.)*+"|\[(?:[^\[\]\\]|\\.)*+\])|(?P<mark>[<>,;:(])'
    rb'|(?P<atom>[^ \t\r\n"\[\]<>,;:()\\]++)',
    re.DOTALL,
)
_IN_COMMENT = re.compile(rb"[^()\\]++|\\.|[()]", re.DOTALL)
#: Nothing but names and addresses, so that counting tells whether each has its domain.
_INTRICATE: Final = re.compile(rb'["(:;\[\\]')


class Spot(NamedTuple):
    """Where an address stands in a field."""

    start: int
    end: int
    #: Whether it has a domain.
    is_qualified: bool


class _NoList(Exception):
    """The text is no list of addresses."""


def qualify(header: bytes, host: str) -> bytes:
    """``header`` with the domain ``host`` behind every address of From, To and Cc that has none."""

    def completed(spot: Spot, address: bytes) -> bytes:
        return address if spot.is_qualified else address + b"@" + host.encode()

    left = MAX_OCTETS

    def field(match: re.Match[bytes]) -> bytes:
        nonlocal left
        value = match[3]
        left -= len(value)
        if left < 0 or _is_complete(value):
            return match[0]
        return match[1] + match[2] + _rewritten(value, spots(value), completed)

    return _FIELD.sub(field, header)


def masquerade(header: bytes, sender: str) -> bytes:
    """``header`` with ``sender`` in place of every address of From."""
    new, left = sender.encode(), MAX_OCTETS

    def field(match: re.Match[bytes]) -> bytes:
        nonlocal left
        if match[1].lower() != b"from":
            return match[0]
        left -= len(match[3])
        found = spots(match[3]) if left >= 0 else []
        value = _rewritten(match[3], found, lambda _spot, _address: new) if found else b" " + new
        return match[1] + match[2] + value

    return _FIELD.sub(field, header)


def spots(value: bytes) -> list[Spot]:
    """Where the addresses of a field stand; none when it is no list of addresses."""
    try:
        return list(_Scanner(value).addresses())
    except _NoList:
        return []


def _is_complete(value: bytes) -> bool:
    """Whether every address certainly has a domain; says so of nearly all fields without reading them octet by octet."""
    return value.count(b"@") == value.count(b",") + 1 and not _INTRICATE.search(value)


def _rewritten(value: bytes, found: Iterable[Spot], change: Callable[[Spot, bytes], bytes]) -> bytes:
    pieces, last = [], 0
    for spot in found:
        pieces += [value[last : spot.start], change(spot, value[spot.start : spot.end])]
        last = spot.end
    return b"".join([*pieces, value[last:]])


class _Scanner:
    """One pass over a list of addresses."""

    __slots__ = ("_angle", "_in_angle", "_text", "_words")

    def __init__(self, text: bytes) -> None:
        self._text = text
        #: Start and end of the words outside angle brackets: a name, or the address itself.
        self._words: list[tuple[int, int]] = []
        #: Those inside; None when there are no brackets.
        self._angle: list[tuple[int, int]] | None = None
        self._in_angle = False

    def addresses(self) -> Iterator[Spot]:
        position = 0
        while position < len(self._text):
            token = _TOKEN.match(self._text, position)
            if token is None:
                raise _NoList
            position = token.end()
            match token.lastgroup, token[0]:
                case "blank", _:
                    pass
                case "mark", b"(":
                    position = self._end_of_comment(position)
                case "mark", mark:
                    yield from self._mark(mark, token.span())
                case _:
                    (self._angle if self._in_angle and self._angle is not None else self._words).append(token.span())
        if self._in_angle:
            raise _NoList
        yield from self._finish()

    def _mark(self, mark: bytes, span: tuple[int, int]) -> Iterator[Spot]:
        if self._in_angle:
            if mark == b">":
                self._in_angle = False
            elif mark in b",:" and self._angle is not None:
                self._angle.append(span)  # the route of a time long gone
            else:
                raise _NoList
        elif mark == b"<" and self._angle is None:
            self._angle, self._in_angle = [], True
        elif mark == b":" and self._angle is None:
            self._words.clear()  # it was the name of a group
        elif mark in b",;":
            yield from self._finish()
        else:
            raise _NoList

    def _finish(self) -> Iterator[Spot]:
        words = self._words if self._angle is None else self._angle
        if self._angle is not None and not words:
            raise _NoList  # a name without an address, or an address that poses as one
        if words:
            start, end = words[0][0], words[-1][1]
            is_qualified = any(b"@" in self._text[first:last] for first, last in words if self._text[first] != ord('"'))
            if is_qualified or end - start == sum(last - first for first, last in words):
                yield Spot(start, end, is_qualified)
        self._words, self._angle = [], None

    def _end_of_comment(self, position: int) -> int:
        depth = 1
        while depth:
            token = _IN_COMMENT.match(self._text, position)
            if token is None:
                raise _NoList
            depth += {b"(": 1, b")": -1}.get(token[0], 0)
            position = token.end()
        return position
