"""Delivery in a process of its own: relay and LMTP sessions, and the talk with the agents of local users.

Guarantees: it has no file of the spool, and no right to one: bodies come as octets or descriptors, intents go to the queue.

Failure: what is under way when it dies is in doubt, and the history says so (`delivery.remote`).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

import anyio
from anyio.abc import TaskGroup

from control.journal import Journal
from control.separated.accounts import Role, Seat
from control.separated.agents import hands_of
from control.separated.bonds import FAULTS
from control.separated.generation import ForDelivery
from delivery.agents import AgentHands
from delivery.dispatch import Dispatcher
from delivery.remote import DeliveryDesk
from policy.config import Config
from policy.pem import CarriedPem
from policy.route import Route
from spool.channel import Channel
from spool.errors import SpoolUnavailable
from spool.intent import MboxIntent
from spool.message import Batch
from spool.outcome import Attempt, Damaged
from spool.remote import RemoteIntents


class DeliveryProcess:
    """See the module; `control.separated.life.Child`."""

    def __init__(self, group: TaskGroup, _: Channel, __: Journal) -> None:
        self._group = group
        self._generation: ForDelivery | None = None
        self._hands: AgentHands | None = None
        self._intents: RemoteIntents | None = None
        self._dispatcher: Dispatcher | None = None
        self._standing = anyio.Event()
        self._over = anyio.Event()

    def _config(self) -> Config:
        assert self._generation is not None
        return self._generation.config

    def _pem(self) -> Mapping[str, bytes]:
        assert self._generation is not None
        return self._generation.pem

    async def take(self, generation: ForDelivery, sockets: list[socket.socket], *, is_reload: bool) -> None:
        """See `Child`. With the first one comes the wire to those who have agents started."""
        if self._hands is None:
            self._hands = hands_of(sockets.pop(0), self._commit)
        self._generation = generation

    async def talk(self, to: Seat, end: socket.socket) -> None:
        """See `Child`: the queue is there."""
        assert to.role is Role.QUEUE
        assert self._generation is not None
        desk = DeliveryDesk(self._deliver, self._config, self._now)
        channel = Channel(end, desk.offers(), FAULTS)
        await self._group.start(channel.run)
        self._group.start_soon(self._end_with, channel)
        self._intents = await RemoteIntents.connect(channel)
        places, pem = self._generation.places, CarriedPem(self._pem)
        self._dispatcher = Dispatcher.make(self._config, places, self._intents, self._hands, pem)
        self._standing.set()

    async def begin(self) -> None:
        """See `Child`: batches come as soon as the queue is there."""

    def stop(self) -> None:
        """See `Child`: the queue sees to that."""

    def end(self) -> None:
        """See `Child`."""
        self._over.set()

    async def ended(self) -> None:
        """See `Child`."""
        await self._over.wait()
        if self._dispatcher is not None:
            await self._dispatcher.aclose()
        elif self._hands is not None:
            await self._hands.aclose()

    def _now(self) -> int:
        assert self._intents is not None
        return self._intents.clock.now()

    async def _end_with(self, queue: Channel) -> None:
        """Nobody would hear what comes of the rest."""
        await queue.wait_closed()
        self._over.set()

    async def _deliver(self, batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        # The queue may have been faster than what tells of it.
        await self._standing.wait()
        assert self._dispatcher is not None
        return await self._dispatcher.deliver(batch, route)

    async def _commit(self, intents: Sequence[MboxIntent]) -> None:
        if self._intents is None:
            raise SpoolUnavailable(None, "the queue is not there")
        await self._intents.commit_intents(intents)
