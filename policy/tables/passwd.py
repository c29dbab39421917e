"""Users of this machine.

Guarantees: a user who exists is never reported as missing because the user database could not be asked.

Failure: `TableUnavailable` when it could not.

getpwnam_r(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import anyio
import anyio.to_thread

from policy.errors import TableUnavailable

#: What getpwnam_r(3) may return for "no such user"; everything else is trouble.
_NOT_FOUND: Final = frozenset({0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM})
#: Room for a passwd entry's strings, and for the structure that points to them (48 octets on Linux).
_STRINGS_OCTETS: Final = 1 << 16
_STRUCT_OCTETS: Final = 1 << 8
#: Seconds that an answer is kept: for the recipients of a burst. That there is nobody is kept for less: whoever makes a user
#: tries it at once.
KEPT: Final = 5.0
KEPT_NOBODY: Final = 1.0
MAX_KEPT: Final = 10_000
#: Seconds after which a name service that does not answer is trouble for now: a client waits for the reply to its RCPT.
PATIENCE: Final = 5.0
#: Threads that wait for a name service.
LOOKUPS: Final = 16


@dataclass(frozen=True, slots=True)
class User:
    """A user to whom mail can be delivered."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to "who is that?"; None is nobody."""

    user: User | None


class Users(Protocol):
    """Who exists. Asking takes as long as a name service does, so an expansion uses what is known, and fetches the rest."""

    def known(self, name: str) -> Found | None:
        """What can be said of ``name`` without waiting; None when it has to be fetched first."""

    async def fetch(self, name: str) -> Found:
        """Find it out. Raises `TableUnavailable`."""


#: Asks about one name; raises `TableUnavailable`.
Ask: TypeAlias = Callable[[str], Awaitable[User | None]]


class AskedUsers:
    """`Users` that are asked for, and remembered for a moment.

    What is remembered is of at most `MAX_KEPT` names; one name is asked for once at a time.
    """

    def __init__(self, ask: Ask, patience: float = PATIENCE, now: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._patience = patience
        self._now = now
        #: Answers and until when they are good, the oldest first.
        self._kept: OrderedDict[str, tuple[Found, float]] = OrderedDict()
        self._asked: dict[str, anyio.Event] = {}

    def known(self, name: str) -> Found | None:
        """See `Users`."""
        kept = self._kept.get(name)
        return None if kept is None or kept[1] <= self._now() else kept[0]

    async def fetch(self, name: str) -> Found:
        """See `Users`."""
        while (found := self.known(name)) is None:
            if (asked := self._asked.get(name)) is not None:
                await asked.wait()
                continue
            return await self._find(name)
        return found

    async def _find(self, name: str) -> Found:
        over = self._asked[name] = anyio.Event()
        try:
            with anyio.fail_after(self._patience):
                found = Found(await self._ask(name))
        except TimeoutError as error:
            reason = f"the system's users: no answer about {name!a} in {self._patience:g} seconds"
            raise TableUnavailable(reason) from error
        finally:
            del self._asked[name]
            over.set()
        self._kept.pop(name, None)
        self._kept[name] = found, self._now() + (KEPT if found.user else KEPT_NOBODY)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return found


def system_users() -> AskedUsers:
    """The users that the system's name service knows, asked in a few threads of this process."""
    threads = anyio.CapacityLimiter(LOOKUPS)

    async def ask(name: str) -> User | None:
        return await anyio.to_thread.run_sync(ask_system, name, abandon_on_cancel=True, limiter=threads)

    return AskedUsers(ask)


def ask_system(name: str) -> User | None:
    """The user ``name``; takes as long as the name service does. Raises `TableUnavailable`."""
    if not name or "\0" in name:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        # The module says the same whether there is no such user or /etc/passwd could not be opened.
        _ask_for_trouble(name)
        return None
    return User(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)


def _ask_for_trouble(name: str) -> None:
    result = ctypes.c_void_p()
    status = ctypes.CDLL(None).getpwnam_r(
        name.encode(errors="surrogateescape"),
        ctypes.create_string_buffer(_STRUCT_OCTETS),
        ctypes.create_string_buffer(_STRINGS_OCTETS),
        ctypes.c_size_t(_STRINGS_OCTETS),
        ctypes.byref(result),
    )
    if status not in _NOT_FOUND:
        raise TableUnavailable(f"the system's users: {os.strerror(status)}")
