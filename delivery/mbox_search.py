"""Looks for a message of ours anywhere in an mbox, where a reader may have moved it by removing others, and marked it.

Guarantees: what counts as a copy begins with a separator and has all our lines in order and nothing else, up to the next
separator or the end. Differences that readers make are no differences: the separator's own text, the fields
in which they keep their marks, and the number of empty lines at the end. Memory does not grow with the mailbox.

Failure: `OSError` from reading. A message that a reader changed otherwise, or took away, is not found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat, zip_longest
from typing import Final

#: Fields in which readers of an mbox keep their marks (Dovecot, UW imapd, mutt, mail(1), Mozilla).
_MARKS: Final = frozenset(
    {
        b"content-length",
        b"lines",
        b"status",
        b"x-imap",
        b"x-imapbase",
        b"x-keywords",
        b"x-mozilla-keys",
        b"x-mozilla-status",
        b"x-mozilla-status2",
        b"x-status",
        b"x-uid",
    }
)
#: Octets read at a time.
_CHUNK: Final = 1024 * 1024
#: Octets of a line that are compared at a time: a mailbox may hold anything, also no line at all.
_MAX_LINE: Final = 64 * 1024
#: Octets before a header that may be its separator.
_MAX_SEPARATOR: Final = 2048


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message begins with a header: its separator, and the header itself."""

    separator: int
    header: int


def places(descriptor: int, header: bytes) -> Iterator[Place]:
    """Messages of the open mailbox that begin with ``header``."""
    for offset in _occurrences(descriptor, header):
        separator = _separator_before(descriptor, offset)
        if separator is not None:
            yield Place(separator, offset)


def is_copy(descriptor: int, place: Place, message: Iterable[bytes]) -> bool:
    """Whether what stands there is ``message``, which has no separator."""
    theirs = _essence(_lines(_read(descriptor, place.header)))
    return all(ours == found for ours, found in zip_longest(_essence(_lines(message)), theirs))


def _read(descriptor: int, offset: int) -> Iterator[bytes]:
    while piece := os.pread(descriptor, _CHUNK, offset):
        yield piece
        offset += len(piece)


def _occurrences(descriptor: int, wanted: bytes) -> Iterator[int]:
    """Where ``wanted`` stands in the file."""
    window = b""
    start = 0
    for piece in _read(descriptor, 0):
        window += piece
        place = window.find(wanted)
        while place >= 0:
            yield start + place
            place = window.find(wanted, place + 1)
        kept = min(len(window), len(wanted) - 1)
        start += len(window) - kept
        window = window[len(window) - kept :]


def _separator_before(descriptor: int, offset: int) -> int | None:
    first = max(0, offset - _MAX_SEPARATOR)
    before = os.pread(descriptor, offset - first, first)
    start = before.rfind(b"\n", 0, len(before) - 1) + 1
    is_separator = before.endswith(b"\n") and before.startswith(b"From ", start) and (start > 0 or first == 0)
    return first + start if is_separator else None


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their ends, long ones in parts of `_MAX_LINE`, however ``pieces`` are cut."""
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            yield from _parts(line + b"\n")
        while len(held) > _MAX_LINE:
            yield held[:_MAX_LINE]
            held = held[_MAX_LINE:]
    if held:
        yield held


def _parts(line: bytes) -> Iterator[bytes]:
    while len(line) > _MAX_LINE:
        yield line[:_MAX_LINE]
        line = line[_MAX_LINE:]
    yield line


def _essence(lines: Iterable[bytes]) -> Iterator[bytes]:
    """What of a message's lines is the sender's and ours, up to the next separator."""
    is_header = at_start = True
    is_mark = False
    empty = 0
    for line in lines:
        if at_start and line.startswith(b"From "):
            return
        if is_header and line != b"\n":
            if at_start and line[:1] not in (b" ", b"\t"):
                is_mark = line.partition(b":")[0].strip().lower() in _MARKS
            if not is_mark:
                yield line
        elif at_start and line == b"\n":
            is_header = False
            empty += 1
        else:
            yield from repeat(b"\n", empty)
            empty = 0
            yield line
        at_start = line.endswith(b"\n")
