"""What stands between DATA and the dot, received as it comes: octets in, content out, and a verdict.

The receiver takes from a buffer what is certainly part of the message and leaves in it the few octets that may be the
beginning of the end. It looks for the end by searching the buffer, not by reading lines, and it holds nothing itself, so a
message costs the same memory whatever its size.

Guarantees: nothing but CR LF . CR LF ends a message. The pieces it returns make up the content with its dots unstuffed,
however the network cut the stream; every line of it ends in CR LF, or a fault says otherwise. After a fault the rest is
read to its end and thrown away, so that what follows the message is never taken for commands.

Failure: `DataReceiver.fault` is the reply for a message that cannot be accepted, None while it can.

RFC 5321 4.1.1.4, 4.5.2 (transparency), 2.3.8 (lines), 4.5.3.1.6 (their length); RFC 6152 (octets above 127).
"""

from __future__ import annotations

from typing import Final

from ingress import replies
from ingress.limits import MAX_TEXT_LINE
from spool.reply import Reply

_LINE_END: Final = b"\r\n"
_END: Final = b"\r\n.\r\n"
#: A line that begins with a dot.
_DOT: Final = b"\r\n."
#: What may stand at the end of the buffer and be the beginning of the end, longest first.
_BEGINNINGS: Final = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))


class DataReceiver:
    """Receives one message of at most ``limit`` octets."""

    __slots__ = ("_begun", "_lead", "_limit", "_line", "eight_bit", "fault", "finished", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = False
        #: Octets at the front of the first piece that are ours.
        self._lead = len(_LINE_END)
        #: Octets of the line that the last piece ended in.
        self._line = 0
        #: Octets of content so far, those thrown away included.
        self.size = 0
        #: Whether an octet above 127 was seen.
        self.eight_bit = False
        #: Why the message cannot be accepted, or None.
        self.fault: Reply | None = None
        #: Whether the dot was seen.
        self.finished = False

    def feed(self, buffer: bytearray) -> bytes:
        """Take what belongs to the message off the front of ``buffer``; the content in it, empty after a fault.

        Call it with the same buffer, grown at its end, until `finished`; what is then left in it follows the message.
        """
        if not self._begun:
            # The message begins at the start of a line: with a line end before it, its first dot is like every other.
            buffer[:0] = _LINE_END
            self._begun = True
        # One search finds the end of most messages, and that no dot before it is to be unstuffed.
        dot = buffer.find(_DOT)
        end = dot if dot < 0 or buffer.startswith(_END, dot) else buffer.find(_END, dot)
        if end >= 0:
            self.finished = True
            piece = bytes(buffer[: end + len(_LINE_END)])
            del buffer[: end + len(_END)]
        else:
            keep = _overlap(buffer)
            piece = bytes(buffer[: len(buffer) - keep])
            del buffer[: len(piece)]
        return self._take(piece, has_dots=dot != end) if piece else b""

    def _take(self, piece: bytes, has_dots: bool) -> bytes:
        content = piece.replace(_DOT, _LINE_END) if has_dots else piece
        if self._lead:
            content = content[self._lead :]
            self._lead = 0
        self.size += len(content)
        if self.fault is None:
            self.fault = self._judge(piece, content)
        return b"" if self.fault else content

    def _judge(self, piece: bytes, content: bytes) -> Reply | None:
        if self.size > self._limit:
            return replies.TOO_BIG
        if _has_bare_cr_or_lf(piece):
            return replies.BARE_CR_OR_LF
        if b"\0" in piece:
            return replies.NUL_IN_MESSAGE
        if not self.eight_bit and not piece.isascii():
            self.eight_bit = True
        return replies.TEXT_LINE_TOO_LONG if self._has_long_line(content) else None

    def _has_long_line(self, content: bytes) -> bool:
        """From each line's start to the last line end within the limit: a jump of nearly the limit for one search."""
        start = -self._line
        while len(content) - start > MAX_TEXT_LINE:
            last = content.rfind(b"\n", max(start, 0), start + MAX_TEXT_LINE)
            if last < 0:
                return True
            start = last + 1
        last = content.rfind(b"\n")
        self._line = len(content) - 1 - last if last >= 0 else self._line + len(content)
        return False


def _has_bare_cr_or_lf(piece: bytes) -> bool:
    """Whether a CR or LF stands alone: each of them ends a line for Python, and so does CR LF.

    There are as many line ends as CRs, as LFs and as lines only where all are pairs. A piece never ends between the two.
    Counting the pairs themselves takes half as long again.
    """
    ends = piece.count(b"\n")
    lines = len(piece.splitlines()) - (piece[-1] not in _LINE_END)
    return not ends == lines == piece.count(b"\r")


def _overlap(buffer: bytearray) -> int:
    """How many octets at the end of ``buffer`` may belong to the end of the message."""
    for beginning in _BEGINNINGS:
        if buffer.endswith(beginning):
            return len(beginning)
    return 0
