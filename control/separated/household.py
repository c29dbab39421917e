"""The processes of the roles, as the supervisor has them: born, supplied, brought together, seen off.

Guarantees: a role has as many processes as the configuration gave it at the start, and a seat for each, which has one
process at most. What has begun to start and cannot is ended. Two that are to talk have a channel of their own, anew
whenever one of them is new.

Failure: `ChannelClosed` or `CallFailed` when a process ends while it is being supplied, the spool's errors when the queue
cannot have it, `OSError` when no process is to be had.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from control.generation import Generation
from control.pam.keeper import PamKeeper
from control.separated.accounts import Account, Role, Seat
from control.separated.bonds import BEGIN, FAULTS, SPEAK, TAKE, TALK, Take, Talk, Voice
from control.separated.cradled import Cradle
from control.separated.drop import DropErrands
from control.separated.errands import Errands
from control.separated.generation import Counter, ForDelivery, ForIngress, ForQueue, pem_of, written
from control.separated.grounds import grounds_of
from control.separated.standings import Standings
from control.start import Start
from delivery.identity import Identity, NoSuchUser, identity_in
from delivery.recruits import Recruiter
from ingress.dropdoor import DropFolder
from ingress.openings import Place
from policy.config import Config, LocalAction
from policy.errors import TableUnavailable
from policy.pam_service import service_folder
from policy.tables.held import portable
from spool.channel import CallFailed, Channel, ChannelClosed, Method, Offer, pair
from spool.errors import SpoolError
from spool.faults import NO_FAULTS

_log: Final = logging.getLogger("control.daemon")

#: The order in which they are started and told to begin.
_ORDER: Final = (Role.QUEUE, Role.HELPER, Role.DELIVERY, Role.INGRESS)
#: Seconds that a killed process is waited for; one that hangs in the kernel is left to it.
LAST_WAIT: Final = 5.0
#: Those who go by the configuration, in the order in which a new one comes to them.
_SUPPLIED: Final = (Role.DELIVERY, Role.INGRESS, Role.QUEUE)
#: Who talks to whom; the first of two hears of it first.
_PAIRS: Final = ((Role.QUEUE, Role.DELIVERY), (Role.QUEUE, Role.INGRESS), (Role.HELPER, Role.INGRESS))


class Process:
    """One that runs. Its descriptor is closed when somebody has attended its end."""

    def __init__(self, seat: Seat, pidfd: int, channel: Channel) -> None:
        self.seat = seat
        self.channel = channel
        self.over = anyio.Event()
        self._pidfd = pidfd

    async def attend(self) -> None:
        """Until it has ended."""
        await anyio.wait_readable(self._pidfd)
        self.over.set()
        os.close(self._pidfd)

    def kill(self) -> None:
        """End it at once."""
        if not self.over.is_set():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


class Household:
    """See the module."""

    def __init__(self, start: Start, users: dict[Role, Account], control: socket.socket) -> None:
        self._start = start
        self._places = start.source.places
        self._users = users
        self._control = control
        self._grounds = grounds_of(self._places, start.config)
        self._standings = Standings()
        self._cradle = start.cradle or Cradle(to_syslog=start.journal.is_elsewhere)
        if start.cradle is None:
            self._cradle.start()
        self._recruiter = Recruiter(self._places.mail_dir)
        self._counts = _counts(start.config)
        self._seats = tuple(Seat(role, number) for role in _ORDER for number in range(1, self._counts[role] + 1))
        #: One for each ingress: who asks through one end must be one alone.
        self._pams = {
            seat: PamKeeper(service_folder(self._places)) for seat in self._seats if seat.role is Role.INGRESS
        }
        self._processes: dict[Seat, Process] = {}
        self._sockets: dict[Place, socket.socket] = {}
        self._tasks: TaskGroup | None = None
        self._offers: Sequence[Offer] = ()
        self._generation: Generation | None = None
        self._missing = anyio.Event()
        #: Held while processes are started or supplied.
        self._busy = anyio.Lock()
        #: The cradle serves one at a time.
        self._forking = anyio.Lock()

    @property
    def config(self) -> Config:
        """The present configuration."""
        return self._present.config

    @property
    def listening(self) -> frozenset[Place]:
        """The places that sockets are bound to."""
        return frozenset(self._sockets)

    @property
    def _present(self) -> Generation:
        assert self._generation is not None
        return self._generation

    # -- beginning and end --------------------------------------------------------------------------------------------

    async def move_in(self, tasks: TaskGroup, generation: Generation, offers: Sequence[Offer]) -> None:
        """Start every role, by this configuration. ``offers`` are for the queue."""
        self._tasks = tasks
        self._offers = offers
        self._generation = generation
        self._keep_sockets(generation)
        async with self._busy:
            await self._start_seats(self._seats)

    async def aclose(self) -> None:
        """Nobody is left, and no socket."""
        self.kill()
        await anyio.to_thread.run_sync(self._cradle.close)
        await anyio.to_thread.run_sync(self._recruiter.close)
        for pam in self._pams.values():
            await anyio.to_thread.run_sync(pam.close)
        for one in self._sockets.values():
            one.close()

    def kill(self, *roles: Role) -> None:
        """End these at once, or all."""
        for process in list(self._processes.values()):
            if not roles or process.seat.role in roles:
                process.kill()

    async def see_off(self, role: Role, patience: float) -> None:
        """Wait until those of that role have ended by themselves, and end them when they have not."""
        async with anyio.create_task_group() as group:
            for process in self._of(role):
                group.start_soon(_see_off, process, patience)

    async def tell(self, role: Role, method: Method[Any, Any], argument: object = None) -> None:
        """Call those of that role who are there to hear it."""
        async with anyio.create_task_group() as group:
            for process in self._of(role):
                group.start_soon(_call, process, method, argument)

    def _of(self, role: Role) -> list[Process]:
        """Those who live."""
        processes = [self._processes[seat] for seat in self._seats if seat.role is role and seat in self._processes]
        return [process for process in processes if not process.over.is_set()]

    # -- deaths -------------------------------------------------------------------------------------------------------

    async def until_one_is_missing(self) -> None:
        """Return when a role has no process any more."""
        while not list(self._dead()):
            self._missing = anyio.Event()
            await self._missing.wait()

    async def replace_missing(self) -> None:
        """Start anew what has died. Without its queue no process has anything to do: all of them are started anew then."""
        async with self._busy:
            dead = list(self._dead())
            for seat in dead:
                _log.error("the %s process has died: another takes its place", seat.name)
            if Seat(Role.QUEUE) in dead:
                self.kill()
                for process in self._processes.values():
                    await process.over.wait()
                dead = list(self._seats)
            await self._start_seats(dead)

    def _dead(self) -> Iterator[Seat]:
        for seat in self._seats:
            process = self._processes.get(seat)
            if process is None or process.over.is_set():
                yield seat

    async def _attend(self, process: Process) -> None:
        await process.attend()
        process.channel.close("it has ended")
        self._missing.set()

    # -- births -------------------------------------------------------------------------------------------------------

    async def _start_seats(self, seats: Sequence[Seat]) -> None:
        try:
            await self._start_each(seats)
            # Ingress is served by the queue as soon as it hears of it, and may ask the helper then.
            for one, other in reversed(_PAIRS):
                for first, second in product(self._of(one), self._of(other)):
                    if first.seat in seats or second.seat in seats:
                        await self._bring_together(first, second)
            for seat in seats:
                await self._processes[seat].channel.call(BEGIN, None)
        except BaseException:
            # Half of what a process needs is nothing that it could do its work with.
            for seat in seats:
                if seat in self._processes:
                    self._processes[seat].kill()
            raise

    async def _start_each(self, seats: Sequence[Seat]) -> None:
        """All at once, for there is more than one processor; raises what the first of them met."""
        met: dict[Seat, Exception] = {}

        async def start(seat: Seat) -> None:
            try:
                await self._start_one(seat)
            except (ChannelClosed, CallFailed, SpoolError, OSError) as error:
                met[seat] = error

        async with anyio.create_task_group() as starting:
            for seat in seats:
                starting.start_soon(start, seat)
        for seat in seats:
            if seat in met:
                raise met[seat]

    async def _start_one(self, seat: Seat) -> None:
        assert self._tasks is not None
        role = seat.role
        near, far = pair()
        with far:
            async with self._forking:
                _, pidfd = await anyio.to_thread.run_sync(
                    self._cradle.fork, role, self._users[role], self._grounds, far
                )
        is_queue = role is Role.QUEUE
        offers = (*self._standings.offers(seat), *(self._offers if is_queue else ()))
        # Of the spool nobody else has anything to tell, least of all the end of everything.
        channel = Channel(near, offers, FAULTS, believed=FAULTS if is_queue else NO_FAULTS)
        process = self._processes[seat] = Process(seat, pidfd, channel)
        await self._tasks.start(channel.run)
        self._tasks.start_soon(self._attend, process)
        journal = self._start.journal
        await channel.call(SPEAK, Voice(journal.verbose, sorted(journal.traced)))
        with ExitStack() as opened:
            sockets = [] if role is Role.HELPER else [opened.enter_context(self._errands(role))]
            match role:
                case Role.QUEUE:
                    sockets.insert(0, self._control)
                case Role.INGRESS:
                    sockets.append(self._pams[seat].end)
                    if _reads_drop(seat):
                        drop = DropErrands(DropFolder.of(self._places))
                        sockets.append(opened.enter_context(_served("drop", drop.serve)))
                    sockets += self._sockets.values()
            octets = await anyio.to_thread.run_sync(self._written, seat, set(self._sockets))
            await channel.call(TAKE, Take(octets, True), [one.fileno() for one in sockets])

    def _errands(self, role: Role) -> socket.socket:
        errands = Errands(role, self._recruiter, self._places.mail_dir, self._virtual)
        return _served(f"errands of {role.value}", errands.serve)

    def _virtual(self, name: str, uid: int) -> Identity | None:
        """The user of a configuration's own table."""
        for action in self.config.actions.values():
            userbase = action.userbase if isinstance(action, LocalAction) else None
            if userbase is None:
                continue
            with suppress(NoSuchUser, TableUnavailable):
                found = identity_in(userbase, name)
                if found.uid == uid:
                    return found
        return None

    async def _bring_together(self, one: Process, other: Process) -> None:
        near, far = pair()
        with near, far:
            await one.channel.call(TALK, _talk_to(other), [near.fileno()])
            await other.channel.call(TALK, _talk_to(one), [far.fileno()])

    def refusals(self, config: Config) -> list[str]:
        """Why the processes that there are cannot go by this configuration."""
        wanted = _counts(config)
        return self._grounds.refusals(config) + [
            f"{words} {wanted[role]}: the daemon was started with {self._counts[role]}: restart smtpd"
            for role, words in ((Role.INGRESS, "smtp processes"), (Role.DELIVERY, "mta processes"))
            if wanted[role] != self._counts[role]
        ]

    # -- supplies -----------------------------------------------------------------------------------------------------

    async def give(self, generation: Generation) -> None:
        """Have everybody go by this configuration."""
        async with self._busy:
            new = [opening.place for opening in generation.openings if opening.socket is not None]
            self._generation = generation
            self._keep_sockets(generation)
            for seat in self._supplied():
                sockets = [self._sockets[place].fileno() for place in new] if seat.role is Role.INGRESS else []
                await self._supply(seat, set(new), sockets, is_reload=True)

    async def bring_tables(self) -> None:
        """Have everybody go by what the tables say now."""
        async with self._busy:
            for seat in self._supplied():
                await self._supply(seat, set(), [], is_reload=False)

    def _supplied(self) -> list[Seat]:
        return [seat for role in _SUPPLIED for seat in self._seats if seat.role is role]

    async def _supply(self, seat: Seat, new: set[Place], sockets: Sequence[int], *, is_reload: bool) -> None:
        octets = await anyio.to_thread.run_sync(self._written, seat, new)
        process = self._processes[seat]
        # One that has just died gets it with its life.
        with _passing(seat):
            await process.channel.call(TAKE, Take(octets, is_reload), sockets)

    def _written(self, seat: Seat, new: set[Place]) -> bytes:
        config, role = self.config, seat.role
        match role:
            case Role.QUEUE:
                return written(role, ForQueue(config, self._places, self._present.sealing, self._start.paused))
            case Role.HELPER:
                return portable(None)
            case Role.DELIVERY:
                return written(role, ForDelivery(config, self._places, pem_of(config)))
            case Role.INGRESS:
                return written(role, ForIngress(config, self._places, tuple(self._counters(new)), _reads_drop(seat)))

    def _counters(self, new: set[Place]) -> Iterator[Counter]:
        """In the order in which `Household` keeps the sockets."""
        openings = {opening.place: opening.listener for opening in self._present.openings}
        for place in self._sockets:
            listener = openings[place]
            yield Counter(listener, place in new, self._present.keys.get(place))

    def _keep_sockets(self, generation: Generation) -> None:
        """Keep what was bound for this generation, and close what it has no listener for."""
        for pam in self._pams.values():
            pam.start_for(generation.config)
        wanted = {opening.place for opening in generation.openings}
        for place in set(self._sockets) - wanted:
            self._sockets.pop(place).close()
        for opening in generation.openings:
            if opening.socket is not None:
                self._sockets[opening.place] = opening.socket


def _counts(config: Config) -> dict[Role, int]:
    """How many processes each role has."""
    return {
        Role.QUEUE: 1,
        Role.HELPER: 1,
        Role.DELIVERY: config.mta_processes,
        Role.INGRESS: config.smtp_processes,
    }


def _reads_drop(seat: Seat) -> bool:
    """One is enough, and more would get in each other's way."""
    return seat.number == 1


async def _see_off(process: Process, patience: float) -> None:
    with anyio.move_on_after(patience):
        await process.over.wait()
    if not process.over.is_set():
        _log.warning("the %s process did not end in %d s: it is killed", process.seat.name, patience)
        process.kill()
        with anyio.move_on_after(LAST_WAIT):
            await process.over.wait()


async def _call(process: Process, method: Method[Any, Any], argument: object) -> None:
    with _passing(process.seat):
        await process.channel.call(method, argument)


def _talk_to(process: Process) -> Talk:
    return Talk(process.seat.role.value, process.seat.number)


@contextmanager
def _passing(seat: Seat) -> Iterator[None]:
    """What goes wrong in one process ends no other."""
    try:
        yield
    except ChannelClosed:
        return
    except (CallFailed, SpoolError) as error:
        _log.warning("the %s process could not do what it was told: %s", seat.name, error)


def _served(name: str, serve: Callable[[socket.socket], None]) -> socket.socket:
    """The end of a wire at whose other end a thread serves."""
    near, far = socket.socketpair()
    threading.Thread(target=serve, args=(near,), name=name, daemon=True).start()
    return far
