"""A scheduler on a real spool whose time a test moves, and deliveries that do as they are told."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from policy.config import Config, Relay
from policy.route import Route
from scheduler.retry import Timetable
from scheduler.runner import Pace, Runner
from spool.address import NULL_SENDER
from spool.files import SystemOps
from spool.lane import Lane
from spool.layout import Layout
from spool.message import Batch, Claimed, Submission
from spool.outcome import Attempt, Damaged, Deferred, Failed, Outcome
from spool.report import ReportLine
from spool.writer import SpoolWriter
from tests.tools.in_flight import LOCAL, config_of
from tests.tools.spooled import DONE, HandClock, Letter, submission

#: Seconds within which everything that a test waits for has happened.
PATIENCE = 10.0
PACE = Pace(tick=0.02, grace=PATIENCE, timetable=Timetable(lambda: 0.5))
#: Both ways of relaying, and mailboxes.
CONFIG = config_of(*config_of().actions.values(), Relay(name="mx"))


class FullDisk(SystemOps):
    """A file system that is full, or that loses what is written, as long as a test says so."""

    def __init__(self) -> None:
        self.is_full = False
        self.is_lost = False

    def commit(self, connection: sqlite3.Connection) -> None:
        if self.is_full:
            raise _error("database or disk is full", sqlite3.SQLITE_FULL, "SQLITE_FULL")
        if self.is_lost:
            raise _error("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")
        super().commit(connection)


def _error(text: str, code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@dataclass
class World:
    """Deliveries as they are told, and what was asked of them."""

    spool: SpoolWriter
    clock: HandClock
    config: Config = CONFIG
    #: What each envelope comes to.
    outcome: Callable[[Claimed, Route], Outcome | Damaged] = lambda claimed, route: DONE
    #: Deliveries wait here when it is closed.
    gate: anyio.Event = field(default_factory=anyio.Event)
    tried: list[Claimed] = field(default_factory=list)
    routes: Counter[str] = field(default_factory=Counter)
    running: int = 0
    peak: int = 0
    #: What a report comes to, other than being sent to nobody in particular.
    report_outcome: Deferred | Failed | None = None
    reports: list[tuple[Claimed, list[ReportLine]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()
        self.runner = Runner(self.spool, lambda: self.config, self.deliver, self.report, PACE)

    async def deliver(self, batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        started = self.spool.clock.now()
        self.tried += batch.items
        self.routes[route.name] += len(batch.items)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return [self._result(item, route, started) for item in batch.items]

    def _result(self, item: Claimed, route: Route, started: int) -> Attempt | Damaged:
        outcome = self.outcome(item, route)
        if isinstance(outcome, Damaged):
            return outcome
        return Attempt(item.envelope.id, started, self.spool.clock.now(), route.name, outcome)

    async def report(self, claimed: Claimed, lines: Sequence[ReportLine]) -> Submission | Deferred | Failed:
        self.reports.append((claimed, list(lines)))
        if self.report_outcome is not None:
            return self.report_outcome
        letter = Letter(to=("ann@example.com",), sender=NULL_SENDER, lane=LOCAL, user="ann")
        return submission(self.spool.clock.now(), letter)

    def close_gate(self) -> None:
        """Deliveries begun from now on wait for `open_gate`."""
        self.gate = anyio.Event()

    def open_gate(self) -> None:
        """Deliveries that wait go on."""
        self.gate.set()

    def advance(self, milliseconds: int) -> None:
        """Spool time goes on; the scheduler notices by itself."""
        self.clock.advance(milliseconds)

    @property
    def counters(self) -> dict[str, int]:
        """What ``show stats`` would say."""
        return dict(self.runner.snapshot().counters)

    @property
    def times_tried(self) -> Counter[str]:
        """How often each envelope was tried."""
        return Counter(item.envelope.id for item in self.tried)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """The scheduler runs inside, and has stopped in good order after it."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.runner.run)
            yield
            self.runner.stop()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that must come."""
        with anyio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110 - a condition of any kind has no event
                await anyio.sleep(0.002)

    async def settled(self) -> None:
        """Wait until nothing is in flight and nothing that is due is left, for longer than a tick takes."""
        with anyio.fail_after(PATIENCE):
            quiet = 0
            while quiet < 3:
                await anyio.sleep(PACE.tick)
                due = await self.spool.next_wake()
                is_due = due is not None and due <= self.spool.clock.now()
                quiet = 0 if is_due or self.counters["scheduler.envelope.inflight"] else quiet + 1


@asynccontextmanager
async def world(place: Layout, clock: HandClock | None = None, ops: SystemOps | None = None) -> AsyncIterator[World]:
    """A spool below ``place`` with a scheduler that does not run yet."""
    clock = clock or HandClock()
    spool = await SpoolWriter.open(place, clock, ops)
    try:
        yield World(spool, clock)
    finally:
        await spool.aclose()


def by_mx(domain: str) -> Letter:
    """A letter that goes to the servers of ``domain``."""
    return Letter(to=(f"bob@{domain}",), lane=Lane("mx", domain))
