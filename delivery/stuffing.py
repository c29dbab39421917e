"""The content of a message as DATA wants it: dots doubled at line beginnings, a lone dot at the end.

Guarantees: what comes out has no CR and no LF but in CRLF, and no line that is a lone dot but the last. So the next server
cannot read it differently from us, wherever the body came from.

Failure: `NotWireForm` for a body with a bare CR or LF; what came out before must then not be ended with a dot.

RFC 5321 4.5.2 (transparency), 2.3.8 (bare CR and LF).
"""

from __future__ import annotations

from typing import Final

#: The end of a message, after a CRLF.
FINAL_DOT: Final = b".\r\n"


class NotWireForm(Exception):
    """A CR or LF stands alone in this body."""


class DotStuffer:
    """Stuffs a body that comes in pieces. Feed all of them, then `end`."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """The next octets to send; a CR at the end waits for its LF."""
        piece = self._held + piece
        self._held = b""
        if piece.endswith(b"\r"):
            piece, self._held = piece[:-1], b"\r"
        if not piece:
            return b""
        pairs = piece.count(b"\r\n")
        if piece.count(b"\n") != pairs or piece.count(b"\r") != pairs:
            raise NotWireForm
        stuffed = piece.replace(b"\n.", b"\n..")
        if self._at_line_start and piece.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_line_start = piece.endswith(b"\n")
        return stuffed

    def end(self) -> bytes:
        """The last octets to send, the final dot among them."""
        if self._held:
            raise NotWireForm
        return FINAL_DOT if self._at_line_start else b"\r\n" + FINAL_DOT


def stuffed(body: bytes) -> bytes:
    """A whole small body with its final dot."""
    stuffer = DotStuffer()
    return stuffer.feed(body) + stuffer.end()
