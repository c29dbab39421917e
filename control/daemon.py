"""The composition root: the one place that knows all the rooms, and decides which roles share a process.

Here all of them do: ingress, scheduler, delivery, the drop reader and the control socket are tasks of one process, the one
that holds the spool. Each is given the others as arguments, so that it may as well reach them through a socket.

Guarantees: ready is said when the spool is open and every socket is bound. Asked to stop, the daemon finishes what is under
way, for `ingress.limits.Limits.grace` and `scheduler.runner.GRACE` at most, closes the spool clean and ends with 0. When a
write may be lost, the process ends at once and answers nobody.

Failure: the exit status. What cannot start says why and ends with `StartError.status`; 74 when a write may be lost; 70 for a
fault of our own, after the spool was closed clean.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from control.background import Starting
from control.generation import Generation, GenerationRefused, Source, open_generation, read_generation
from control.journal import Journal
from control.notify import tell_ready, tell_reloading, tell_stopping
from control.roles.ingress import IngressRole
from control.roles.queue import QueueRole, Surroundings, end_at_once, queue_reader
from control.sockets import SocketTaken, bind_unix, remove_unix
from delivery.dispatch import Dispatcher, hands_for
from delivery.forwards import UserForwards
from ingress.drop import make_drop
from policy.config import Config
from policy.tables.passwd import SystemUsers
from spool.errors import SpoolError, SpoolInUse
from spool.layout import Layout
from spool.listing import QueueReader
from spool.writer import SpoolWriter

#: Descriptors that the process may have: connections, deliveries, files. Not more, because some programs that are started
#: close every number up to the limit.
DESCRIPTORS: Final = 65536
#: Seconds until something is tried again for which the spool could not be written.
TRY_AGAIN: Final = 1.0

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """What the command line came to."""

    source: Source
    config: Config
    journal: Journal
    #: What is paused from the beginning, as if by ``smtpctl pause``.
    paused: tuple[str, ...] = ()


class StartError(Exception):
    """The daemon cannot start."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def run(start: Start, starting: Starting | None) -> int:
    """Be the daemon; its exit status. Whoever waits at ``starting`` hears whether it stands."""
    _prepare_process()

    def ready() -> None:
        tell_ready()
        if starting is not None:
            starting.ready()

    main = partial(_serve, start, ready)
    try:
        anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})
    except StartError as error:
        print(f"smtpd: {error}", file=sys.stderr)
        if start.journal.is_elsewhere:
            _log.error("cannot start: %s", error)
        status = error.status
    except Exception:
        _log.exception("smtpd ends by a fault of its own")
        status = os.EX_SOFTWARE
    else:
        return os.EX_OK
    if starting is not None:
        starting.failed(status)
    return status


def _prepare_process() -> None:
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _serve(start: Start, ready: Callable[[], None]) -> None:
    places = start.source.places
    async with _spool(places) as spool:
        _drop_directory(places)
        with _control_socket(places) as control, queue_reader(places, spool) as reader:
            generation = _first_generation(start)
            await Daemon(start, generation, spool, reader).serve(control, ready)
    _log.info("Exiting")


@asynccontextmanager
async def _spool(places: Layout) -> AsyncIterator[SpoolWriter]:
    try:
        spool = await SpoolWriter.open(places)
    except SpoolInUse as error:
        raise StartError(str(error), os.EX_TEMPFAIL) from error
    except SpoolError as error:
        raise StartError(f"{places.spool_dir}: {error}") from error
    try:
        yield spool
    finally:
        await spool.aclose()
        if spool.lost.is_set():
            end_at_once()


def _drop_directory(places: Layout) -> None:
    try:
        make_drop(places)
    except OSError as error:
        raise StartError(f"{places.drop_dir}: {error.strerror}") from error


def _first_generation(start: Start) -> Generation:
    try:
        return open_generation(start.source, start.config)
    except GenerationRefused as error:
        raise StartError(str(error)) from error


@contextmanager
def _control_socket(places: Layout) -> Iterator[socket.socket]:
    """The control socket; at the end its name goes, and that of the submission socket beside it."""
    try:
        listening = bind_unix(places.control_socket)
    except SocketTaken as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"{places.control_socket}: {error.strerror}") from error
    try:
        yield listening
    finally:
        remove_unix(places.control_socket)
        remove_unix(places.submission_socket)


class Daemon:
    """All roles in one process."""

    def __init__(self, start: Start, generation: Generation, spool: SpoolWriter, reader: QueueReader) -> None:
        self._source = start.source
        self._paused = start.paused
        self._config = generation.config
        self._openings = generation.openings
        places = start.source.places
        users = SystemUsers()
        hands = hands_for(places, spool.commit_intents)
        forwards = UserForwards(hands)
        self._ingress = IngressRole(places, self.config, spool, users, forwards)
        self._delivery = Dispatcher.make(self.config, places, spool, hands)
        around = Surroundings(
            places, self.config, users, forwards, self._delivery.deliver, self._ingress, start.journal, self._refresh
        )
        self._queue = QueueRole(around, spool, reader)
        self._queue.seal_with(generation.sealing)
        self._stop = anyio.Event()
        self._reloading = anyio.Lock()

    def config(self) -> Config:
        """The present configuration."""
        return self._config

    async def _refresh(self, table: str) -> str:
        found = self._config.tables[table]
        await anyio.to_thread.run_sync(found.refresh)
        return found.trouble

    async def serve(self, control: socket.socket, ready: Callable[[], None]) -> None:
        """Run every role until a signal asks for the end."""
        _log.info("info: Mailspool %s starting", version("mailspool"))
        await self._queue.pause(self._paused)
        async with anyio.create_task_group() as everything:
            everything.start_soon(self._queue.end_when_lost)
            everything.start_soon(self._obey_signals, everything)
            everything.start_soon(self._queue.serve_operators, control)
            everything.start_soon(self._queue.unlock)
            async with anyio.create_task_group() as work:
                await work.start(self._ingress.serve, self._openings)
                work.start_soon(self._queue.serve)
                ready()
                await self._stop.wait()
                self._ingress.stop()
                self._queue.stop()
            await self._delivery.aclose()
            everything.cancel_scope.cancel()

    # -- signals ------------------------------------------------------------------------------------------------------

    async def _obey_signals(self, everything: TaskGroup) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number is signal.SIGHUP:
                    # Not here: a spool that cannot be written now must not keep the signal to stop from being heard.
                    everything.start_soon(self._reload)
                elif self._stop.is_set():
                    _log.warning("asked to stop twice: what is under way is broken off")
                    everything.cancel_scope.cancel()
                else:
                    tell_stopping()
                    self._stop.set()

    async def _reload(self) -> None:
        """Take a new configuration as a whole, or nothing of it; one reload at a time."""
        async with self._reloading:
            await self._take_configuration()

    async def _take_configuration(self) -> None:
        tell_reloading()
        try:
            generation = await anyio.to_thread.run_sync(read_generation, self._source, self._ingress.listening)
            self._config = generation.config
            await self._ingress.reopen(generation.openings)
            await self._queue.reconfigured(generation.sealing)
            _log.info("info: configuration reloaded")
        except GenerationRefused as error:
            for reason in error.reasons:
                _log.error("%s", reason)
            _log.error("the configuration was not reloaded: nothing has changed")
        finally:
            tell_ready()
