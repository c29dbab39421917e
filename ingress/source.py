"""The message as ``sendmail`` is given it: any line ends, any octets, perhaps without end.

Guarantees: what comes out has no NUL and no CRLF: its lines end in LF. A bare CR stays, for it means different things
in a header and in a body. Reading holds one piece in memory, whatever the size of the message.

Failure: `BrokenSource`.

Imports nothing but ``os``: see `ingress.enqueue`.
"""

import os

#: Octets asked of the kernel at once: what a pipe holds.
PIECE = 64 * 1024


class BrokenSource(Exception):
    """The message cannot be read to its end."""


class Source:
    """Text from a descriptor. With ``dot_ends``, a line that is nothing but a dot is its end."""

    def __init__(self, descriptor: int, dot_ends: bool) -> None:
        self._descriptor = descriptor
        self._dot_ends = dot_ends
        #: Read already, but what it means depends on what follows: a CR, or a dot at the beginning of a line.
        self._held = b""
        self._at_line_start = True
        self._ended = False
        self._returned = b""

    def give_back(self, text: bytes) -> None:
        """Let the next `read` begin with ``text``, which an earlier one returned."""
        self._returned = text + self._returned

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        if self._returned:
            piece, self._returned = self._returned, b""
            return piece
        while not self._ended:
            raw = self._read_raw()
            piece = self._finish() if not raw else self._convert(self._held + raw.replace(b"\0", b""))
            if piece:
                return piece
        return b""

    def _read_raw(self) -> bytes:
        try:
            return os.read(self._descriptor, PIECE)
        except OSError as error:
            raise BrokenSource(f"cannot read the message: {error.strerror}") from None

    def _finish(self) -> bytes:
        self._ended = True
        return b"" if self._held == b"." else self._held

    def _convert(self, raw: bytes) -> bytes:
        held = b"\r" if raw.endswith(b"\r") else b""
        text = raw[: len(raw) - len(held)].replace(b"\r\n", b"\n")
        if self._dot_ends:
            end = self._find_dot(text)
            if end is not None:
                self._ended = True
                return text[:end]
            if text.endswith(b"\n.") or (text == b"." and self._at_line_start):
                text, held = text[:-1], b"." + held
        self._held = held
        if text:
            self._at_line_start = text.endswith(b"\n")
        return text

    def _find_dot(self, text: bytes) -> int | None:
        if self._at_line_start and text.startswith(b".\n"):
            return 0
        found = text.find(b"\n.\n")
        return None if found < 0 else found + 1
