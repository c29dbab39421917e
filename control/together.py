"""All roles in one process: for an ordinary user, who has no right to become others, for tests, and where one is asked for.

Ingress, scheduler, delivery, the drop reader and the control socket are tasks of the process that holds the spool.

Guarantees: ready is said when the spool is open and every socket is bound. Asked to stop, the daemon finishes what is under
way, for `ingress.limits.Limits.grace` and `scheduler.runner.GRACE` at most, and closes the spool clean. When a write may be
lost, the process ends at once and answers nobody.

Failure: `StartError`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from importlib.metadata import version
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from control.generation import Generation, GenerationRefused, read_generation
from control.notify import tell_ready, tell_reloading, tell_stopping
from control.pam.keeper import PamKeeper
from control.roles.ingress import IngressRole, People
from control.roles.queue import QueueRole, Surroundings, end_at_once, queue_reader
from control.start import Start, StartError, control_socket, first_generation, prepare_drop, spool_refused
from delivery.dispatch import Dispatcher, hands_for
from delivery.forwards import UserForwards
from ingress.dropdoor import DropFolder
from ingress.names import Names
from policy.authenticator import SystemLogins
from policy.config import Config
from policy.pam_service import service_folder
from policy.tables.passwd import system_users
from spool.errors import SpoolError
from spool.layout import Layout
from spool.listing import QueueReader
from spool.writer import SpoolWriter

_log: Final = logging.getLogger("control.daemon")


async def serve(start: Start, ready: Callable[[], None]) -> None:
    """Be the daemon until a signal asks for the end. Raises `StartError`."""
    places = start.source.places
    _require_own(places)
    _require_together(start.config)
    async with _spool(places) as spool:
        prepare_drop(places)
        with (
            closing(PamKeeper(service_folder(places))) as pam,
            control_socket(places) as control,
            queue_reader(places, spool) as reader,
        ):
            await Daemon(start, first_generation(start), spool, reader, pam).serve(control, ready)
    _log.info("Exiting")


def _require_own(places: Layout) -> None:
    """What root wrote in there, the queue's user could not read when it is that one's turn again."""
    try:
        owner = os.stat(places.spool_dir).st_uid
    except OSError:
        return
    if os.geteuid() == 0 and owner != 0:
        raise StartError(f"{places.spool_dir} belongs to the user with uid {owner}: start smtpd without --one-process")


def _require_together(config: Config) -> None:
    """More processes than one are not what this is."""
    if config.smtp_processes > 1 or config.mta_processes > 1:
        raise StartError(
            f"{config.path}: smtp processes {config.smtp_processes}, mta processes {config.mta_processes}: here one "
            "process does all the work: remove these lines, or start smtpd as root without --one-process"
        )


@asynccontextmanager
async def _spool(places: Layout) -> AsyncIterator[SpoolWriter]:
    try:
        spool = await SpoolWriter.open(places)
    except SpoolError as error:
        raise spool_refused(places, error) from error
    try:
        yield spool
    finally:
        await spool.aclose()
        if spool.lost.is_set():
            end_at_once()


class Daemon:
    """All roles in one process."""

    def __init__(
        self, start: Start, generation: Generation, spool: SpoolWriter, reader: QueueReader, pam: PamKeeper
    ) -> None:
        self._source = start.source
        self._pam = pam
        pam.start_for(generation.config)
        self._paused = start.paused
        self._config = generation.config
        self._openings = generation.openings
        places = start.source.places
        users = system_users()
        hands = hands_for(places, spool.commit_intents)
        forwards = UserForwards(hands)
        people = People(users, forwards, SystemLogins(pam.end), Names())
        self._ingress = IngressRole(DropFolder.of(places), self.config, spool, people)
        self._delivery = Dispatcher.make(self.config, places, spool, hands)
        around = Surroundings(
            places,
            self.config,
            users,
            forwards,
            self._delivery.deliver,
            self._ingress,
            start.journal,
            hands.becomes_others,
            self._refresh,
            _no_walls,
        )
        self._queue = QueueRole(around, spool, reader)
        self._queue.seal_with(generation.sealing)
        self._stop = anyio.Event()
        self._reloading = anyio.Lock()

    def config(self) -> Config:
        """The present configuration."""
        return self._config

    async def _refresh(self, table: str) -> str:
        if not table:
            # Files are looked at whenever they are asked.
            return ""
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
            _require_still_together(generation)
            self._config = generation.config
            self._pam.start_for(generation.config)
            await self._ingress.reopen(generation.openings)
            await self._queue.reconfigured(generation.sealing)
            _log.info("info: configuration reloaded")
        except GenerationRefused as error:
            for reason in error.reasons:
                _log.error("%s", reason)
            _log.error("the configuration was not reloaded: nothing has changed")
        finally:
            tell_ready()


def _require_still_together(generation: Generation) -> None:
    try:
        _require_together(generation.config)
    except StartError as error:
        generation.discard()
        raise GenerationRefused([str(error)]) from error


async def _no_walls() -> list[str]:
    """Those who have one process between them stand behind none."""
    return []
