"""The names of clients: what the reverse DNS says of their addresses, and whether the DNS leads back from there.

The system's resolver is asked, hosts(5) and all, in a few threads of its own; whoever asks waits as long as he likes and
goes on without. Anybody who owns an address can write any name into its reverse zone, so a name counts as confirmed only
when it leads back to the address.

Guarantees: at most `LOOKUPS` threads, `MAX_WAITING` questions that wait for one and `MAX_KEPT` answers. One address is
asked about once at a time, and not again for `KEPT` seconds. This machine itself is never asked about. A name is a host name
in ASCII, and no IP address.

Failure: an answer that could not be got is `UNCERTAIN`, and nothing permanent should be built on it.

RFC 1034 3.6, RFC 8499 (forward-confirmed reverse DNS); RFC 5321 4.1.3 (what is no host name).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import anyio
import anyio.to_thread

from ingress.headers import is_loopback
from ingress.peer import plain_address
from spool.address import is_domain

#: Threads that wait for the resolver: a slow answer takes seconds, a quick one far below a millisecond.
LOOKUPS: Final = 16
#: Questions that wait for a thread. When there are more the DNS is in trouble, and another would only find out late.
MAX_WAITING: Final = 1000
#: Seconds an answer is kept: a client that sends ten messages in ten sessions is asked about once.
KEPT: Final = 60.0
#: Seconds that "no answer" is kept, so that a DNS in trouble does not hold up each session anew.
TROUBLE_KEPT: Final = 10.0
#: Answers kept; when there are more, all are forgotten, which is simple and rare.
MAX_KEPT: Final = 10_000

_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})


@dataclass(frozen=True, slots=True)
class PeerName:
    """What the reverse DNS says of an address."""

    #: As its owner wrote it; empty when there is none.
    name: str = ""
    #: Whether the name leads back to the address.
    is_confirmed: bool = False
    #: False when the DNS gave no answer, so that none of this may be so.
    is_certain: bool = True

    @property
    def confirmed(self) -> str:
        """The name if it is confirmed, else empty."""
        return self.name if self.is_confirmed else ""


UNNAMED: Final = PeerName()
UNCERTAIN: Final = PeerName(is_certain=False)
#: The submission socket, and the machine's own loopback.
OURSELVES: Final = PeerName("localhost", is_confirmed=True)

#: Asks the DNS about an address, and may block.
Lookup: TypeAlias = Callable[[str], PeerName]
#: The same for who does not block; raises nothing.
Ask: TypeAlias = Callable[[str], Awaitable[PeerName]]


class Names:
    """Answers about addresses; those of one process."""

    def __init__(
        self, lookup: Lookup | None = None, now: Callable[[], float] = time.monotonic, ask: Ask | None = None
    ) -> None:
        """``lookup`` is called in threads, unless there is somebody else to ``ask``."""
        self._lookup = lookup or ask_system
        self._ask = ask or self._ask_in_thread
        self._now = now
        self._kept: dict[str, tuple[float, PeerName]] = {}
        self._asked: dict[str, asyncio.Task[PeerName]] = {}
        self._threads = anyio.CapacityLimiter(LOOKUPS)

    def known(self, address: str) -> PeerName | None:
        """What can be said about ``address`` (``local`` for the socket) without asking; None when nothing can."""
        if is_loopback(address):
            return OURSELVES
        kept = self._kept.get(address)
        if kept is not None and kept[0] > self._now():
            return kept[1]
        busy = len(self._asked) >= MAX_WAITING + LOOKUPS and address not in self._asked
        return UNCERTAIN if busy else None

    def ask(self, address: str) -> asyncio.Task[PeerName]:
        """Begin to find out, unless that has begun; the task never raises, and is not the caller's to cancel."""
        task = self._asked.get(address)
        if task is None:
            task = self._asked[address] = asyncio.create_task(self._find(address))
        return task

    def close(self) -> None:
        """Wait for no answer any more."""
        for task in self._asked.values():
            task.cancel()

    async def _ask_in_thread(self, address: str) -> PeerName:
        return await anyio.to_thread.run_sync(self._lookup, address, limiter=self._threads, abandon_on_cancel=True)

    async def _find(self, address: str) -> PeerName:
        try:
            found = await self._ask(address)
        finally:
            del self._asked[address]
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[address] = (self._now() + (KEPT if found.is_certain else TROUBLE_KEPT), found)
        return found


def ask_system(
    address: str, reverse: Callable[..., Any] = socket.getnameinfo, forward: Callable[..., Any] = socket.getaddrinfo
) -> PeerName:
    """Ask the system's resolver, which may take as long as its time-outs allow."""
    try:
        host, _ = reverse((address, 0), socket.NI_NAMEREQD)
    except (OSError, UnicodeError) as error:
        return _unnamed(error)
    name = host.rstrip(".")
    if not name.isascii() or not is_domain(name) or _is_address(name):
        return UNNAMED
    claimed = PeerName(name)
    try:
        found = forward(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return replace(claimed, is_certain=_unnamed(error).is_certain)
    return replace(claimed, is_confirmed=address in {plain_address(str(entry[4][0])) for entry in found})


def _unnamed(error: Exception) -> PeerName:
    """What no answer means: there is no such name, or nobody could say."""
    is_final = isinstance(error, UnicodeError) or (error.args[:1] and error.args[0] in _NO_SUCH_NAME)
    return UNNAMED if is_final else UNCERTAIN


def _is_address(name: str) -> bool:
    """Whether the name could be taken for an IP address in any of the forms that resolvers take."""
    return name.startswith("[") or name.rpartition(".")[2].removeprefix("0x").isdigit()
