"""Local delivery that ends, or meets an error, at its n-th call into the file system.

The modules that deliver get a stand-in for ``os`` and ``fcntl`` that counts; only threads that said so are counted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from delivery import locks, maildir, mbox, mbox_search
from spool import files

#: Calls that are steps of a delivery.
_COUNTED: Final = frozenset(
    (
        *("close", "fcntl", "fdatasync", "flock", "fstat", "fsync", "ftruncate", "link", "listdir", "lseek", "lstat"),
        *("mkdir", "open", "pread", "stat", "unlink", "write"),
    )
)
#: Those of them that change something, and so can meet a full or a broken disk.
_CHANGING: Final = frozenset(["fsync", "ftruncate", "link", "mkdir", "open", "unlink", "write"])


@dataclass
class Fate:
    """What happens at step ``number``; 0 for nothing.

    ``kind``: ``kill``, ``torn`` (half of a write, then the end), ``linger`` (``then`` is called, and the call is made
    a little later), or the name of an error, with ``+`` if every later call meets it too.
    """

    kind: str = ""
    number: int = 0
    then: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    steps: int = 0
    #: The last call that failed for it.
    struck: str = ""
    _counted: threading.local = field(default_factory=threading.local)

    def count_this_thread(self) -> None:
        """Steps of this thread are counted from now on."""
        self._counted.here = True

    def install(self) -> None:
        """Have the modules that deliver meet it."""
        for module in (locks, maildir, mbox, mbox_search, files):
            for name, real in (("os", os), ("fcntl", fcntl)):
                if hasattr(module, name):
                    setattr(module, name, _StandIn(real, self))

    def call(self, name: str, real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One call, as it goes."""
        if not getattr(self._counted, "here", False):
            return real(*arguments, **named)
        self.steps += 1
        is_error = self.kind.startswith("E")
        if self.number and (self.steps == self.number or (self.steps > self.number and self.kind.endswith("+"))):
            if self.kind == "linger":
                self.then()
                time.sleep(0.25)
            elif not is_error:
                self._end(name, real, *arguments)
            elif name in _CHANGING and not (name == "open" and not _makes_a_file(arguments[1])):
                self.struck = name
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                number = getattr(errno, self.kind.rstrip("+"))
                raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    def _end(self, name: str, real: Callable[..., Any], *arguments: Any) -> None:
        if self.kind == "torn" and name == "write":
            real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        self.then()


def _makes_a_file(flags: int) -> bool:
    return bool(flags & os.O_CREAT) or flags & os.O_TMPFILE == os.O_TMPFILE


class _StandIn:
    """A module, except for the calls that count."""

    def __init__(self, module: ModuleType, fate: Fate) -> None:
        self._module = module
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._module, name)
        if name not in _COUNTED:
            return real
        return lambda *arguments, **named: self._fate.call(name, real, *arguments, **named)
