"""A file of the drop as it is found, whole or not.

Guarantees: the pieces of a message come to an end without an exception only when the file was whole: its owner may still
write to it, but what was read is what its last line vouches for.

Failure: `Unfit` for what will never be a message, `Unfinished` for what is not one yet; `OSError` as the kernel says it.

`ingress.dropfile` describes the format and writes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self
from zlib import crc32

from ingress.dropdoor import Unfit
from ingress.dropfile import FIRST_LINE, LAST_LINE_LENGTH, MAX_FIRST_LINES, PIECE, last_line


class Unfinished(Exception):
    """This is not a whole message: it is being written, or whoever wrote it was stopped."""


class Dropped:
    """An open file of the drop. ``mail`` and ``rcpts`` are the arguments of its commands, as a client would send them."""

    def __init__(self, descriptor: int) -> None:
        """Takes over what `ingress.dropdoor.DropDoor.open` opened."""
        self._descriptor = descriptor
        try:
            found = os.fstat(self._descriptor)
            #: The owner, who wrote the message.
            self.uid = found.st_uid
            #: When it was last written to, by the wall clock.
            self.modified = found.st_mtime
            self._size = found.st_size - LAST_LINE_LENGTH
            self._start = 0
            self._last_line = os.pread(self._descriptor, LAST_LINE_LENGTH, max(self._size, 0))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing more is read."""
        os.close(self._descriptor)

    def read_commands(self) -> tuple[str, list[str]]:
        """The arguments of MAIL and of each RCPT. Raises `Unfinished` and `Unfit`."""
        if not self._last_line.startswith(b"end %020d " % max(self._size, 0)):
            raise Unfinished
        head, end, _ = os.pread(self._descriptor, min(MAX_FIRST_LINES, self._size), 0).partition(b"\n\n")
        if not head.startswith(FIRST_LINE) or not end:
            raise Unfit("it does not begin like a message")
        self._start = len(head) + len(end)
        try:
            first, *rest = head.decode().split("\n")[1:]
        except UnicodeDecodeError:
            raise Unfit("its commands are not UTF-8") from None
        if not first.startswith("MAIL ") or not rest or not all(line.startswith("RCPT ") for line in rest):
            raise Unfit("its commands are not those of a transaction")
        return first.removeprefix("MAIL "), [line.removeprefix("RCPT ") for line in rest]

    @property
    def octets(self) -> int:
        """Octets of the message; known after `read_commands`."""
        return self._size - self._start

    def pieces(self) -> Iterator[bytes]:
        """The message, after `read_commands`; no piece ends between CR and LF.

        Raises `Unfinished` at its end when it is not what was written.
        """
        checksum = crc32(os.pread(self._descriptor, self._start, 0))
        position, held = self._start, b""
        while position < self._size:
            raw = os.pread(self._descriptor, min(PIECE, self._size - position), position)
            if not raw:
                raise Unfinished
            position += len(raw)
            checksum = crc32(raw, checksum)
            piece = held + raw
            held = b"\r" if piece.endswith(b"\r") else b""
            yield piece[: len(piece) - len(held)]
        if last_line(self._size, checksum) != self._last_line:
            raise Unfinished
        if held:
            yield held

    def is_written(self) -> bool:
        """Whether the ``sendmail`` that made it still lives: it holds a lock until it ends."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
