"""The queue in a process of its own: see `control.roles.queue`.

Guarantees: the spool is closed clean whenever the process ends by itself, and after the last message that ingress brings.

Failure: the spool's errors from `take`. A write that may be lost is told to the supervisor, and the process ends at once.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, suppress

import anyio
from anyio.abc import TaskGroup

from control.journal import Journal
from control.roles.queue import QueueRole, Surroundings, end_at_once, queue_reader
from control.separated.accounts import Role, Seat
from control.separated.agents import lookers_of
from control.separated.bonds import (
    FAULTS,
    FRONT_STATE,
    LOST,
    REFRESH_TABLE,
    SET_RUNNING,
    SET_VOICE,
    SHOW_WALLS,
    FrontState,
    Voice,
)
from control.separated.generation import ForQueue
from delivery.forwards import UserForwards
from delivery.remote import RemoteDelivery
from policy.config import Config
from policy.tables.passwd import system_users
from spool.channel import MAX_LOAD, CallFailed, Channel, ChannelClosed, Descriptors, Offer
from spool.faults import NO_FAULTS
from spool.serving import IntakeDesk, IntentsDesk
from spool.writer import SpoolWriter


class QueueProcess:
    """See the module; `control.separated.life.Child`."""

    def __init__(self, group: TaskGroup, supervisor: Channel, journal: Journal) -> None:
        self._group = group
        self._supervisor = supervisor
        self._voice = SharedVoice(journal, supervisor)
        self._front = RemoteFront()
        self._generation: ForQueue | None = None
        self._control: socket.socket | None = None
        self._spool: SpoolWriter | None = None
        self._delivery: RemoteDelivery | None = None
        self._queue: QueueRole | None = None
        self._resources = AsyncExitStack()
        self._end = anyio.Event()
        self._over = anyio.Event()

    def _config(self) -> Config:
        assert self._generation is not None
        return self._generation.config

    async def take(self, generation: ForQueue, sockets: list[socket.socket], *, is_reload: bool) -> None:
        """See `Child`. The first one opens the spool; raises `SpoolError`."""
        self._generation = generation
        if self._queue is not None:
            if is_reload:
                await self._queue.reconfigured(generation.sealing)
            return
        self._control, agents = sockets
        self._spool = await SpoolWriter.open(generation.places)
        self._group.start_soon(self._end_when_lost, self._spool)
        reader = self._resources.enter_context(queue_reader(generation.places, self._spool))
        self._delivery = RemoteDelivery(self._spool.clock, self._counts_connections)
        lookers = lookers_of(agents)
        self._resources.push_async_callback(lookers.aclose)
        around = Surroundings(
            generation.places, self._config, system_users(), UserForwards(lookers), self._delivery.deliver,
            self._front, self._voice, True, self._refresh, self._walls,
        )  # fmt: skip
        self._queue = QueueRole(around, self._spool, reader)
        self._queue.seal_with(generation.sealing)

    def _counts_connections(self) -> bool:
        return self._config().limits.counts_connections

    async def talk(self, to: Seat, end: socket.socket) -> None:
        """See `Child`."""
        assert self._spool is not None
        assert self._delivery is not None
        match to.role:
            case Role.INGRESS:
                await self._talk_to_ingress(end, self._spool)
            case Role.DELIVERY:
                channel = Channel(end, IntentsDesk(self._spool).offers(), FAULTS, believed=NO_FAULTS)
                await self._group.start(channel.run)
                self._delivery.attach(channel, to.number)

    async def _talk_to_ingress(self, end: socket.socket, spool: SpoolWriter) -> None:
        desk = IntakeDesk(spool)
        speaker = Speaker()
        offers = [*desk.offers(), Offer(FRONT_STATE, speaker.hear)]
        speaker.channel = channel = Channel(end, offers, FAULTS, MAX_LOAD, NO_FAULTS)
        await self._group.start(channel.run)
        self._front.attach(speaker)
        self._group.start_soon(self._clear_up_after, channel, desk)
        if not self._front.running:
            self._group.start_soon(self._front.tell)

    async def _clear_up_after(self, channel: Channel, desk: IntakeDesk) -> None:
        await channel.wait_closed()
        desk.close()

    async def begin(self) -> None:
        """See `Child`."""
        assert self._generation is not None
        assert self._queue is not None
        await self._queue.pause(self._generation.paused)
        self._group.start_soon(self._serve, self._queue)

    def stop(self) -> None:
        """See `Child`: what is under way ends, and what ingress brings is still taken."""
        if self._queue is not None:
            self._queue.stop()

    def end(self) -> None:
        """See `Child`: ingress has gone."""
        self._end.set()

    async def ended(self) -> None:
        """See `Child`."""
        try:
            await self._end.wait()
            await self._over.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self._resources.aclose()
                if self._spool is not None:
                    await self._spool.aclose()
                    if self._spool.lost.is_set():
                        self._tell_loss()

    async def _serve(self, queue: QueueRole) -> None:
        assert self._control is not None
        async with anyio.create_task_group() as group:
            group.start_soon(queue.serve_operators, self._control)
            group.start_soon(queue.unlock)
            await queue.serve()
            await self._end.wait()
            group.cancel_scope.cancel()
        self._over.set()

    async def _end_when_lost(self, spool: SpoolWriter) -> None:
        await spool.lost.wait()
        self._tell_loss()

    def _tell_loss(self) -> None:
        if not self._supervisor.is_closed:
            self._supervisor.tell(LOST, None)
        end_at_once()

    async def _walls(self) -> list[str]:
        return await self._supervisor.call(SHOW_WALLS, None)

    async def _refresh(self, table: str) -> str:
        answer = await self._supervisor.call(REFRESH_TABLE, table)
        return answer.text


class SharedVoice:
    """How much the log says, in all processes alike; `control.commands.Loudness`."""

    def __init__(self, journal: Journal, supervisor: Channel) -> None:
        self._journal = journal
        self._supervisor = supervisor

    def set_verbose(self, verbose: bool) -> None:
        """See `control.journal.Journal`."""
        self._journal.set_verbose(verbose)
        self._tell()

    def trace(self, subsystem: str) -> None:
        """See `control.journal.Journal`."""
        self._journal.trace(subsystem)
        self._tell()

    def untrace(self, subsystem: str) -> None:
        """See `control.journal.Journal`."""
        self._journal.untrace(subsystem)
        self._tell()

    def _tell(self) -> None:
        self._supervisor.tell(SET_VOICE, Voice(self._journal.verbose, sorted(self._journal.traced)))


class Speaker:
    """One ingress process: what it has said of itself, and the channel to it."""

    def __init__(self) -> None:
        self.state = FrontState(0, 0)
        self.channel: Channel | None = None

    @property
    def is_there(self) -> bool:
        """Whether it lives."""
        return self.channel is not None and not self.channel.is_closed

    async def hear(self, state: FrontState, _: Descriptors) -> None:
        """It says how it stands."""
        self.state = state

    async def tell(self, running: bool) -> None:
        """Say what is wanted, if it is there to hear it."""
        if self.channel is not None:
            with suppress(ChannelClosed, CallFailed):
                await self.channel.call(SET_RUNNING, running)


class RemoteFront:
    """Ingress in other processes; `control.roles.ingress.Front`. What it shows is a second old at most."""

    def __init__(self) -> None:
        self.running = True
        self._speakers: list[Speaker] = []

    @property
    def sessions(self) -> int:
        """See `Front`."""
        return sum(one.state.sessions for one in self._speakers if one.is_there)

    @property
    def set_aside(self) -> int:
        """See `Front`. One of them reads the drop."""
        return max((one.state.set_aside for one in self._speakers), default=0)

    @property
    def trouble(self) -> str:
        """See `Front`."""
        return next((one.state.trouble for one in self._speakers if one.is_there and one.state.trouble), "")

    def attach(self, speaker: Speaker) -> None:
        """There is a new one."""
        self._speakers = [*(one for one in self._speakers if one.is_there), speaker]

    async def set_running(self, running: bool) -> bool:
        """See `Front`. One that is being started anew is told when it is there."""
        if self.running is running:
            return False
        self.running = running
        await self.tell()
        return True

    async def tell(self) -> None:
        """Say what is wanted to those who are there."""
        for one in self._speakers:
            await one.tell(self.running)
