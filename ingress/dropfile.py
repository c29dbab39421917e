"""The file in which ``sendmail`` leaves a message while the daemon cannot take it: an SMTP transaction, written down.

::

    mailspool drop 1
    MAIL FROM:<ann@example.org> RET=HDRS
    RCPT TO:<bob@example.org> NOTIFY=FAILURE
                                                 an empty line
    the message in wire form: lines end in CRLF, no dot-stuffing
    end 00000000000000000437 1c291ca3            everything before this line: its octets, and their CRC-32

All lines but those of the message end in LF. The file has its final name, 24 random hexadecimal digits, from the
first octet; the last line, which is written last, makes it whole. The owner of the file is who wrote the message.

Guarantees: when `DropFile.finish` returns, the file is on disk, name and all: ext4, XFS and btrfs carry the name of a
new file with its fsync, and a directory that its users cannot read cannot be fsynced by them. Nothing is left behind
by a write that fails or by `DropFile.abandon`; what a killed process leaves behind is not whole.

Failure: `OSError`.

Imports little: see `ingress.enqueue`.
"""

import os
from fcntl import LOCK_EX, flock
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_LINE = b"mailspool drop 1\n"
#: Characters of a name: 96 random bits, as no user can look which names are taken.
NAME_LENGTH = 24
NAME_DIGITS = frozenset("0123456789abcdef")
#: Octets of everything before the message: some 50,000 recipients, which either end can hold in memory.
MAX_FIRST_LINES = 2 * 1024 * 1024
#: Octets read at a time.
PIECE = 64 * 1024
#: Octets of a body that ``sendmail`` holds in memory.
MAX_MEMORY = 512 * 1024


def last_line(octets: int, checksum: int) -> bytes:
    """The line that makes a file whole."""
    return b"end %020d %08x\n" % (octets, checksum)


LAST_LINE_LENGTH = len(last_line(0, 0))


def first_lines(mail: bytes, recipients: list[bytes]) -> bytes:
    """Everything before the message, from the commands of a transaction without their CRLF."""
    return FIRST_LINE + b"".join(command + b"\n" for command in [mail, *recipients]) + b"\n"


class DropFile:
    """A file of the drop while it is written. ``start`` is everything before the body of the message."""

    __slots__ = ("_checksum", "_descriptor", "_octets", "_path", "_start")

    def __init__(self, directory: str, start: bytes) -> None:
        self._path = directory + "/" + os.urandom(NAME_LENGTH // 2).hex()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._octets = 0
        self._checksum = 0
        self._start = len(start)
        try:
            # Held until this process ends: whoever finds the file unfinished can see that it still grows.
            flock(self._descriptor, LOCK_EX)
            self.write(start)
        except OSError:
            self.abandon()
            raise

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        try:
            self._write(data)
        except OSError:
            self.abandon()
            raise
        self._octets += len(data)
        self._checksum = crc32(data, self._checksum)

    def pieces(self) -> "Iterator[bytes]":
        """The body as far as it was written; no piece ends between CR and LF."""
        position, held = self._start, b""
        while raw := os.pread(self._descriptor, PIECE, position):
            position += len(raw)
            piece = held + raw
            held = b"\r" if piece.endswith(b"\r") else b""
            yield piece[: len(piece) - len(held)]
        yield held

    def finish(self) -> None:
        """Make the file whole and durable."""
        try:
            self._write(last_line(self._octets, self._checksum))
            os.fsync(self._descriptor)
        except OSError:
            self.abandon()
            raise
        os.close(self._descriptor)
        self._descriptor = -1

    def abandon(self) -> None:
        """The file is gone; a second time does nothing."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        try:  # noqa: SIM105 - contextlib costs a start 4 ms
            os.unlink(self._path)
        except OSError:
            pass  # it is not whole, so nobody will take it for a message

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class Draft:
    """The body of a message on its way out: in memory while it is small, in a file of the drop when it is not.

    The file stays unfinished as long as the daemon may still take the message by another way. ``start`` is what stands
    before the body in such a file.
    """

    __slots__ = ("_directory", "_file", "_memory", "_start", "octets")

    def __init__(self, directory: str, start: bytes) -> None:
        self._directory = directory
        self._start = start
        self._memory: list[bytes] = []
        self._file: DropFile | None = None
        #: Of the body.
        self.octets = 0

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self.octets += len(data)
        if self._file is None and self.octets <= MAX_MEMORY:
            self._memory.append(data)
        else:
            self._spilled().write(data)

    def _spilled(self) -> DropFile:
        if self._file is None:
            self._file = DropFile(self._directory, self._start)
            for piece in self._memory:
                self._file.write(piece)
            self._memory.clear()
        return self._file

    def pieces(self) -> "Iterator[bytes]":
        """The body from its beginning; no piece ends between CR and LF."""
        return iter(self._memory) if self._file is None else self._file.pieces()

    def keep(self) -> None:
        """Leave the message in the drop, whole and durable."""
        self._spilled().finish()

    def discard(self) -> None:
        """Somebody else has the message, or nobody shall."""
        if self._file is not None:
            self._file.abandon()
