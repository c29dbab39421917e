"""File operations that fail, wait or count where a test tells them to."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable

from spool.files import Space, SystemOps


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def broken() -> OSError:
    return OSError(errno.EIO, "Input/output error")


def sqlite_error(name: str) -> sqlite3.OperationalError:
    """What SQLite raises for its result code ``name``."""
    error = sqlite3.OperationalError(f"simulated {name}")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


class FaultyOps(SystemOps):
    """The kernel's operations, except those that a test spoils.

    ``spoil("fsync", broken, 2)`` makes the second fsync from now on fail, and that one alone.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        #: Operations and instants, in order.
        self.log: list[str] = []
        self.commit_takes = 0.0
        #: Closed by a test that wants a commit to wait; ``at_gate`` is set while one does.
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()
        self.free = Space(1 << 40, 1 << 41, None)
        self._spoiled: dict[tuple[str, int], Callable[[], Exception]] = {}

    def spoil(self, operation: str, error: Callable[[], Exception], nth: int = 1, times: int = 1) -> None:
        for number in range(times):
            self._spoiled[operation, self.calls[operation] + nth + number] = error

    def _called(self, operation: str) -> None:
        self.calls[operation] += 1
        self.log.append(operation)
        if error := self._spoiled.pop((operation, self.calls[operation]), None):
            raise error()

    def create(self, path: str) -> int:
        self._called("create")
        return super().create(path)

    def write(self, descriptor: int, data: bytes) -> None:
        self._called("write")
        super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._called("fsync")
        super().fsync(descriptor)

    def fsync_directory(self, path: str) -> None:
        self._called("fsync_directory")
        super().fsync_directory(path)

    def unlink(self, path: str) -> None:
        self._called("unlink")
        super().unlink(path)

    def space(self, path: str) -> Space:
        return self.free

    def commit(self, connection: sqlite3.Connection) -> None:
        self.at_gate.set()
        self.gate.wait()
        self.at_gate.clear()
        if self.commit_takes:
            time.sleep(self.commit_takes)
        self._called("commit")
        super().commit(connection)

    def reached(self, point: str) -> None:
        self._called(point)


def files_in(folder: str) -> list[str]:
    """Every regular file below ``folder``, by name alone."""
    return sorted(name for _, _, names in os.walk(folder) for name in names)
