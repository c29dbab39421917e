"""Looks for a message of ours anywhere in an mbox, where a reader may have moved it by removing others, and marked it.

Guarantees: what counts as a copy begins with a separator and has all our lines in order and nothing else, up to the next
separator or the end. Differences that readers make are no differences: the separator's own text, the fields
in which they keep their marks, and the number of empty lines at the end. Memory does not grow with the mailbox.

Failure: `OSError` from reading. A message that a reader changed otherwise, or took away, is not found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator
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
#: How a Received field of ours tells a message's id.
_TRACE: Final = re.compile(rb" id ([0-9a-v]{20})(?![0-9a-v])")
#: Octets that decide whether there is one.
_TRACE_OCTETS: Final = 25
#: Octets between the beginning of our header and the id: names in it are shorter.
_MAX_BEFORE: Final = 16 * 1024
#: Octets before a header that may be its separator.
_MAX_SEPARATOR: Final = 2048


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands: its separator, and its header."""

    separator: int
    header: int


def traces(descriptor: int, wanted: Container[bytes]) -> Iterator[tuple[bytes, int]]:
    """Ids of ours, as a Received field tells them, and where they stand in the open mailbox. It is read once for all."""
    window = b""
    start = 0
    for piece in _read(descriptor, 0):
        window += piece
        for match in _TRACE.finditer(window):
            if match[1] in wanted:
                yield match[1], start + match.start(1)
        # What is cut at the end is whole in the next window.
        kept = min(len(window), _TRACE_OCTETS - 1)
        start += len(window) - kept
        window = window[len(window) - kept :]


def place_of(descriptor: int, header: bytes, trace: int) -> Place | None:
    """The message that begins with ``header`` and has that trace in it."""
    first = max(0, trace - _MAX_BEFORE)
    before = os.pread(descriptor, trace - first, first)
    offset = before.rfind(header)
    if offset < 0:
        return None
    separator = _separator_before(descriptor, first + offset)
    return None if separator is None else Place(separator, first + offset)


def is_copy(descriptor: int, place: Place, message: Iterable[bytes]) -> bool:
    """Whether what stands there is ``message``, which has no separator."""
    theirs = _essence(_lines(_read(descriptor, place.header)))
    return all(ours == found for ours, found in zip_longest(_essence(_lines(message)), theirs))


def _read(descriptor: int, offset: int) -> Iterator[bytes]:
    while piece := os.pread(descriptor, _CHUNK, offset):
        yield piece
        offset += len(piece)


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
