"""Replies of a server, out of the octets it sends.

Guarantees: a `Reply` made here is whole (all lines of a multi-line reply, joined), printable and bounded; several replies
in one segment come out one by one. What is buffered is bounded, whatever the server sends.

Failure: `GarbledReply` for what is no SMTP reply; nothing sensible can follow it, so the connection must be given up.

RFC 5321 4.2 (replies), RFC 2034 (enhanced status codes).
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from spool.reply import Reply

#: Octets of one reply line. RFC 5321 4.5.3.1.5 allows 512; servers that quote long addresses exceed it.
MAX_LINE: Final = 4096
#: Lines of one reply. EHLO, the longest, has about 20.
MAX_LINES: Final = 128
#: Whole replies that may wait to be read: those to a full pipeline. More is a flood.
MAX_WAITING: Final = 256

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")


class GarbledReply(Exception):
    """What the server said is no SMTP reply."""


class ReplyReader:
    """Feed it octets, take replies."""

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[bytes] = []
        self._code = b""
        self._replies: deque[Reply] = deque()

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def is_midway(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._buffer or self._lines)

    def feed(self, octets: bytes) -> None:
        """Take in what came from the server."""
        *lines, self._buffer = (self._buffer + octets).split(b"\n")
        if len(self._buffer) > MAX_LINE:
            raise GarbledReply("a reply line without an end")
        for line in lines:
            self._take_line(line.removesuffix(b"\r"))

    def pop(self) -> Reply:
        """The oldest reply; `IndexError` when there is none."""
        return self._replies.popleft()

    def _take_line(self, line: bytes) -> None:
        match = _LINE.fullmatch(line)
        if match is None or len(line) > MAX_LINE or (self._lines and match[1] != self._code):
            raise GarbledReply(f"not a reply: {line[:80].decode('utf-8', 'replace')!r}")
        if len(self._lines) == MAX_LINES or len(self._replies) == MAX_WAITING:
            raise GarbledReply("a flood of replies")
        self._code = match[1]
        self._lines.append(match[3] or b"")
        if match[2] != b"-":
            self._replies.append(make_reply(int(self._code), [text.decode("utf-8", "replace") for text in self._lines]))
            self._lines = []


def make_reply(code: int, lines: list[str]) -> Reply:
    """A reply of these lines of text, the enhanced status taken out of them."""
    status = ""
    texts = []
    for line in lines:
        match = _STATUS.match(line)
        # RFC 2034 4: the class of the status is the first digit of the code; anything else is text.
        if match and int(match[1][0]) == code // 100:
            status = status or match[1]
            line = line[match.end() :]
        texts.append(line)
    return Reply(code, status, " ".join(texts))
