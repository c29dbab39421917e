"""The few things we ask of a file system, behind a seam through which tests make them fail.

Guarantees: a file is created exclusively and never through a symbolic link; what `Ops.write` returned from is in the page
cache to its last octet; what `Ops.fsync` and `Ops.fsync_directory` returned from is on disk.

Failure: `OSError`, as the kernel says it. A failed fsync must never be repeated: the kernel has forgotten the pages.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Space:
    """What a file system has left for us, and how large it is; octets."""

    free: int
    total: int
    #: Files that can still be made, or None where inodes are made as they are needed (btrfs).
    free_files: int | None


class Ops(Protocol):
    """Everything the spool does to files, and the instants at which it can be stopped."""

    def create(self, path: str) -> int:
        """A descriptor to write to a new file, readable by its owner alone; `FileExistsError` when there is one."""

    def open(self, path: str) -> int:
        """A descriptor to read from a file that is no symbolic link."""

    def write(self, descriptor: int, data: bytes) -> None:
        """All of ``data``."""

    def allocate(self, descriptor: int, octets: int) -> None:
        """Have the file system keep that much room for an open file."""

    def fsync(self, descriptor: int) -> None:
        """Data and metadata of an open file."""

    def fsync_directory(self, path: str) -> None:
        """The names in a directory."""

    def rename(self, source: str, target: str) -> None:
        """Within one file system; replaces ``target``."""

    def unlink(self, path: str) -> None:
        """The name is gone; the octets with the last descriptor."""

    def space(self, path: str) -> Space:
        """What is left of the file system that holds ``path``."""

    def commit(self, connection: sqlite3.Connection) -> None:
        """End the open transaction, its fsync included."""

    def reached(self, point: str) -> None:
        """The spool stands at the instant that ``docs/durability.md`` calls ``point``. Does nothing but in a crash test."""


class SystemOps:
    """The kernel's own."""

    def create(self, path: str) -> int:
        """``O_EXCL``, mode 0600."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def open(self, path: str) -> int:
        """``O_RDONLY``."""
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes) -> None:
        """Until nothing is left: a signal or a full disk may cut one write(2) short."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def allocate(self, descriptor: int, octets: int) -> None:
        """posix_fallocate(3)."""
        os.posix_fallocate(descriptor, 0, octets)

    def fsync(self, descriptor: int) -> None:
        """fsync(2)."""
        os.fsync(descriptor)

    def fsync_directory(self, path: str) -> None:
        """Opens it for that."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: str, target: str) -> None:
        """rename(2)."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        os.unlink(path)

    def space(self, path: str) -> Space:
        """statvfs(3): what is left for an ordinary user."""
        found = os.statvfs(path)
        return Space(
            found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail if found.f_files else None
        )

    def commit(self, connection: sqlite3.Connection) -> None:
        """COMMIT."""
        connection.execute("COMMIT")

    def reached(self, point: str) -> None:
        """Nothing happens."""
