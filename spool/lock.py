"""Who has the spool: one process that writes, or any number that read while nobody writes.

The writer holds ``lock`` and ``lock.readers`` for its whole life; whoever lists a stopped spool shares ``lock.readers`` for
as long as that takes. The kernel drops both with the process, however it ends.

Failure: `SpoolInUse`, naming the process that writes where it is known.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import Final

from spool.errors import SpoolInUse

#: Seconds that a start waits for listings of the stopped spool to end.
READERS_PATIENCE: Final = 5.0
_POLL: Final = 0.05


class SpoolLock:
    """A lock that is held; `release` gives it back."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = list(descriptors)

    @classmethod
    def acquire(cls, spool_dir: str) -> SpoolLock:
        """The right to write."""
        held = cls()
        try:
            held._take(f"{spool_dir}/lock", fcntl.LOCK_EX)
            held._write_pid()
            deadline = time.monotonic() + READERS_PATIENCE
            while not held._try(f"{spool_dir}/lock.readers", fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise SpoolInUse(f"{spool_dir} is being listed by another process")
                time.sleep(_POLL)
        except BaseException:
            held.release()
            raise
        return held

    @classmethod
    def share(cls, spool_dir: str) -> SpoolLock:
        """The right to read while nobody writes."""
        held = cls()
        if not held._try(f"{spool_dir}/lock.readers", fcntl.LOCK_SH):
            raise SpoolInUse(_complaint(spool_dir))
        return held

    def release(self) -> None:
        """Others may have it."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _take(self, path: str, mode: int) -> None:
        if not self._try(path, mode):
            raise SpoolInUse(_complaint(os.path.dirname(path)))

    def _try(self, path: str, mode: int) -> bool:
        # Whoever only reads makes no file: root's would keep the daemon's user out.
        access = os.O_RDONLY if mode == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            _require_plain(descriptor, path)
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        self._descriptors.append(descriptor)
        return True

    def _write_pid(self) -> None:
        os.ftruncate(self._descriptors[0], 0)
        os.pwrite(self._descriptors[0], f"{os.getpid()}\n".encode(), 0)


def _require_plain(descriptor: int, path: str) -> None:
    """Root writes here at the start, in a folder of the queue's user: it must be no file of somebody else's."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise OSError(errno.EPERM, "it is no plain file of one name", path)


def _complaint(spool_dir: str) -> str:
    try:
        with open(f"{spool_dir}/lock", encoding="ascii") as lock:
            pid = lock.read(20).strip()
    except (OSError, UnicodeDecodeError):
        pid = ""
    return f"{spool_dir} is in use by process {pid}" if pid.isdecimal() else f"{spool_dir} is in use"
