"""The listeners: clients let in within the limits, and all of it ended with nobody cut off in a message.

Guarantees: a client that has been told 250 is not affected by a shutdown; one that is sending its message may finish it
within `Limits.grace`, and hears what became of it even later; one that is silent is told 421. A reload changes what later
connections get, never one that is open.

RFC 5321 3.8 (how a server ends a session).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ingress import replies
from ingress.arrivals import Arrivals
from ingress.dialogue import Dialogue, Service
from ingress.ebb import Ebb
from ingress.guesses import Guesses
from ingress.headers import is_loopback
from ingress.limits import Limits
from ingress.logline import quoted
from ingress.names import Names
from ingress.openings import Opening, Place
from ingress.peer import customer
from ingress.proxied import ProxiedServer, Room
from ingress.screening import by_phase
from ingress.session import Session
from ingress.strain import Strain
from ingress.transaction import House
from policy.authenticator import Authenticator, NoLogins, TableLogins
from policy.config import Auth, Listener
from policy.credentials import MAX_HASHING
from policy.errors import TableUnavailable
from policy.tables.freshness import freshen
from policy.tables.services import has_source
from spool.message import Client
from spool.reply import Reply

log = logging.getLogger(__name__)


class Ingress:
    """All listeners of one process and the sessions they have."""

    def __init__(
        self,
        house: House,
        limits: Limits | None = None,
        names: Names | None = None,
        system: Authenticator | None = None,
    ) -> None:
        """``system`` knows the passwords of the system's users."""
        #: While this is set, clients that come are told to come again.
        self.is_paused = False
        self._house = house
        self._limits = limits or Limits()
        self._names = names or Names()
        self._hashing = anyio.CapacityLimiter(MAX_HASHING)
        self._system = system or NoLogins()
        self._guesses = Guesses()
        self._services: dict[Place, Service] = {}
        self._renewals: dict[Place, Callable[[], ssl.SSLContext]] = {}
        self._servers: dict[Place, asyncio.Server | ProxiedServer] = {}
        self._sessions: set[Dialogue] = set()
        self._ebb = Ebb()
        self._from: Counter[str] = Counter()
        self._capacity = _capacity(self._limits.connections)
        self._strain = Strain(self._limits, self._capacity)
        self._arrivals = Arrivals(self._limits)
        self._tasks: TaskGroup | None = None
        self._attending: dict[asyncio.Task[None], Dialogue] = {}
        self._stopping = anyio.Event()
        self._empty = anyio.Event()

    async def serve(
        self, openings: Iterable[Opening], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stop`, then until the last session has ended or its grace is over."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            await self.reopen(openings)
            tasks.start_soon(self._watch)
            tasks.start_soon(self._change_ticket_keys)
            task_status.started()
            try:
                await self._stopping.wait()
                await self._drain()
            finally:
                self._close_servers(list(self._servers))
                with anyio.CancelScope(shield=True):
                    await self._cut_off()
                self._names.close()
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        """Let nobody in any more, and come to an end."""
        self._stopping.set()

    async def reopen(self, openings: Iterable[Opening]) -> None:
        """Let these be the listeners from now on.

        Those that are open stay open, and give what is new to the clients that come; others are opened or closed.
        """
        wanted = {opening.place: opening for opening in openings}
        self._close_servers([place for place in self._servers if place not in wanted])
        self._renewals = {place: opening.renew for place, opening in wanted.items() if opening.renew is not None}
        for place, opening in wanted.items():
            sock = opening.socket
            server = self._servers.get(place)
            if server is not None and isinstance(server, ProxiedServer) is not opening.listener.proxy_v2:
                # A server of the other kind takes over the socket, with the clients that wait at it.
                sock = socket.socket(fileno=os.dup(server.sockets[0].fileno()))
                self._close_servers([place])
            self._services[place] = self._service(opening)
            if place not in self._servers:
                assert sock is not None, f"nobody has bound {place}"
                self._servers[place] = await self._open(place, sock)

    @property
    def listening(self) -> frozenset[Place]:
        """The listeners that are open."""
        return frozenset(self._servers)

    @property
    def addresses(self) -> list[str | tuple[str, int]]:
        """Where clients find us: the names of the sockets that are open."""
        return [server.sockets[0].getsockname() for server in self._servers.values()]

    @property
    def sessions(self) -> int:
        """How many clients are there."""
        return len(self._sessions)

    @property
    def trouble(self) -> str:
        """What an operator should know of the crowd of clients, or nothing."""
        return self._strain.trouble(len(self._sessions))

    def _service(self, opening: Opening) -> Service:
        listener = opening.listener
        host = listener.hostname or self._house.config().server_name
        filters = by_phase(listener.filters)
        logins = self._logins(listener)
        around = (logins, self._names, opening.tls, filters, self._guesses)
        return Service(self._house, listener, host, self._limits, *around)

    def _logins(self, listener: Listener) -> Authenticator | None:
        if listener.auth is Auth.NONE:
            return None
        return TableLogins(listener.credentials, self._hashing) if listener.credentials else self._system

    async def _open(self, place: Place, sock: socket.socket) -> asyncio.Server | ProxiedServer:
        def protocol(client: Client | None = None) -> Session:
            return Session(self._services[place], self._arrived, client)

        if self._services[place].listener.proxy_v2:
            assert self._tasks is not None
            room = Room(self._limits, max(1, self._capacity // 4))
            return ProxiedServer(sock, protocol, partial(self._believes, place), room, self._tasks)
        loop = asyncio.get_running_loop()
        if sock.family == socket.AF_UNIX:
            return await loop.create_unix_server(protocol, sock=sock, backlog=self._limits.backlog)
        return await loop.create_server(protocol, sock=sock, backlog=self._limits.backlog)

    async def _believes(self, place: Place, address: str) -> bool:
        """Whether a proxy may speak for its clients here."""
        service = self._services.get(place)
        if service is None or service.listener.proxies is None:
            return is_loopback(address)
        proxies = service.listener.proxies
        await freshen((proxies,))
        try:
            return has_source(proxies, address)
        except TableUnavailable as error:
            log.warning("smtp table-unavailable reason=%s", quoted(error))
            return False

    def _close_servers(self, places: Iterable[Place]) -> None:
        for place in places:
            self._servers.pop(place).close()
            del self._services[place]

    def _arrived(self, session: Dialogue) -> None:
        if self._stopping.is_set():
            session.turn_away(replies.SHUTTING_DOWN)
        elif self.is_paused:
            session.turn_away(replies.PAUSED)
        if self._tasks is None:
            session.abort()
            return
        # asyncio's own task: it costs a tenth of anyio's, and many a client brings one message.
        task = session.loop.create_task(self._attend(session))
        self._attending[task] = session
        task.add_done_callback(self._attended)

    def _attended(self, task: asyncio.Task[None]) -> None:
        del self._attending[task]
        if not task.cancelled() and task.exception() is not None:
            log.error("smtp trouble", exc_info=task.exception())

    async def _attend(self, session: Dialogue) -> None:
        uid = session.client.uid
        origin = customer(session.client.address) if uid is None else f"uid {uid}"
        refusal = self._refusal(origin, session.client.address)
        if refusal is not None:
            session.turn_away(refusal)
        self._sessions.add(session)
        self._ebb.rises(len(self._sessions))
        self._from[origin] += 1
        self._feel_strain()
        session.limits = self._strain.limits
        try:
            await session.serve()
        finally:
            self._sessions.discard(session)
            self._from[origin] -= 1
            if not self._from[origin]:
                del self._from[origin]
            if not self._sessions:
                self._empty.set()

    def _refusal(self, origin: str, address: str) -> Reply | None:
        """Why another connection of this client is one too many, if it is."""
        if len(self._sessions) >= self._capacity:
            return replies.TOO_MANY_CONNECTIONS
        if origin.startswith("uid ") and self._from[origin] >= self._limits.connections_per_user:
            return replies.TOO_MANY_FROM_USER
        if is_loopback(address):
            return None
        if not self._arrivals.admit(origin, asyncio.get_running_loop().time()):
            return replies.TOO_MANY_TOO_FAST
        if self._from[origin] >= self._limits.connections_per_address:
            return replies.TOO_MANY_FROM_ADDRESS
        return None

    def _feel_strain(self) -> None:
        if self._strain.update(len(self._sessions)):
            for session in self._sessions:
                session.take_limits(self._strain.limits)

    async def _watch(self) -> None:
        """One look at all deadlines a tick, in place of a timer for each command of each session."""
        loop = asyncio.get_running_loop()
        while True:
            await anyio.sleep(self._limits.tick)
            now = loop.time()
            self._feel_strain()
            for session in [session for session in self._sessions if session.deadline < now]:
                session.expire()
            self._ebb.look(len(self._sessions))

    async def _change_ticket_keys(self) -> None:
        """OpenSSL makes the keys for a context's tickets once; another context has others."""
        while True:
            await anyio.sleep(self._limits.ticket_keys)
            for place, renew in self._renewals.items():
                self._services[place] = replace(self._services[place], tls=renew())

    async def _drain(self) -> None:
        self._close_servers(list(self._servers))
        for session in list(self._sessions):
            session.leave()
        if self._sessions:
            self._empty = anyio.Event()
            with anyio.move_on_after(self._limits.grace):
                await self._empty.wait()
        if self._sessions:
            log.warning("smtp: %d sessions cut off, their grace is over", len(self._sessions))

    async def _cut_off(self) -> None:
        """End the sessions that are left, but those with a commit under way only after its answer."""
        self._tasks = None
        while self._attending:
            for task, session in self._attending.items():
                if not session.committing:
                    task.cancel()
            await asyncio.wait(self._attending, timeout=self._limits.tick)


def _capacity(most: int) -> int:
    """``most``, or what three quarters of our descriptors allow: the spool and deliveries need some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft * 3 // 4)
