"""The queue: the spool, the scheduler and the control socket, in the one process that writes the spool.

Guarantees: as `scheduler.runner` and `control.server`. When a write may be lost the process ends at once and answers nobody.

Failure: `QueueRole.serve` raises what its rooms raise. A full or unavailable spool is waited for.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, TypeVar

import anyio

from control.commands import Commands, Desk, Loudness, Switch
from control.explain_routes import Ways
from control.explaining import Explainer
from control.figures import Figures
from control.roles.ingress import Front
from control.server import ControlServer
from control.switches import TrafficSwitch
from delivery.bounce import Reporter
from delivery.resolver import Resolver
from policy.admit import admit
from policy.config import Config
from policy.forward import Forwards
from policy.tables.passwd import Users
from policy.tables.table import Table
from scheduler.limits import Traffic
from scheduler.runner import Runner
from scheduler.sessions import Deliver
from spool.errors import SpoolFull, SpoolUnavailable
from spool.layout import Layout
from spool.listing import QueueReader
from spool.seal import Sealing
from spool.writer import SpoolWriter

#: Seconds until something is tried again for which the spool could not be written.
TRY_AGAIN: Final = 1.0

T = TypeVar("T")

_log: Final = logging.getLogger("control.daemon")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lies outside of the queue."""

    places: Layout
    #: The present configuration.
    config: Callable[[], Config]
    users: Users
    forwards: Forwards
    deliver: Deliver
    front: Front
    journal: Loudness
    #: Whether mail is delivered as others than the user who runs this.
    becomes_others: bool
    #: Reads a table anew, or all for an empty name, wherever they are asked; what was wrong with it, or nothing.
    refresh: Callable[[str], Awaitable[str]]
    #: What keeps each process in, a line for each; none where there is one process for all.
    walls: Callable[[], Awaitable[Sequence[str]]]


class QueueRole:
    """See the module."""

    def __init__(self, around: Surroundings, spool: SpoolWriter, reader: QueueReader) -> None:
        config = self._config = around.config
        self._spool = spool
        decide = partial(admit, users=around.users, forwards=around.forwards)
        reporter = Reporter(config, spool.clock, around.users, around.forwards)
        self._runner = Runner(spool, config, around.deliver, reporter.report)
        self._parts: dict[str, Switch] = {
            "mda": TrafficSwitch(self._runner, Traffic.LOCAL),
            "mta": TrafficSwitch(self._runner, Traffic.RELAY),
            "smtp": around.front,
        }
        figures = Figures(spool, reader, self._runner, around.front, self._fingerprints, time.monotonic())
        ways = Ways(around.places, partial(Resolver.of_machine, around.places), becomes_others=around.becomes_others)
        explainer = Explainer(config, decide, ways, running=True)
        desk = Desk(
            spool, reader, self._runner, around.journal, self._parts, figures, explainer, config, self._tables,
            around.refresh, around.walls,
        )  # fmt: skip
        self._control = ControlServer(Commands(desk))

    def _fingerprints(self) -> frozenset[str]:
        return self._spool.bodies.sealing.fingerprints

    def _tables(self) -> Mapping[str, Table]:
        return self._config().tables

    async def pause(self, parts: Sequence[str]) -> None:
        """Pause these from the beginning, as if by ``smtpctl pause``."""
        if parts:
            await self._runner.recall_paused()
        for part in parts:
            await self._parts[part].set_running(False)

    async def serve_operators(self, control: socket.socket) -> None:
        """Answer at the control socket until cancelled."""
        await self._control.serve(control)

    async def end_when_lost(self) -> None:
        """End the process when a write may be lost."""
        await self._spool.lost.wait()
        end_at_once()

    async def serve(self) -> None:
        """Schedule until `stop`."""
        await self._runner.run()

    def stop(self) -> None:
        """Claim nothing more, and come to an end."""
        self._runner.stop()

    async def reconfigured(self, sealing: Sealing) -> None:
        """Bring queued mail in line with the configuration that there is now."""
        self.seal_with(sealing)
        await when_writable(self._runner.reconfigured)
        await self.unlock()

    def seal_with(self, sealing: Sealing) -> None:
        """Seal what comes from here on."""
        self._spool.seal_with(sealing)
        if sealing.key:
            _log.info("info: waiting mail is sealed with key %s", sealing.key.fingerprint)

    async def unlock(self) -> None:
        """Let mail flow that was held for want of a key."""
        if freed := await when_writable(self._spool.unlock):
            _log.info("info: %d envelopes waited for their key, which is here now", freed)


async def when_writable(work: Callable[[], Awaitable[T]]) -> T:
    """Do it as soon as the spool can be written; what keeps it from that is in the log already."""
    while True:
        try:
            return await work()
        except (SpoolFull, SpoolUnavailable):
            pass
        except ExceptionGroup as group:
            if group.split((SpoolFull, SpoolUnavailable))[1] is not None:
                raise
        await anyio.sleep(TRY_AGAIN)


def end_at_once() -> NoReturn:
    """Leave without another answer: what was not acknowledged was not promised, and the next start looks at the disk."""
    _log.error("a write to the spool may be lost: look for trouble with the disk (dmesg), then start smtpd again")
    logging.shutdown()
    os._exit(os.EX_IOERR)


@contextmanager
def queue_reader(places: Layout, spool: SpoolWriter) -> Iterator[QueueReader]:
    """For the queries of operators, beside the spool."""
    reader = QueueReader.beside(places.spool_dir, spool.clock, spool.bodies)
    try:
        yield reader
    finally:
        reader.close()
