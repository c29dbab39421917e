"""What the daemon does when ``smtpctl`` asks.

Guarantees: a change is durable before it is answered `Done`. Only operators (root and the daemon's own user) change
anything; others see their own mail and whether the daemon runs.

Failure: everything that goes wrong is answered `Refused` with a sentence; `SpoolLost` alone comes through, because the
process is about to end.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, Protocol

import anyio.to_thread
import msgspec

from control.backing import back_up
from control.explaining import QuestionError
from control.exporting import export
from control.importing import House
from control.journal import UnknownSubsystem
from control.listings import Forbidden, ListingRequest, Viewer, rows
from control.protocol import (
    CHUNK,
    AnyAnswer,
    AnyRequest,
    Backup,
    BackupRow,
    Change,
    Chunk,
    CountQueue,
    Done,
    Explain,
    Export,
    Import,
    Log,
    Pause,
    PauseLane,
    Refused,
    RemoveThese,
    ShowAttempts,
    ShowLanes,
    ShowMail,
    ShowMessage,
    ShowQueue,
    ShowStats,
    ShowStatus,
    StatRow,
    StatusRow,
    Trace,
    TroubleRow,
    UpdateTable,
    Verify,
    WallRow,
)
from control.verifying import verify
from policy.config import Config
from policy.explain import Explanation
from policy.open_relay import open_relay
from policy.suggestion import did_you_mean
from policy.tables.table import Table
from spool.door import SpoolDoor
from spool.errors import SpoolError, SpoolLost, UnknownEnvelope
from spool.filter import FilterError
from spool.ids import IdSyntaxError
from spool.lane import Lane
from spool.listing import PAGE, QueueReader
from spool.selection import Selection, select

_log: Final = logging.getLogger(__name__)

#: Pieces of an archive or a message that are in memory, 1 MB.
AT_A_TIME: Final = 16
#: Seconds that nothing is claimed while envelopes are held or removed: enough for some thousand of them.
LONGEST_STANDSTILL: Final = 0.5


class CommandRefused(Exception):
    """The request makes no sense now."""


class Switch(Protocol):
    """A part of the daemon that can be paused. It says in the log when it was."""

    @property
    def running(self) -> bool:
        """Whether it is not paused."""

    async def set_running(self, running: bool) -> bool:
        """Pause it, or let it go on; False when it was so before."""


class Loudness(Protocol):
    """How much the log says. `control.journal.Journal` is that of one process."""

    def set_verbose(self, verbose: bool) -> None:
        """Whether debug lines are written."""

    def trace(self, subsystem: str) -> None:
        """Have a subsystem say everything. Raises `UnknownSubsystem`."""

    def untrace(self, subsystem: str) -> None:
        """The end of `trace`. Raises `UnknownSubsystem`."""


class Schedule(Protocol):
    """What the scheduler has to know of, because it claims envelopes ahead. `scheduler.runner.Runner` is it."""

    def standstill(self) -> AbstractAsyncContextManager[None]:
        """Inside, nothing waits for a session, and nothing new is claimed."""

    async def pause_lane(self, lane_id: int) -> None:
        """Start no more sessions for this lane."""

    async def resume_lane(self, lane_id: int) -> None:
        """The end of `pause_lane`."""


class Figures(Protocol):
    """What is counted. `control.figures.Figures` is it."""

    def now(self) -> Iterable[tuple[str, object]]:
        """Figures by name; may take a while, and so is called in a thread."""

    def troubles(self) -> Iterable[str]:
        """What an operator should look at; asked in a thread too."""


class Explains(Protocol):
    """Who answers "what would become of it?". `control.explaining.Explainer` is it."""

    async def explain(self, question: Explain) -> Explanation:
        """Rules, expansion and routes. Raises `QuestionError`."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the commands act upon."""

    spool: SpoolDoor
    reader: QueueReader
    schedule: Schedule
    journal: Loudness
    #: ``mda``, ``mta``, ``smtp``.
    parts: Mapping[str, Switch]
    figures: Figures
    explainer: Explains
    #: The present configuration.
    config: Callable[[], Config]
    #: Those of the present configuration, by name.
    tables: Callable[[], Mapping[str, Table]]
    #: Reads one of them anew, or all for an empty name, wherever they are asked; what was wrong with it, or nothing.
    refresh: Callable[[str], Awaitable[str]]
    #: What keeps each process in; a line for each that has walls.
    walls: Callable[[], Awaitable[Sequence[str]]]


class Commands:
    """Answers requests, one at a time for each who asks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        spool = desk.spool
        self._changes: dict[str, Callable[[Selection], Awaitable[int]]] = {
            "hold": spool.hold,
            "release": spool.release,
            "remove": spool.remove,
            "schedule": spool.schedule,
        }

    async def answer(self, request: AnyRequest, viewer: Viewer) -> AsyncGenerator[AnyAnswer]:
        """Rows, and last `Done` or `Refused`."""
        try:
            match request:
                case ShowQueue() | ShowMail() | CountQueue() | ShowMessage() | ShowAttempts() | ShowLanes():
                    async for row in self._listing(request, viewer):
                        yield row
                    yield Done()
                case ShowStatus():
                    for part, switch in self._desk.parts.items():
                        yield StatusRow(part, switch.running)
                    for text in await self._desk.walls():
                        yield WallRow(text)
                    for text in await anyio.to_thread.run_sync(lambda: list(self._desk.figures.troubles())):
                        yield TroubleRow(text)
                    if relay := await anyio.to_thread.run_sync(open_relay, self._desk.config()):
                        yield TroubleRow(f"the rule at {relay.rule.place} makes this machine {relay}")
                    for file in self._desk.config().secret_files if viewer.is_operator else ():
                        for exposure in file.exposures():
                            yield TroubleRow(exposure)
                    # The last words of a program for secrets are for nobody else.
                    for table in self._desk.tables().values() if viewer.is_operator else ():
                        if table.trouble:
                            yield TroubleRow(table.trouble)
                    yield Done()
                case ShowStats():
                    _require_operator(viewer)
                    for name, value in await anyio.to_thread.run_sync(lambda: list(self._desk.figures.now())):
                        yield StatRow(name, str(value))
                    yield Done()
                case Verify():
                    _require_operator(viewer)
                    async for found in verify(self._desk.reader, self._desk.spool if request.repair else None):
                        yield found
                    yield Done()
                case Backup():
                    _require_operator(viewer)
                    async for row in self._backup(request):
                        yield row
                    yield Done()
                case Export():
                    _require_operator(viewer)
                    leaving = export(self._desk.reader, request)
                    while page := await anyio.to_thread.run_sync(_page, leaving, AT_A_TIME):
                        for row in page:
                            yield row
                    yield Done()
                case Import():
                    _require_operator(viewer)
                    async with aclosing(House(self._desk.spool, self._desk.config()).take(request.path)) as taken:
                        async for row in taken:
                            yield row
                    _log.info("info: import %s", request.path)
                    yield Done()
                case Explain():
                    _require_operator(viewer, "aliases and the .forward files of others are private: ")
                    async for chunk in self._explanation(request):
                        yield chunk
                    yield Done()
                case _:
                    _require_operator(viewer)
                    yield Done(await self._act(request))
        except SpoolLost:
            raise
        except Forbidden as error:
            yield Refused(str(error), forbidden=True)
        except (SpoolError, IdSyntaxError, FilterError, UnknownSubsystem, CommandRefused, QuestionError) as error:
            yield Refused(str(error))
        except Exception:
            _log.exception("a control request failed: %s", type(request).__name__)
            yield Refused("internal error, see the log")

    async def _listing(self, request: ListingRequest, viewer: Viewer) -> AsyncGenerator[AnyAnswer]:
        found = await anyio.to_thread.run_sync(rows, self._desk.reader, request, viewer)
        size = AT_A_TIME if isinstance(request, ShowMessage) else 1 if isinstance(request, ShowMail) else PAGE
        while page := await anyio.to_thread.run_sync(_page, found, size):
            for row in page:
                yield row

    async def _backup(self, request: Backup) -> AsyncGenerator[AnyAnswer]:
        if not request.path.startswith("/"):
            raise CommandRefused(f"{request.path} is no absolute path")
        async with aclosing(back_up(self._desk.reader, request.path)) as found:
            async for row in found:
                if isinstance(row, BackupRow) and row.is_made:
                    _log.info("info: backup %s: %d envelopes, %d octets", row.path, row.envelopes, row.octets)
                yield row

    async def _explanation(self, question: Explain) -> AsyncGenerator[AnyAnswer]:
        document = msgspec.json.encode(await self._desk.explainer.explain(question))
        for start in range(0, len(document), CHUNK):
            yield Chunk(document[start : start + CHUNK])

    async def _act(self, request: AnyRequest) -> int:
        match request:
            case Change():
                return await self._change(request)
            case RemoveThese():
                return await self._remove_these(request)
            case Pause():
                await self._pause(request)
            case PauseLane():
                await self._pause_lane(request)
            case Trace():
                turn = self._desk.journal.trace if request.on else self._desk.journal.untrace
                turn(request.subsystem)
            case Log():
                self._desk.journal.set_verbose(request.verbose)
            case UpdateTable():
                await self._update_table(request.table)
            case _:
                raise CommandRefused(f"{type(request).__name__} is no command")
        return 0

    async def _change(self, request: Change) -> int:
        change = self._changes.get(request.verb)
        if change is None:
            raise CommandRefused(f"there is no command {request.verb}")
        running = _Running(change, select(request.id, request.filter))
        if request.verb == "schedule":
            # Whoever has just corrected a password expects that it is tried.
            await self._desk.refresh("")
        async with anyio.create_task_group() as tasks:
            # What was claimed ahead is in flight for the spool: taken back first, it can be held or removed at once.
            # Whatever takes long goes on while mail flows, and what is claimed then is marked.
            claimed_ahead = request.verb in ("hold", "remove")
            async with self._desk.schedule.standstill() if claimed_ahead else nullcontext():
                tasks.start_soon(running.run)
                with anyio.move_on_after(LONGEST_STANDSTILL):
                    await running.ended.wait()
        count = running.count()
        _log.info("info: %s %s: %d envelopes", request.verb, _chosen(request), count)
        return count

    async def _remove_these(self, request: RemoveThese) -> int:
        """Those that are not in flight, all in one commit."""
        counts: list[int] = []

        chosen = [select(name) for name in request.ids]

        async def remove(one: Selection) -> None:
            with suppress(UnknownEnvelope):
                counts.append(await self._desk.spool.remove(one))

        async with anyio.create_task_group() as together:
            for one in chosen:
                together.start_soon(remove, one)
        return sum(counts)

    async def _update_table(self, name: str) -> None:
        tables = self._desk.tables()
        if name not in tables:
            raise CommandRefused(f'there is no table "{name}"{did_you_mean(name, tables)}')
        if trouble := await self._desk.refresh(name):
            raise CommandRefused(trouble)
        _log.info("info: table %s updated", name)

    async def _pause(self, request: Pause) -> None:
        switch = self._desk.parts.get(request.part)
        if switch is None:
            raise CommandRefused(f"there is no {request.part} to pause")
        if not await switch.set_running(not request.paused):
            raise CommandRefused(f"{request.part} is {'paused already' if request.paused else 'not paused'}")

    async def _pause_lane(self, request: PauseLane) -> None:
        lane = Lane(request.action, request.key)
        status = await anyio.to_thread.run_sync(partial(_find_lane, self._desk.reader, lane))
        if status is None:
            raise CommandRefused(f"nothing is queued for {request.action} {request.key}".rstrip())
        number, paused = status
        if paused is request.paused:
            raise CommandRefused(f"this lane is {'paused already' if paused else 'not paused'}")
        turn = self._desk.schedule.pause_lane if request.paused else self._desk.schedule.resume_lane
        await turn(number)
        _log.info("info: lane %s %s %s", request.action, request.key, "paused" if request.paused else "resumed")


@dataclass(slots=True)
class _Running:
    """A change that may take longer than those who wait for it want to wait."""

    change: Callable[[Selection], Awaitable[int]]
    selection: Selection
    ended: anyio.Event = field(default_factory=anyio.Event)
    changed: int = 0
    error: SpoolError | FilterError | None = None

    async def run(self) -> None:
        """Do it, and keep what came of it."""
        try:
            self.changed = await self.change(self.selection)
        except (SpoolError, FilterError) as error:
            self.error = error
        finally:
            self.ended.set()

    def count(self) -> int:
        """How many envelopes were changed; raises what `run` met."""
        if self.error is not None:
            raise self.error
        return self.changed


def _chosen(request: Change) -> str:
    said = msgspec.to_builtins(request.filter)
    return " ".join([request.id, *(f"--{name} {value}" for name, value in said.items())])


def _require_operator(viewer: Viewer, because: str = "") -> None:
    if not viewer.is_operator:
        raise Forbidden(f"{because}this is for root and for the daemon's own user")


def _page(found: Iterator[AnyAnswer], size: int) -> list[AnyAnswer]:
    return list(islice(found, size))


def _find_lane(reader: QueueReader, lane: Lane) -> tuple[int, bool] | None:
    status = reader.find_lane(lane)
    return (status.id, status.paused) if status else None
