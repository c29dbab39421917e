"""Connections that are kept open for the next message, and how many there may be.

Guarantees: a connection serves one message at a time. No more than `MAX_PER_HOP` to one hop and `MAX_TOTAL` altogether
are in use; idle ones are closed to make room, and after a while without work (`delivery.timeouts`).

Failure: none of its own; who waits for a place may be cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import anyio

from delivery.client import Channel
from delivery.hop import Hop
from delivery.timeouts import Timeouts
from delivery.tls import TlsFacts

#: Connections to one hop. Ten fill any link, and more is what servers begin to refuse.
MAX_PER_HOP: Final = 10
#: Connections altogether, idle ones included: a bound on descriptors and memory.
MAX_TOTAL: Final = 100
#: Messages over one connection; then it says goodbye, so that a server behind a balancer sees new ones now and then.
MAX_MESSAGES: Final = 100

#: All that is said of relaying has one name, so that it is traced together.
log = logging.getLogger("delivery.relay")


@dataclass(slots=True, eq=False)
class Connection:
    """A channel with what the pool needs to know of it."""

    #: The name of this session in the log.
    session: str
    hop: Hop
    channel: Channel
    tls: TlsFacts | None
    #: Our own address, for the log.
    source: str
    #: Transactions that it has had.
    messages: int = 0
    #: Ends its idleness.
    timer: asyncio.TimerHandle | None = None

    @property
    def route(self) -> str:
        """For histories: where to, and inside what."""
        return f"{self.hop} {self.tls}" if self.tls else str(self.hop)


@dataclass(slots=True)
class _Berth:
    """The places at one hop, and how many use or want one."""

    places: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MAX_PER_HOP, fast_acquire=True))
    users: int = 0


class Pool:
    """See the module."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._berths: dict[Hop, _Berth] = {}
        self._total = anyio.Semaphore(MAX_TOTAL, fast_acquire=True)
        self._open: set[Connection] = set()
        #: The longest idle first.
        self._idle: dict[Connection, None] = {}
        self._idle_at: dict[Hop, list[Connection]] = {}
        self._all_gone = asyncio.Event()
        self._is_closing = False

    @asynccontextmanager
    async def place(self, hop: Hop) -> AsyncIterator[None]:
        """The right to use one connection to ``hop``; waits its turn."""
        berth = self._berths.setdefault(hop, _Berth())
        berth.users += 1
        try:
            async with berth.places, self._total:
                yield
        finally:
            berth.users -= 1
            if not berth.users:
                del self._berths[hop]

    def take(self, hop: Hop) -> Connection | None:
        """An idle connection to ``hop``, the one used last."""
        waiting = self._idle_at.get(hop)
        if not waiting:
            return None
        connection = waiting[-1]
        self._wake(connection)
        return connection

    def add(self, connection: Connection) -> None:
        """A new connection is open; an idle one makes room for it if it must."""
        if len(self._open) >= MAX_TOTAL and self._idle:
            self._dismiss(next(iter(self._idle)))
        self._open.add(connection)
        connection.channel.when_closed = partial(self._gone, connection)

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next message, or say goodbye."""
        channel = connection.channel
        if not channel.is_usable:
            channel.abort()
        elif self._is_closing or connection.messages >= MAX_MESSAGES:
            channel.quit(self._timeouts.quit)
        else:
            self._idle[connection] = None
            self._idle_at.setdefault(connection.hop, []).append(connection)
            loop = asyncio.get_running_loop()
            connection.timer = loop.call_later(self._timeouts.idle, self._dismiss, connection)

    async def aclose(self) -> None:
        """Say goodbye everywhere and wait, briefly, until everybody has heard it. Nothing is in use any more."""
        self._is_closing = True
        for connection in list(self._idle):
            self._dismiss(connection)
        with anyio.move_on_after(self._timeouts.quit + 1):
            while self._open:
                self._all_gone.clear()
                await self._all_gone.wait()

    def _dismiss(self, connection: Connection) -> None:
        self._wake(connection)
        connection.channel.quit(self._timeouts.quit)

    def _wake(self, connection: Connection) -> None:
        if connection.timer is not None:
            connection.timer.cancel()
            connection.timer = None
        del self._idle[connection]
        waiting = self._idle_at[connection.hop]
        waiting.remove(connection)
        if not waiting:
            del self._idle_at[connection.hop]

    def _gone(self, connection: Connection) -> None:
        if connection in self._idle:
            self._wake(connection)
        self._open.discard(connection)
        if not self._open:
            self._all_gone.set()
        log.info(
            "%s mta disconnected reason=%s messages=%d",
            connection.session,
            connection.channel.why_closed,
            connection.messages,
        )
