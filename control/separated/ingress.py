"""Ingress in a process of its own: see `control.roles.ingress`.

Guarantees: it has no file of the spool, and no right to one. Its sockets are bound by the supervisor, and stay when it dies.

Failure: without the queue it takes nothing (451), until the supervisor starts it anew.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from functools import partial

import anyio
from anyio.abc import TaskGroup

from control.journal import Journal
from control.roles.ingress import IngressRole, People
from control.separated.accounts import Role, Seat
from control.separated.agents import lookers_of
from control.separated.bonds import FAULTS, FRONT_STATE, SET_RUNNING, FrontState
from control.separated.drop import RemoteDrop
from control.separated.generation import Counter, ForIngress
from control.separated.helper import Helper
from delivery.agents import AgentHands
from delivery.forwards import UserForwards
from ingress.names import Names
from ingress.openings import Opening
from policy.authenticator import SystemLogins
from policy.config import Config
from policy.tables.passwd import AskedUsers
from spool.channel import Channel, Descriptors, Offer
from spool.remote import RemoteIntake

#: Seconds between two looks at what the queue is told of us.
TELL: float = 1.0


class IngressProcess:
    """See the module; `control.separated.life.Child`."""

    def __init__(self, group: TaskGroup, _: Channel, __: Journal) -> None:
        self._group = group
        self._generation: ForIngress | None = None
        self._openings: list[Opening] = []
        self._lookers: AgentHands | None = None
        self._drop: RemoteDrop | None = None
        self._logins: SystemLogins | None = None
        self._helper = Helper()
        self._role: IngressRole | None = None
        self._standing = anyio.Event()
        self._over = anyio.Event()

    def _config(self) -> Config:
        assert self._generation is not None
        return self._generation.config

    async def take(self, generation: ForIngress, sockets: list[socket.socket], *, is_reload: bool) -> None:
        """See `Child`. With the first one come the wires to those who look at .forward files, to PAM and to the drop."""
        if self._lookers is None:
            self._lookers = lookers_of(sockets.pop(0))
            self._logins = SystemLogins(sockets.pop(0))
            if generation.reads_drop:
                self._drop = RemoteDrop(sockets.pop(0))
        self._generation = generation
        if is_reload:
            self._openings = _openings(generation.counters, sockets)
        else:
            # Their tables are others now; the sockets and the certificates stay.
            listeners = {one.place: one.listener for one in generation.counters}
            self._openings = [replace(one, listener=listeners.get(one.place, one.listener)) for one in self._openings]
        if self._role is not None and (is_reload or self._role.listening):
            await self._role.reopen(self._openings)

    async def talk(self, to: Seat, end: socket.socket) -> None:
        """See `Child`: the queue is there, or the helper."""
        if to.role is Role.HELPER:
            helper = Channel(end, (), FAULTS)
            await self._group.start(helper.run)
            self._helper.attach(helper)
            return
        assert to.role is Role.QUEUE
        assert self._generation is not None
        assert self._lookers is not None
        assert self._logins is not None
        channel = Channel(end, [Offer(SET_RUNNING, self._set_running)], FAULTS)
        await self._group.start(channel.run)
        intake = await RemoteIntake.connect(channel)
        people = People(
            AskedUsers(self._helper.find_user), UserForwards(self._lookers), self._logins,
            Names(ask=self._helper.find_name),
        )  # fmt: skip
        self._role = IngressRole(self._drop, self._config, intake, people, self._config().smtp_processes)
        self._standing.set()
        self._group.start_soon(self._tell, channel, self._role)

    async def begin(self) -> None:
        """See `Child`."""
        assert self._role is not None
        await self._group.start(self._serve, self._role)

    def stop(self) -> None:
        """See `Child`."""
        if self._role is None:
            self._over.set()
        else:
            self._role.stop()

    def end(self) -> None:
        """See `Child`."""
        self._over.set()

    async def ended(self) -> None:
        """See `Child`."""
        try:
            await self._over.wait()
        finally:
            if self._lookers is not None:
                await self._lookers.aclose()

    async def _serve(self, role: IngressRole, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with anyio.create_task_group() as work:
            await work.start(role.serve, self._openings)
            task_status.started()
        self._over.set()

    async def _set_running(self, running: bool, _: Descriptors) -> bool:
        await self._standing.wait()
        assert self._role is not None
        return await self._role.set_running(running)

    async def _tell(self, queue: Channel, role: IngressRole) -> None:
        told: FrontState | None = None
        while not queue.is_closed:
            state = FrontState(role.sessions, role.set_aside, role.trouble)
            if state != told:
                queue.tell(FRONT_STATE, state)
                told = state
            await anyio.sleep(TELL)


def _openings(counters: tuple[Counter, ...], sockets: list[socket.socket]) -> list[Opening]:
    """The listeners with what came for each."""
    return [_opening(one, sockets.pop(0) if one.has_socket else None) for one in counters]


def _opening(counter: Counter, came: socket.socket | None) -> Opening:
    if counter.keys is None:
        return Opening(counter.listener, came)
    # Certificates take 8 MB of code: for those who have one.
    from policy.pki import server_context

    make = partial(server_context, counter.listener, counter.keys)
    return Opening(counter.listener, came, make(), make)
