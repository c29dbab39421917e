"""Both locks of an mbox: the kernel's on the file, and ``FILE.lock`` beside it, as every other mail program expects.

Neither is waited for while the other is held, so that a program that takes them in the other order cannot block us both.

Guarantees: the kernel's lock belongs to the open file, not to the process: it conflicts with ``fcntl`` locks of other
programs and with those of other threads here, and closing another descriptor does not drop it. A dot-lock of a process that
has died is broken, and so is one that nobody has refreshed for `STALE` seconds, and only under the kernel's lock. Because
the clock may have jumped, over a lock or away from one, its age counts in either direction, and it must have stood there for
`WATCHED` seconds of our wait.

Failure: `Busy` when the bounded wait is over. In a directory where we may not write there is no dot-lock; the kernel's alone
holds then, because programs that run as this user cannot make one either.

fcntl_locking(2) (open file description locks), lockfile_create(3) (the dot-lock's rules).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from typing import Final

from delivery.deposit import Desk

#: Seconds after which a dot-lock is nobody's: lockfile_create(3) uses 5 minutes.
STALE: Final = 300.0
#: Seconds that we have seen an old dot-lock before it is broken: a program that only seems to have had it for long is done.
WATCHED: Final = 5.0
#: Seconds between attempts, doubled each time: other deliveries hold a lock for milliseconds, readers for seconds.
FIRST_WAIT: Final = 0.005
LONGEST_WAIT: Final = 1.0
#: Octets of a dot-lock that could be a process id.
_PID_OCTETS: Final = 16

#: struct flock: type, whence, start, length, pid (0 is demanded), padding.
_WHOLE_FILE: Final = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_NO_DOT_LOCK: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
#: What file systems say that make no file without a name (NFS), and a system without /proc.
_NO_TEMPORARY: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class Busy(Exception):
    """Another program holds the mailbox."""


class MailboxLock:
    """Both locks of one open file; a context."""

    def __init__(self, descriptor: int, path: str, desk: Desk, patience: float) -> None:
        self._descriptor = descriptor
        self._dot_lock = f"{path}.lock"
        self._desk = desk
        self._patience = patience
        self._has_dot_lock = False
        self._waited = 0.0
        #: The dot-lock of another program that stands there, by inode and time, and how long we had waited by then.
        self._seen = (0, 0)
        self._seen_at = 0.0

    def __enter__(self) -> None:
        pause = FIRST_WAIT
        while not self._try():
            if self._waited >= self._patience:
                raise Busy(f"{self._dot_lock.removesuffix('.lock')} is locked by another program")
            self._desk.wait(pause)
            self._waited += pause
            pause = min(2 * pause, LONGEST_WAIT)

    def __exit__(self, *_: object) -> None:
        if self._has_dot_lock:
            with contextlib.suppress(OSError):
                os.unlink(self._dot_lock)
        self._unlock()

    def _try(self) -> bool:
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except (BlockingIOError, PermissionError):
            return False
        try:
            if self._make_dot_lock():
                return True
        except BaseException:
            self.__exit__()
            raise
        self._unlock()
        return False

    def _unlock(self) -> None:
        unlocked = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, unlocked)

    def _make_dot_lock(self) -> bool:
        try:
            self._has_dot_lock = self._link_dot_lock()
        except FileExistsError:
            if self._is_stale():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._dot_lock)
            return False
        return True

    def _link_dot_lock(self) -> bool:
        """Make it with its owner in it at once, so that who dies now leaves none that names nobody. False: we may not."""
        try:
            self._link()
        except OSError as error:
            if error.errno in _NO_TEMPORARY:
                return self._write_dot_lock()
            if error.errno not in _NO_DOT_LOCK:
                raise
            if os.path.lexists(self._dot_lock):
                raise FileExistsError from error
            return False
        return True

    def _link(self) -> None:
        descriptor = os.open(os.path.dirname(self._dot_lock), os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, b"%d\n" % os.getpid())
            # With a descriptor, which an absolute path leaves unused, Python follows the link to the file without a name.
            os.link(f"/proc/self/fd/{descriptor}", self._dot_lock, src_dir_fd=descriptor, follow_symlinks=True)
        finally:
            os.close(descriptor)

    def _write_dot_lock(self) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._dot_lock, flags, 0o644)
        except OSError as error:
            if error.errno in _NO_DOT_LOCK:
                return False
            raise
        self._has_dot_lock = True
        try:
            os.write(descriptor, b"%d\n" % os.getpid())
        finally:
            os.close(descriptor)
        return True

    def _is_stale(self) -> bool:
        try:
            found = os.lstat(self._dot_lock)
            descriptor = os.open(self._dot_lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            owner = os.read(descriptor, _PID_OCTETS).strip()
        except OSError:
            owner = b""
        finally:
            os.close(descriptor)
        if owner.isdigit() and int(owner) > 0 and not _is_alive(int(owner)):
            return True
        return abs(time.time() - found.st_mtime) > STALE and self._watched(found) >= WATCHED

    def _watched(self, found: os.stat_result) -> float:
        """Seconds that we have waited for this very lock."""
        seen = (found.st_ino, found.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._waited
        return self._waited - self._seen_at


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
