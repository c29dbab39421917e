"""The processes of the roles, as the supervisor has them: born, supplied, brought together, seen off.

Guarantees: a role has one process at most. Two that are to talk have a channel of their own, anew whenever one of them is
new.

Failure: `ChannelClosed` or `CallFailed` when a process ends while it is being supplied, the spool's errors when the queue
cannot have it, `OSError` when no process is to be had.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from control.generation import Generation
from control.pam.keeper import PamKeeper
from control.separated.accounts import Account, Role
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
from ingress.listener import Place
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
    """One that runs."""

    def __init__(self, role: Role, pidfd: int, channel: Channel) -> None:
        self.role = role
        self.channel = channel
        self.over = anyio.Event()
        self._pidfd = pidfd

    async def attend(self) -> None:
        """Until it has ended."""
        await anyio.wait_readable(self._pidfd)
        self.over.set()

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
        self._pam = PamKeeper(service_folder(self._places))
        self._processes: dict[Role, Process] = {}
        self._sockets: dict[Place, socket.socket] = {}
        self._tasks: TaskGroup | None = None
        self._offers: Sequence[Offer] = ()
        self._generation: Generation | None = None
        self._missing = anyio.Event()
        #: Held while processes are started or supplied.
        self._busy = anyio.Lock()

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
            await self._start_roles(_ORDER)

    async def aclose(self) -> None:
        """Nobody is left, and no socket."""
        self.kill()
        await anyio.to_thread.run_sync(self._cradle.close)
        await anyio.to_thread.run_sync(self._recruiter.close)
        await anyio.to_thread.run_sync(self._pam.close)
        for one in self._sockets.values():
            one.close()

    def kill(self, *roles: Role) -> None:
        """End these at once, or all."""
        for process in list(self._processes.values()):
            if not roles or process.role in roles:
                process.kill()

    async def see_off(self, role: Role, patience: float) -> None:
        """Wait until that one has ended by itself, and end it when it has not."""
        process = self._processes.get(role)
        if process is None:
            return
        with anyio.move_on_after(patience):
            await process.over.wait()
        if not process.over.is_set():
            _log.warning("the %s process did not end in %d s: it is killed", role.value, patience)
            process.kill()
            with anyio.move_on_after(LAST_WAIT):
                await process.over.wait()

    async def tell(self, role: Role, method: Method[Any, Any], argument: object = None) -> None:
        """Call that one, if it is there to hear it."""
        process = self._processes.get(role)
        if process is not None:
            with _passing(role):
                await process.channel.call(method, argument)

    # -- deaths -------------------------------------------------------------------------------------------------------

    async def until_one_is_missing(self) -> None:
        """Return when a role has no process any more."""
        while not list(self._dead()):
            self._missing = anyio.Event()
            await self._missing.wait()

    async def replace_missing(self) -> None:
        """Start anew what has died. Without its queue no process has anything to do: all of them are started anew then."""
        async with self._busy:
            dead = [role for role in _ORDER if role in set(self._dead())]
            for role in dead:
                _log.error("the %s process has died: another takes its place", role.value)
            if Role.QUEUE in dead:
                self.kill()
                for process in self._processes.values():
                    await process.over.wait()
                dead = list(_ORDER)
            await self._start_roles(dead)

    def _dead(self) -> Iterator[Role]:
        for role in _ORDER:
            process = self._processes.get(role)
            if process is None or process.over.is_set():
                yield role

    async def _attend(self, process: Process) -> None:
        await process.attend()
        process.channel.close("it has ended")
        self._missing.set()

    # -- births -------------------------------------------------------------------------------------------------------

    async def _start_roles(self, roles: Sequence[Role]) -> None:
        for role in roles:
            await self._start_one(role)
        # Ingress is served by the queue as soon as it hears of it, and may ask the helper then.
        for one, other in reversed(_PAIRS):
            if one in roles or other in roles:
                await self._bring_together(self._processes[one], self._processes[other])
        for role in roles:
            await self._processes[role].channel.call(BEGIN, None)

    async def _start_one(self, role: Role) -> None:
        assert self._tasks is not None
        near, far = pair()
        with far:
            _, pidfd = await anyio.to_thread.run_sync(self._cradle.fork, role, self._users[role], self._grounds, far)
        is_queue = role is Role.QUEUE
        offers = (*self._standings.offers(role), *(self._offers if is_queue else ()))
        # Of the spool nobody else has anything to tell, least of all the end of everything.
        channel = Channel(near, offers, FAULTS, believed=FAULTS if is_queue else NO_FAULTS)
        process = self._processes[role] = Process(role, pidfd, channel)
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
                    drop = DropErrands(DropFolder.of(self._places))
                    sockets.append(opened.enter_context(_served("drop", drop.serve)))
                    sockets.append(self._pam.end)
                    sockets += self._sockets.values()
            octets = await anyio.to_thread.run_sync(self._written, role, set(self._sockets))
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
            await one.channel.call(TALK, Talk(other.role.value), [near.fileno()])
            await other.channel.call(TALK, Talk(one.role.value), [far.fileno()])

    def refusals(self, config: Config) -> list[str]:
        """Why the processes that there are cannot go by this configuration."""
        return self._grounds.refusals(config)

    # -- supplies -----------------------------------------------------------------------------------------------------

    async def give(self, generation: Generation) -> None:
        """Have everybody go by this configuration."""
        async with self._busy:
            new = [opening.place for opening in generation.openings if opening.socket is not None]
            self._generation = generation
            self._keep_sockets(generation)
            for role in _SUPPLIED:
                sockets = [self._sockets[place].fileno() for place in new] if role is Role.INGRESS else []
                await self._supply(role, set(new), sockets, is_reload=True)

    async def bring_tables(self) -> None:
        """Have everybody go by what the tables say now."""
        async with self._busy:
            for role in _SUPPLIED:
                await self._supply(role, set(), [], is_reload=False)

    async def _supply(self, role: Role, new: set[Place], sockets: Sequence[int], *, is_reload: bool) -> None:
        octets = await anyio.to_thread.run_sync(self._written, role, new)
        process = self._processes[role]
        # One that has just died gets it with its life.
        with _passing(role):
            await process.channel.call(TAKE, Take(octets, is_reload), sockets)

    def _written(self, role: Role, new: set[Place]) -> bytes:
        config = self.config
        match role:
            case Role.QUEUE:
                return written(role, ForQueue(config, self._places, self._present.sealing, self._start.paused))
            case Role.HELPER:
                return portable(None)
            case Role.DELIVERY:
                return written(role, ForDelivery(config, self._places, pem_of(config)))
            case Role.INGRESS:
                return written(role, ForIngress(config, self._places, tuple(self._counters(new))))

    def _counters(self, new: set[Place]) -> Iterator[Counter]:
        """In the order in which `Household` keeps the sockets."""
        openings = {opening.place: opening.listener for opening in self._present.openings}
        for place in self._sockets:
            listener = openings[place]
            yield Counter(listener, place in new, self._present.keys.get(place))

    def _keep_sockets(self, generation: Generation) -> None:
        """Keep what was bound for this generation, and close what it has no listener for."""
        self._pam.start_for(generation.config)
        wanted = {opening.place for opening in generation.openings}
        for place in set(self._sockets) - wanted:
            self._sockets.pop(place).close()
        for opening in generation.openings:
            if opening.socket is not None:
                self._sockets[opening.place] = opening.socket


@contextmanager
def _passing(role: Role) -> Iterator[None]:
    """What goes wrong in one process ends no other."""
    try:
        yield
    except ChannelClosed:
        return
    except (CallFailed, SpoolError) as error:
        _log.warning("the %s process could not do what it was told: %s", role.value, error)


def _served(name: str, serve: Callable[[socket.socket], None]) -> socket.socket:
    """The end of a wire at whose other end a thread serves."""
    near, far = socket.socketpair()
    threading.Thread(target=serve, args=(near,), name=name, daemon=True).start()
    return far
