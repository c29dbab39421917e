"""Bodies of messages: small ones travel with their row, large ones lie in a file of their own.

A large body is written under its final name, ``msg/HH/MESSAGE-ID``, in one of `FAN_OUT` directories made and fsynced
with the spool. A row of the database makes it a message; a file without a row is an orphan. Both kinds may be
sealed (`spool.seal`): a body's row says how, and its size and checksum are those of what was accepted.

Guarantees: whoever reads a body to its end without an exception has read what was accepted, octet for octet. What
`BodyFiles.publish` returned from is on disk, name and all.

Failure: `spool.errors.BodyDamaged` when a body is short, missing or altered; it comes at the latest with the last octet,
so a delivery must not make the end of the message visible before the iteration has ended. `spool.errors.SpoolFull` and
`SpoolUnavailable` while a body is written: nothing of it is kept. `spool.errors.SpoolLost` when a file cannot be fsynced.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import io
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from spool.errors import BodyDamaged, SpoolLost, SpoolUnavailable, blame
from spool.files import Ops
from spool.ids import MessageId
from spool.instants import Instant
from spool.seal import OPEN, Opening, Readable, Seal, Sealer, Sealing, seal_whole

_log: Final = logging.getLogger(__name__)

#: Octets up to which a body travels in the database, in the same transaction as its message: one fsync pays for all.
#: Measured (docs/performance.md); a session holds so much of a message in memory at most.
SMALL_BODY: Final = 128 * 1024
#: Octets read or kept in memory of a large body at a time.
CHUNK: Final = 64 * 1024
#: Octets of a checksum: damage is found, nobody is kept from forging.
CHECKSUM_SIZE: Final = 16
#: Directories that large bodies are spread over: a million of them, at least 64 GB, are 16,000 files each.
FAN_OUT: Final = 64


class Body(Protocol):
    """A body as delivery sees it, in wire form: lines end in CRLF, no dot-stuffing."""

    @property
    def size(self) -> int:
        """Octets."""

    def chunks(self) -> Iterator[bytes]:
        """The octets from the beginning, a piece at a time; raises `BodyDamaged`. May be called again."""

    def read(self) -> bytes:
        """The whole of it, for bodies known to be small; raises `BodyDamaged`."""


def checksum(content: bytes) -> bytes:
    """The checksum that is kept beside a body."""
    return hashlib.blake2b(content, digest_size=CHECKSUM_SIZE).digest()


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A large body that is in its file, written but not yet promised to be durable: the commit sees to that."""

    name: str
    size: int
    checksum: bytes
    seal: Seal = OPEN


@dataclass(frozen=True, slots=True)
class SmallBody:
    """A body from the database; whoever made this has compared its checksum."""

    content: bytes

    @property
    def size(self) -> int:
        """Octets."""
        return len(self.content)

    def chunks(self) -> Iterator[bytes]:
        """All of it, in one piece."""
        yield self.content

    def read(self) -> bytes:
        """All of it."""
        return self.content


@dataclass(frozen=True, slots=True)
class UnreadableBody:
    """A body that is known to be damaged before it is read: only a report about its message goes without it."""

    size: int
    reason: str

    def chunks(self) -> Iterator[bytes]:
        """Raises `BodyDamaged`."""
        raise BodyDamaged(self.reason)

    def read(self) -> bytes:
        """The same."""
        raise BodyDamaged(self.reason)


@dataclass(frozen=True, slots=True)
class LargeBody:
    """A body in a file. The file stays open while it is read, so that nothing can take it away in between."""

    path: str
    size: int
    checksum: bytes
    ops: Ops
    #: What opens it; None when it lies open.
    opening: Opening | None = None

    def chunks(self) -> Iterator[bytes]:
        """Pieces of `CHUNK` octets; raises `BodyDamaged` before the last one is out of our hands."""
        try:
            descriptor = self.ops.open(self.path)
        except OSError as error:
            raise BodyDamaged(f"{self.path}: {error.strerror}") from error
        try:
            yield from self._checked(descriptor)
        except OSError as error:
            raise BodyDamaged(f"{self.path}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _checked(self, descriptor: int) -> Iterator[bytes]:
        source = _File(descriptor)
        try:
            if self.opening is None:
                _require_size(os.fstat(descriptor).st_size, self.size)
            yield from _checked(source, self.opening, self.size, self.checksum)
        except BodyDamaged as error:
            raise BodyDamaged(f"{self.path}: {error}") from error

    def read(self) -> bytes:
        """The whole of it, in memory."""
        return b"".join(self.chunks())


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int

    def read(self, octets: int, /) -> bytes:
        return os.read(self.descriptor, octets)


def _require_size(found: int, accepted: int) -> None:
    if found != accepted:
        raise BodyDamaged(f"{found} octets where {accepted} were accepted")


def _checked(source: Readable, opening: Opening | None, size: int, digest: bytes) -> Iterator[bytes]:
    """The ``size`` octets of a body; the last ones only when all of them are those that were accepted."""
    opened = opening.opened(source) if opening else None
    reader = opened or source
    running = hashlib.blake2b(digest_size=CHECKSUM_SIZE)
    left = size
    while left:
        piece = reader.read(min(CHUNK, left))
        left -= len(piece)
        running.update(piece)
        if not left and opened:
            opened.end()
        if not piece or (not left and not hmac.compare_digest(running.digest(), digest)):
            raise BodyDamaged("its octets are not those that were accepted")
        yield piece


def open_small(content: bytes, opening: Opening | None, size: int, digest: bytes) -> SmallBody:
    """The body that lies in the database as ``content``; raises `BodyDamaged`."""
    if opening is not None:
        return SmallBody(b"".join(_checked(io.BytesIO(content), opening, size, digest)))
    if len(content) != size or checksum(content) != digest:
        raise BodyDamaged("it is not what was accepted")
    return SmallBody(content)


class Sheet(Protocol):
    """The file that a `BodyWriter` writes to."""

    def write(self, data: bytes) -> None:
        """Append ``data``. Raises `OSError`."""

    def finish(self) -> None:
        """It is written."""

    def discard(self) -> None:
        """Nothing of it is kept, unless a commit answers for it already."""


@dataclass(frozen=True, slots=True)
class OwnSheet:
    """A file of this process's own spool."""

    files: BodyFiles
    name: MessageId
    descriptor: int

    def write(self, data: bytes) -> None:
        """See `Sheet`."""
        self.files.ops.write(self.descriptor, data)

    def finish(self) -> None:
        """See `Sheet`. The descriptor is kept for the fsync."""

    def discard(self) -> None:
        """See `Sheet`."""
        if not self.files.is_handed_over(self.name):
            self.files.discard(self.name)


class BodyWriter:
    """A large body on its way into its file; holds a few `CHUNK` octets in memory whatever its size.

    Ends with `finish` or with `abandon`; both close it.
    """

    def __init__(self, name: MessageId, sealer: Sealer, sheet: Sheet) -> None:
        self._name = name
        self._size = 0
        self._checksum = hashlib.blake2b(digest_size=CHECKSUM_SIZE)
        self._waiting: list[bytes] = []
        self._waiting_octets = 0
        self._sealer = sealer
        self._sheet = sheet

    def write(self, data: bytes) -> None:
        """Append ``data``; raises `SpoolFull` or `SpoolUnavailable`, after which only `abandon` is left."""
        self._size += len(data)
        self._checksum.update(data)
        self._waiting.append(data)
        self._waiting_octets += len(data)
        if self._waiting_octets >= CHUNK:
            self._put(self._sealer.update(self._take()))

    def finish(self) -> StoredBody:
        """What `accept` wants; nothing is durable before that."""
        sealed = self._sealer.update(self._take())
        self._put(sealed + self._sealer.finish())
        self._sheet.finish()
        return StoredBody(self._name, self._size, self._checksum.digest(), self._sealer.seal)

    def abandon(self) -> None:
        """Nothing of it is kept; harmless once it was abandoned, or handed to `accept`, which then answers for it."""
        self._sheet.discard()

    def _take(self) -> bytes:
        waiting = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_octets = 0
        return waiting

    def _put(self, data: bytes) -> None:
        try:
            self._sheet.write(data)
        except OSError as error:
            raise blame(error) from error


class BodyFiles:
    """The directories of large bodies, and the descriptors of those that no commit has named yet."""

    def __init__(self, spool_dir: str, ops: Ops) -> None:
        self.ops = ops
        #: Where files go that no row names.
        self.orphan_dir = f"{spool_dir}/orphan"
        #: How new bodies are sealed, and what opens them; exchanged as a whole when the configuration changes.
        self.sealing = Sealing()
        self._root = f"{spool_dir}/msg"
        #: Bodies that no commit has named yet; -1 until they have a descriptor.
        self._open: dict[str, int] = {}
        self._handed_over: set[str] = set()

    def prepare(self) -> None:
        """Make the directories where there are none; their names are durable afterwards."""
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        for directory in self.directories():
            os.makedirs(directory, mode=0o700, exist_ok=True)
        self.ops.fsync_directory(self._root)

    def orphans(self) -> int:
        """How many files were set aside because no row names them."""
        return len(os.listdir(self.orphan_dir)) if os.path.isdir(self.orphan_dir) else 0

    def path(self, name: str) -> str:
        """Where the body of that name lies."""
        return f"{self.directory(name)}/{name}"

    def directory(self, name: str) -> str:
        """The directory for that name."""
        return f"{self._root}/{zlib.crc32(name.encode()) % FAN_OUT:02x}"

    def directories(self) -> list[str]:
        """All of them."""
        return [f"{self._root}/{number:02x}" for number in range(FAN_OUT)]

    def create(self, name: str) -> int:
        """A descriptor to write to; raises `SpoolFull` or `SpoolUnavailable`."""
        # Known before it is there: the sweep must never take it for an orphan.
        if self._open.setdefault(name, -1) >= 0:
            raise SpoolUnavailable(errno.EEXIST, f"body {name} is being written already")
        try:
            descriptor = self._open[name] = self.ops.create(self.path(name))
        except OSError as error:
            del self._open[name]
            raise blame(error) from error
        self.ops.reached(Instant.BODY_CREATED)
        return descriptor

    def writer(self, name: MessageId) -> BodyWriter:
        """A large body that begins; raises `SpoolFull` or `SpoolUnavailable`."""
        sealer = self.sealing.begin(name)
        return BodyWriter(name, sealer, OwnSheet(self, name, self.create(name)))

    def is_unpublished(self, name: str) -> bool:
        """Whether a session of ours still writes it, or waits for its commit."""
        return name in self._open

    def hand_over(self, name: str) -> None:
        """A commit is going to name this body: whoever wrote it can no longer take it back.

        Raises `ValueError` for a body that is not ours, or was abandoned.
        """
        if name not in self._open:
            raise ValueError(f"no body {name} was written here")
        self._handed_over.add(name)

    def is_handed_over(self, name: str) -> bool:
        """Whether its fate lies with a commit."""
        return name in self._handed_over

    def publish(self, names: Sequence[str]) -> None:
        """Make these bodies durable, each file once and each of their directories once; raises `SpoolLost`."""
        if not names:
            return
        try:
            for name in names:
                self.ops.fsync(self._open[name])
            self.ops.reached(Instant.BODIES_SYNCED)
            for directory in sorted({self.directory(name) for name in names}):
                self.ops.fsync_directory(directory)
        except OSError as error:
            raise SpoolLost(f"a body could not be made durable: {error.strerror}") from error
        self.ops.reached(Instant.BODIES_PUBLISHED)

    def settle(self, name: str) -> None:
        """A commit has named this body: we are done with its descriptor."""
        self._handed_over.discard(name)
        os.close(self._open.pop(name))

    def discard(self, name: str) -> None:
        """Take a body away again that no commit has named; does nothing when it is none of ours."""
        self._handed_over.discard(name)
        if name in self._open:
            self.remove(name)
            os.close(self._open.pop(name))

    def remove(self, name: str) -> None:
        """Unlink a body that no row names any more; what cannot be unlinked becomes an orphan for the next sweep."""
        self.ops.reached(Instant.BEFORE_UNLINK)
        try:
            self.ops.unlink(self.path(name))
        except OSError as error:
            _log.warning("a body could not be unlinked", extra={"body": name, "reason": str(error)})

    def seal_small(self, name: str, content: bytes) -> tuple[Seal, bytes]:
        """What lies in the database for a small body, and how it is sealed."""
        return seal_whole(self.sealing, name, content)

    def large(self, name: str, size: int, digest: bytes, opening: Opening | None = None) -> LargeBody:
        """The body in the file of that name; raises `BodyDamaged` when it is missing, or has another size and is open."""
        path = self.path(name)
        try:
            found = os.stat(path, follow_symlinks=False).st_size
        except OSError as error:
            raise BodyDamaged(f"{path}: {error.strerror}") from error
        if opening is None and found != size:
            raise BodyDamaged(f"{path}: {found} octets where {size} were accepted")
        return LargeBody(path, size, digest, self.ops, opening)
