"""The door to the spool in the process that holds it: asyncio on one side, the spool's thread on the other.

Guarantees: as `spool.door` says. Every job is put before its caller first waits, so a caller that is cancelled later changes
nothing; a claim whose caller is gone is taken back.

Failure: as `spool.door` says; `SpoolWriter.open` raises `SpoolInUse`, `SpoolTooNew` and `SpoolError` too.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from spool import aside, claims, intake, moving, opening, outcomes, selected
from spool import lanes as lane_table
from spool.bodies import BodyWriter, StoredBody
from spool.checkup import Checkup
from spool.clock import Clock, SpoolClock, SystemClock
from spool.commit import Answer, Committer, Job, Read, Stop, Write
from spool.errors import SpoolFull, SpoolLost, SpoolUnavailable, UnknownEnvelope
from spool.files import Ops, SystemOps
from spool.filter import Filter
from spool.ids import EnvelopeId, MessageId
from spool.inspection import Finding
from spool.intent import MboxIntent
from spool.lane import ClaimOrder, DueLane, Lane, LaneStatus, LaneVerdict, LaneWish
from spool.layout import Layout
from spool.message import Claimed, Destination, Submission
from spool.moving import Arrival
from spool.opening import OpenSpool, open_spool
from spool.orphans import OrphanSweep
from spool.repair import repair
from spool.report import ReportLine
from spool.room import RoomGauge
from spool.seal import Sealing
from spool.selection import Selection
from spool.settlement import Settlement
from spool.store import Transaction
from spool.troubles import Troubles
from spool.upkeep import Upkeep

T = TypeVar("T")


class SpoolWriter:
    """`spool.door.SpoolDoor`, made by `open` and ended by `aclose`."""

    def __init__(self, spool: OpenSpool, spool_dir: str) -> None:
        self.clock: SpoolClock = spool.store.clock
        self.instance = spool.instance
        self.lost = anyio.Event()
        #: Which bodies are being written.
        self.bodies = spool.store.bodies
        self._loop = asyncio.get_running_loop()
        self._troubles = Troubles(spool_dir)
        self._room = RoomGauge(spool_dir, spool.store.ops)
        self._listeners: list[Callable[[], None]] = []
        self._closed: asyncio.Future[None] | None = None
        sweep = OrphanSweep(self.bodies, spool.store.connection)
        self._committer = Committer(spool, Upkeep(spool.store, sweep), self._answer_from_thread)
        self._committer.start()
        self._checkup = None if spool.was_clean else Checkup(opening.database_path(spool_dir))
        if self._checkup:
            self._checkup.start()

    @classmethod
    async def open(cls, layout: Layout, clock: Clock | None = None, ops: Ops | None = None) -> SpoolWriter:
        """Take the spool: lock, recovery, tables; raises `SpoolInUse`, `SpoolTooNew`, `SpoolError`."""
        clock, ops = clock or SystemClock(), ops or SystemOps()
        with anyio.CancelScope(shield=True):
            spool = await anyio.to_thread.run_sync(open_spool, layout.spool_dir, clock, ops)
        return cls(spool, layout.spool_dir)

    async def aclose(self) -> None:
        """Do what was asked before, write everything back, mark the stop as clean, give the lock back.

        Not clean when the spool was lost; that is no error here.
        """
        if self._closed is None:
            self._closed = self._loop.create_future()
            self._committer.put(Stop(self._closed))
        with anyio.CancelScope(shield=True):
            if self._checkup:
                await anyio.to_thread.run_sync(self._checkup.end)
            try:
                await asyncio.shield(self._closed)
            except SpoolLost:
                self.lost.set()

    @property
    def findings(self) -> Sequence[str]:
        """What is wrong with the database, as far as it was looked through after an unclean stop."""
        return tuple(self._checkup.findings) if self._checkup else ()

    def notify_accepted(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called in the loop after each commit that made something due."""
        self._listeners.append(callback)

    def seal_with(self, sealing: Sealing) -> None:
        """From here on, seal new bodies like this and open those that are there; at first they lie open."""
        self.bodies.sealing = sealing

    async def unlock(self) -> int:
        """Let go of what is held for a key that is at hand now, in bounded transactions. How many."""
        freed = 0
        place: int | None = 0
        while place is not None:
            step = await self._write(partial(claims.unlock, after=place))
            freed, place = freed + step.changed, step.rest
        return freed

    # -- in -----------------------------------------------------------------------------------------------------------

    async def new_body(self, message: MessageId) -> BodyWriter:
        """A file for a large body."""
        self.require_ready()
        # Not in a thread: a caller that is cancelled while it waits could neither use nor abandon it.
        return self.bodies.writer(message)

    def require_ready(self) -> None:
        """Raise `SpoolLost`, `SpoolUnavailable` or `SpoolFull` when no body can be taken now."""
        self._require_open()
        self._require_room()

    async def accept(self, submission: Submission, settles: Settlement | None = None) -> None:
        """Take the message; from here on we own it."""

        def piece(tx: Transaction) -> None:
            if settles is not None and not outcomes.record(tx, settles):
                raise UnknownEnvelope(f"no report {settles.attempt.envelope} is in flight")
            intake.accept(tx, submission)

        await self._bring(piece, submission.body, len(submission.envelopes))

    async def require_new(self, archive: str, message: str) -> None:
        """Raise `AlreadyHere` for a message that `take_in` would not take."""
        await self._read(lambda connection: moving.require_new(connection, archive, message))

    async def take_in(self, arrival: Arrival) -> int:
        """Take a message that moves in."""
        return await self._bring(lambda tx: moving.take_in(tx, arrival), arrival.body, len(arrival.moved.envelopes))

    async def _bring(self, piece: Callable[[Transaction], T], body: bytes | StoredBody, envelopes: int) -> T:
        """Write something with a body, which its commit answers for."""
        file, octets = ("", len(body)) if isinstance(body, bytes) else (body.name, 0)
        job = Write(self._future(), piece, file, octets, envelopes)
        if file:
            self.bodies.hand_over(file)
        try:
            self._require_room()
            self._put(job)
        except Exception:
            self.bodies.discard(job.body)
            raise
        result: T = await job.future
        return result

    # -- out ----------------------------------------------------------------------------------------------------------

    async def due_lanes(self, now: int, wishes: Sequence[LaneWish]) -> list[list[DueLane]]:
        """Open lanes with something due, a page for each wish, earliest first."""
        return await self._read(lambda connection: [lane_table.due_lanes(connection, now, wish) for wish in wishes])

    async def lane_actions(self) -> list[str]:
        """The actions that lanes name."""
        return await self._read(lane_table.lane_actions)

    async def next_wake(self, after: int | None = None) -> int | None:
        """When the next lane wakes."""
        return await self._read(lambda connection: lane_table.next_wake(connection, after))

    async def claim(self, orders: Sequence[ClaimOrder]) -> list[Claimed]:
        """Due envelopes, now in flight."""

        def piece(tx: Transaction) -> list[Claimed]:
            return [claimed for order in orders for claimed in claims.claim(tx, order)]

        job = Write(self._future(), piece, unwanted=self._take_back)
        self._put(job)
        try:
            result: list[Claimed] = await job.future
        except asyncio.CancelledError:
            # Cancelled after the answer came, before it was read.
            if job.future.done() and not job.future.cancelled() and not job.future.exception():
                self._take_back(job.future.result())
            raise
        return result

    async def record(self, settlements: Sequence[Settlement], lanes: Sequence[LaneVerdict] = ()) -> None:
        """Write down what came of attempts."""

        def piece(tx: Transaction) -> None:
            for settlement in settlements:
                outcomes.record(tx, settlement)
            for verdict in lanes:
                outcomes.judge(tx, verdict)

        await self._write(piece, envelopes=len(settlements) or 1, first=True)

    async def unclaim(self, claimed: Sequence[Claimed]) -> None:
        """Back to READY, untried."""
        ids = [one.envelope.id for one in claimed]
        await self._write(lambda tx: claims.unclaim(tx, ids), first=True)

    async def set_aside(self, envelope: EnvelopeId, reason: str, *, was_sent: bool = False) -> None:
        """DAMAGED, and the sender is told."""
        await self._write(lambda tx: aside.set_aside(tx, envelope, reason, tells=not was_sent), first=True)

    async def repair(self, finding: Finding) -> bool:
        """Do what can be done about it."""
        return await self._write(lambda tx: repair(tx, finding), first=True)

    async def expire(self, lane_id: int, at: int) -> int:
        """End what waits beyond its deadline."""
        return await self._write(lambda tx: outcomes.expire(tx, lane_id, at))

    async def warn(self, at: int, warn_intervals: tuple[int, ...]) -> int:
        """Queue delay notices."""
        return await self._write(lambda tx: outcomes.warn(tx, at, warn_intervals))

    async def report_lines(self, envelope: EnvelopeId) -> list[ReportLine]:
        """What a report envelope is about."""
        return await self._read(lambda connection: outcomes.report_lines(connection, envelope))

    async def commit_intents(self, intents: Sequence[MboxIntent]) -> None:
        """Keep what is about to be appended to a mailbox."""

        def piece(tx: Transaction) -> None:
            for intent in intents:
                claims.keep_intent(tx, intent)

        await self._write(piece, first=True)

    async def intent_of(self, envelope: EnvelopeId) -> MboxIntent | None:
        """The intent that was kept last."""
        return await self._read(lambda connection: claims.read_intent(connection, envelope))

    # -- the operator -------------------------------------------------------------------------------------------------

    async def hold(self, selection: Selection) -> int:
        """Keep these from being tried."""
        return await self._select(selection, selected.hold)

    async def release(self, selection: Selection) -> int:
        """Let held and set aside ones be tried again."""
        return await self._select(selection, selected.release)

    async def remove(self, selection: Selection) -> int:
        """Drop these without a report."""
        return await self._select(selection, selected.remove)

    async def schedule(self, selection: Selection) -> int:
        """Make waiting ones due now, and open their lanes."""
        return await self._select(selection, selected.schedule)

    async def _select(self, selection: Selection, handler: selected.Handler) -> int:
        def resolve(connection: sqlite3.Connection) -> selected.Range:
            return selected.resolve(connection, selection, self.clock.now())

        changed = 0
        rest: selected.Range | None = await self._read(resolve)
        while rest is not None:
            step = await self._select_step(rest, handler)
            changed, rest = changed + step.changed, step.rest
        return changed

    async def _select_step(self, rest: selected.Range, handler: selected.Handler) -> selected.Step:
        return await self._write(lambda tx: selected.step(tx, rest, handler), first=True)

    # -- lanes --------------------------------------------------------------------------------------------------------

    async def lanes(self, after: int, limit: int) -> list[LaneStatus]:
        """Lanes by id."""
        return await self._read(lambda connection: lane_table.lanes(connection, after, limit))

    async def pause_lane(self, lane_id: int) -> None:
        """Nothing of this lane is claimed."""
        await self._write(lambda tx: lane_table.pause(tx, lane_id, True), first=True)

    async def resume_lane(self, lane_id: int) -> None:
        """The end of `pause_lane`."""
        await self._write(lambda tx: lane_table.pause(tx, lane_id, False), first=True)

    async def park_lane(self, lane_id: int, reason: str) -> None:
        """Nothing of this lane is claimed: the configuration has lost its action."""
        await self._write(lambda tx: lane_table.park(tx, lane_id, reason))

    async def unpark_lane(self, lane_id: int) -> None:
        """The end of `park_lane`."""
        await self._write(lambda tx: lane_table.unpark(tx, lane_id))

    async def relane(self, lane_id: int, lane_of: Callable[[Destination], Lane]) -> int:
        """Move what waits in a lane to other lanes."""
        return await self._walk(lane_id, lane_table.moving(lane_of))

    async def set_ttl(self, action: str, ttl: int) -> int:
        """Give what waits for an action another deadline."""
        return await self._select(Selection(filter=Filter(action=action)), selected.lasting(ttl))

    async def _walk(self, lane_id: int, handler: lane_table.Handler) -> int:
        changed = 0
        place: lane_table.Place | None = lane_table.Place()
        while place is not None:
            step = await self._walk_step(lane_id, place, handler)
            changed, place = changed + step.changed, step.rest
        return changed

    async def _walk_step(self, lane_id: int, place: lane_table.Place, handler: lane_table.Handler) -> lane_table.Step:
        return await self._write(lambda tx: lane_table.step(tx, lane_id, place, handler))

    # -- what the runner remembers ------------------------------------------------------------------------------------

    async def remember(self, name: str, value: str) -> None:
        """Keep a small fact beyond a restart; empty forgets it."""
        await self._write(lambda tx: opening.write_fact(tx, f"runner.{name}", value), first=True)

    async def recall(self, name: str) -> str:
        """What `remember` kept; empty when nothing."""
        return await self._read(lambda connection: opening.read_fact(connection, f"runner.{name}"))

    # -- to the thread and back ---------------------------------------------------------------------------------------

    async def _write(self, piece: Callable[[Transaction], T], envelopes: int = 1, first: bool = False) -> T:
        job = Write(self._future(), piece, envelopes=envelopes, first=first)
        self._put(job)
        result: T = await job.future
        return result

    async def _read(self, piece: Callable[[sqlite3.Connection], T]) -> T:
        job = Read(self._future(), piece)
        self._put(job)
        result: T = await job.future
        return result

    def _future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()

    def _put(self, job: Write | Read) -> None:
        self._require_open()
        self._committer.put(job)

    def troubles(self) -> list[str]:
        """What keeps mail from being accepted or settled now, each a sentence with what to do."""
        with suppress(SpoolFull, SpoolUnavailable):
            self._require_room()
        return self._troubles.now()

    def _require_room(self) -> None:
        complaint = self._room.complaint()
        self._troubles.short_of_room(complaint)
        if complaint:
            raise SpoolFull(errno.ENOSPC, complaint)

    def _require_open(self) -> None:
        if self.lost.is_set():
            raise SpoolLost("the spool was lost")
        if self._closed is not None:
            raise SpoolUnavailable("the spool is closed")

    def _answer_from_thread(self, answers: list[Answer], made_due: bool) -> None:
        try:
            self._loop.call_soon_threadsafe(self._answer, answers, made_due)
        except RuntimeError:
            # The loop is gone, and with it everybody who could be answered.
            return

    def _answer(self, answers: list[Answer], made_due: bool) -> None:
        if self._committer.lost:
            self.lost.set()
        for job, result in answers:
            self._notice(job, result)
            future = job.future
            if not future.done():
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            elif isinstance(job, Write) and job.unwanted and not isinstance(result, Exception):
                job.unwanted(result)
        if made_due:
            for listener in self._listeners:
                listener()

    def _notice(self, job: Job, result: object) -> None:
        if isinstance(result, SpoolFull | SpoolUnavailable):
            self._troubles.failed(result)
        elif isinstance(job, Write) and not isinstance(result, Exception):
            self._troubles.worked()

    def _take_back(self, claimed: list[Claimed]) -> None:
        """Claimed for somebody who is gone."""
        ids = [one.envelope.id for one in claimed]
        if ids and self._closed is None and not self.lost.is_set():
            self._committer.put(Write(self._future(), lambda tx: claims.unclaim(tx, ids), first=True))
