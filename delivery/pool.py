"""Connections that are kept open for the next message, and how many there may be.

Guarantees: a connection serves one message at a time. No more than `MAX_PER_HOP` to one hop (or what the operator says) and
`MAX_TOTAL` altogether are in use, and none beyond the operator's limits is open (`delivery.permits`); idle ones are closed
to make room, and after a while without work (`delivery.timeouts`).

Failure: none of its own; who waits for a place may be cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio

from delivery.client import Channel
from delivery.connect import fitting_sources
from delivery.hop import Candidate, Hop
from delivery.permits import Name, Permit, Permits, Way
from delivery.timeouts import Timeouts
from delivery.tls import TlsFacts
from policy.limits import MtaLimits

#: Connections to one hop. Ten fill any link, and more is what servers begin to refuse.
MAX_PER_HOP: Final = 10
#: Connections altogether, idle ones included: a bound on descriptors and memory.
MAX_TOTAL: Final = 100
#: Messages over one connection; then it says goodbye, so that a server behind a balancer sees new ones now and then.
MAX_MESSAGES: Final = 100
_NO_LIMITS: Final = MtaLimits()

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
    #: Why this is plain text though TLS was wanted, or empty.
    plain_because: str = ""
    #: What it counts on; None where nothing is limited.
    permit: Permit | None = None
    #: Whether nobody has had it back yet.
    is_fresh: bool = True
    #: Transactions that it has had, and recipients that it refused in a row, up to now.
    messages: int = 0
    refusals: int = 0
    #: When its last transaction ended (monotonic seconds).
    rests_since: float = 0
    #: Ends its idleness.
    timer: asyncio.TimerHandle | None = None

    @property
    def route(self) -> str:
        """For histories: where to, and inside what."""
        inside = str(self.tls or "") or (self.plain_because and f"plain text ({self.plain_because})")
        return f"{self.hop} {inside}" if inside else str(self.hop)

    def is_spent(self, limits: MtaLimits) -> bool:
        """Whether it has had all that it may have."""
        too_often_refused = limits.max_failures_per_session is not None and (
            self.refusals >= limits.max_failures_per_session
        )
        return too_often_refused or self.messages >= (limits.session_mail_max or MAX_MESSAGES)

    def counts_on(self, name: Name) -> bool:
        """Whether it is counted under ``name``."""
        return self.permit is not None and name in self.permit.names


@dataclass(slots=True)
class _Berth:
    """The places at one hop, and how many use or want one."""

    places: anyio.Semaphore
    users: int = 0


class Pool:
    """See the module."""

    def __init__(self, timeouts: Timeouts, permits: Permits | None = None) -> None:
        self._timeouts = timeouts
        self._permits = permits or Permits()
        #: By hop, and by how many places it has for the mail in question.
        self._berths: dict[tuple[Hop, int], _Berth] = {}
        self._total = anyio.Semaphore(MAX_TOTAL, fast_acquire=True)
        self._open: set[Connection] = set()
        #: The longest idle first.
        self._idle: dict[Connection, None] = {}
        self._idle_at: dict[Hop, list[Connection]] = {}
        self._all_gone = asyncio.Event()
        self._is_closing = False

    @asynccontextmanager
    async def place(self, hop: Hop, limits: MtaLimits = _NO_LIMITS) -> AsyncIterator[None]:
        """The right to use one connection to ``hop``; waits its turn."""
        places = limits.max_conn_per_host or MAX_PER_HOP
        key = hop, places
        berth = self._berths.get(key)
        if berth is None:
            berth = self._berths[key] = _Berth(anyio.Semaphore(places, fast_acquire=True))
        berth.users += 1
        try:
            async with berth.places, self._total:
                yield
        finally:
            berth.users -= 1
            if not berth.users:
                del self._berths[key]

    def take(self, hop: Hop, limits: MtaLimits = _NO_LIMITS) -> Connection | None:
        """An idle connection to ``hop``, the one used last of those that may have more."""
        for connection in reversed(self._idle_at.get(hop, ())):
            if not connection.is_spent(limits):
                self._wake(connection)
                connection.is_fresh = False
                return connection
        return None

    async def leave(self, candidate: Candidate, addresses: Sequence[str]) -> Connection | list[Permit]:
        """Wait for the right to open a connection to one of ``addresses``: a permit for each that may be tried now.

        Or for a connection that becomes idle before.
        """
        while True:
            kept = self.take(candidate.hop, candidate.purpose.limits)
            if kept is not None:
                return kept
            permits, pauses = [], []
            for address in addresses:
                answer = self._ask(candidate, address)
                if isinstance(answer, Permit):
                    permits.append(answer)
                else:
                    pauses.append(answer)
            if permits:
                return permits
            await self._permits.change(min(pauses))

    def _ask(self, candidate: Candidate, address: str) -> Permit | float:
        """The permit for an address, or the seconds to wait."""
        pause = math.inf
        for source in fitting_sources(candidate.hop.sources, address) or [""]:
            answer = self._permits.ask(Way(address, source), candidate.purpose)
            if isinstance(answer, Permit):
                return answer
            pause = min(pause, answer.pause)
            for name in answer.full:
                self._make_room(name)
        return pause

    def _make_room(self, name: Name) -> None:
        """One idle connection that counts on ``name`` must go, unless one goes already."""
        holders = [connection for connection in self._open if connection.counts_on(name)]
        if not any(connection.channel.why_closed for connection in holders):
            idle = next((connection for connection in self._idle if connection.counts_on(name)), None)
            if idle is not None:
                self._dismiss(idle)

    def add(self, connection: Connection) -> None:
        """A new connection is open; an idle one makes room for it if it must."""
        if len(self._open) >= MAX_TOTAL and self._idle:
            self._dismiss(next(iter(self._idle)))
        self._open.add(connection)
        connection.channel.when_closed = partial(self._gone, connection)

    def give_back(self, connection: Connection, limits: MtaLimits = _NO_LIMITS) -> None:
        """Keep it for the next message, or say goodbye."""
        channel = connection.channel
        idle = self._timeouts.idle if limits.session_keepalive is None else limits.session_keepalive
        if not channel.is_usable:
            channel.abort()
        elif self._is_closing or not idle or connection.is_spent(limits):
            channel.quit(self._timeouts.quit)
        else:
            self._idle[connection] = None
            self._idle_at.setdefault(connection.hop, []).append(connection)
            loop = asyncio.get_running_loop()
            connection.timer = loop.call_later(idle, self._dismiss, connection)
            self._permits.tell()

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
        if connection.permit is not None:
            self._permits.give_back(connection.permit)
        if not self._open:
            self._all_gone.set()
        log.info(
            "%s mta disconnected reason=%s messages=%d",
            connection.session,
            connection.channel.why_closed,
            connection.messages,
        )
