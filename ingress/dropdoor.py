"""The drop directory itself: what is in it, opened with care, taken away, set aside.

Anybody on the machine can put anything under any name into it, so this is all that is ever done to it. `DropFolder` does it
in the process that has the right to; ingress may be another one, which asks for it (`DropDoor`).

Guarantees: opening waits for nothing, follows nothing, and has no effect on what is opened. Nothing is thrown away but what
`DropDoor.unlink` is asked to.

Failure: `Unfit` for what will never be a message; `OSError` as the kernel says it. Every method may block, so they are for a
thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, Self

from ingress.dropfile import NAME_DIGITS, NAME_LENGTH
from spool.layout import Layout

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: What opening answers for a symbolic link, a socket, and a device without a driver.
_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV})
#: Everybody may put a file there and take back his own; nobody but the daemon sees what there is.
DROP_MODE: Final = 0o1733


class Unfit(Exception):
    """This will never be a message; the text says why."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that was set aside: its owner, and where it is now."""

    uid: int
    path: str


class DropDoor(Protocol):
    """See the module."""

    def changed(self) -> int:
        """When a name came or went last, by the file system's clock in nanoseconds."""

    def names(self) -> list[str]:
        """Everything that is there, in no order."""

    def open(self, name: str) -> int:
        """A descriptor to read from a regular file of one name. Raises `Unfit`."""

    def unlink(self, name: str) -> None:
        """Take a name away."""

    def set_aside(self, name: str) -> SetAside:
        """Move it to where the operator finds it."""

    def count_aside(self) -> int:
        """How many are there."""


def make_drop(places: Layout) -> None:
    """Make the drop directory, or mend its mode; raises `OSError`."""
    os.makedirs(places.drop_dir, mode=0o711, exist_ok=True)
    # Not by its name, which the owner of the folder above may exchange.
    with _directory(places.drop_dir) as directory:
        os.fchmod(directory, DROP_MODE)


class DropFolder:
    """See the module; `DropDoor` for whoever may read the files of others."""

    def __init__(self, path: str, damaged: str) -> None:
        """``damaged`` is where files are set aside; it need not be there yet."""
        self._path = path
        self._damaged = damaged

    @classmethod
    def of(cls, places: Layout) -> Self:
        """The drop of a system."""
        return cls(places.drop_dir, places.drop_damaged_dir)

    def changed(self) -> int:
        """See `DropDoor`."""
        return os.stat(self._path).st_mtime_ns

    def names(self) -> list[str]:
        """See `DropDoor`."""
        return os.listdir(self._path)

    def open(self, name: str) -> int:
        """See `DropDoor`."""
        with _directory(self._path) as directory:
            descriptor = _open(directory, name)
        try:
            _check_kind(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def unlink(self, name: str) -> None:
        """See `DropDoor`."""
        with _directory(self._path) as directory:
            os.unlink(name, dir_fd=directory)

    def set_aside(self, name: str) -> SetAside:
        """See `DropDoor`."""
        with _directory(self._path) as directory:
            owner = os.lstat(name, dir_fd=directory).st_uid
            os.makedirs(self._damaged, mode=0o700, exist_ok=True)
            kept = name if NAME_DIGITS.issuperset(name) else os.urandom(NAME_LENGTH // 2).hex()
            with _directory(self._damaged) as damaged:
                _require_own(damaged, self._damaged)
                while _has(damaged, kept):
                    kept = os.urandom(NAME_LENGTH // 2).hex()
                os.rename(name, kept, src_dir_fd=directory, dst_dir_fd=damaged)
        return SetAside(owner, f"{self._damaged}/{kept}")

    def count_aside(self) -> int:
        """See `DropDoor`."""
        try:
            return len(os.listdir(self._damaged))
        except FileNotFoundError:
            return 0


def _open(directory: int, name: str) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise Unfit("it is no regular file") from None
        raise


def _check_kind(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Unfit("it is no regular file")
    if found.st_nlink != 1:
        raise Unfit(f"it has {found.st_nlink} names")


def _require_own(directory: int, path: str) -> None:
    """A folder that somebody else put there is none to keep evidence in."""
    if os.fstat(directory).st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to somebody else", path)


def _has(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _directory(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
