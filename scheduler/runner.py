"""The scheduler: claims what is due, has it tried, and writes down what came of it, for as long as the daemon runs.

It wakes when mail was accepted, when the next lane wakes, when a session has room for more, and every `TICK` seconds in any
case: spool time counts on through suspend while the loop's clock does not, and no jump may strand mail.

Guarantees: what was claimed is recorded, or back in the spool, when `Runner.run` returns after `Runner.stop`; sessions get
`GRACE` seconds for that. Cancelled instead, it records what has ended and leaves the rest to the next start.

Failure: `Runner.run` raises `SpoolLost` when a write may be lost; the process must end then. A full or unavailable spool
pauses delivery (`Snapshot.trouble`) until it can be written again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import anyio

from policy.config import Config
from scheduler.adoption import Adoption
from scheduler.health import Health
from scheduler.limits import Traffic, room_of
from scheduler.planner import Planner
from scheduler.pool import LaneInHand, Pool
from scheduler.recorder import Ended, Recorder
from scheduler.retry import Timetable
from scheduler.sessions import Agents, Deliver, Report, Sessions
from scheduler.stats import Snapshot
from scheduler.sweeper import Sweeper
from scheduler.targets import Targets
from spool.door import SpoolDoor
from spool.errors import SpoolFull, SpoolLost, SpoolUnavailable
from spool.lane import LaneFailed, LaneOpened

#: Seconds after which the plan is made anew whatever the clocks say.
TICK: Final = 10.0
#: Seconds that sessions get to end when the scheduler stops.
GRACE: Final = 30.0
#: Seconds for what has ended to be recorded when the scheduler is cancelled, or stops while the disk is full.
LAST_WORDS: Final = 5.0
#: Seconds until the next try to claim when the spool cannot be written.
PAUSE: Final = 1.0
#: Under which name the spool remembers what is paused.
_PAUSED: Final = "paused"

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """The scheduler's own times in seconds, and the timetable of retries."""

    tick: float = TICK
    grace: float = GRACE
    timetable: Timetable = field(default_factory=Timetable)


class Runner:
    """See the module. ``config`` answers the present configuration; after it changed, call `reconfigured`."""

    def __init__(
        self, spool: SpoolDoor, config: Callable[[], Config], deliver: Deliver, report: Report, pace: Pace | None = None
    ) -> None:
        self._pace = pace or Pace()
        self._spool = spool
        self._config = config
        targets = Targets(config)
        self._pools = {traffic: Pool(room_of(traffic, config().limits), targets) for traffic in Traffic}
        self._planner = Planner(spool, config, self._pools, targets)
        self._recorder = Recorder(spool, self._was_recorded)
        self._sweeper = Sweeper(spool, config, self._pace.tick)
        health = Health(self._pace.timetable)
        self._sessions = Sessions(spool, config, Agents(deliver, report), self._recorder, health)
        self._sessions.hunger = self._wake_planner
        #: Held while something is claimed, and by whoever needs that nothing is.
        self._planning = anyio.Lock()
        self._awake = anyio.Event()
        self._is_stopping = False

    async def run(self) -> None:
        """Schedule until `stop`."""
        self._spool.notify_accepted(self.wake)
        try:
            async with anyio.create_task_group() as scribes:
                scribes.start_soon(self._recorder.run)
                scribes.start_soon(self._sweeper.run)
                await self._schedule()
                scribes.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if group.subgroup(SpoolLost) is not None:
                raise SpoolLost("a write of the scheduler may be lost") from group
            raise
        finally:
            with anyio.move_on_after(LAST_WORDS, shield=True), suppress(SpoolLost):
                await self._recorder.flush()

    def stop(self) -> None:
        """Claim nothing more, let sessions end, put the rest back; then `run` returns."""
        self._is_stopping = True
        self._awake.set()

    def wake(self) -> None:
        """Something may be due that was not: mail was accepted, released, scheduled."""
        self._planner.look_again()
        self._awake.set()

    # -- what the operator does ---------------------------------------------------------------------------------------

    async def pause(self, traffic: Traffic) -> bool:
        """Start no more sessions of this kind, beyond a restart too; False when it was paused before."""
        return await self._set_paused(traffic, True)

    async def resume(self, traffic: Traffic) -> bool:
        """The end of `pause`; False when it was not paused."""
        return await self._set_paused(traffic, False)

    async def pause_lane(self, lane_id: int) -> None:
        """Start no more sessions for this lane."""
        async with self.standstill():
            await self._spool.pause_lane(lane_id)
            for pool in self._pools.values():
                lane = pool.lane(lane_id)
                if lane is not None:
                    pool.closed(lane)

    async def resume_lane(self, lane_id: int) -> None:
        """The end of `pause_lane`."""
        await self._spool.resume_lane(lane_id)
        self.wake()

    async def reconfigured(self) -> None:
        """Bring queued mail in line with the configuration that ``config`` answers now."""
        config = self._config()
        adoption = await Adoption.prepare(self._spool, config)
        async with self.standstill():
            for traffic, pool in self._pools.items():
                pool.room = room_of(traffic, config.limits)
            await adoption.move()
            await self._planner.find_strays()
        await adoption.finish()

    @asynccontextmanager
    async def standstill(self) -> AsyncIterator[None]:
        """Inside, nothing new is claimed, and what waited for a session is back in the spool.

        For commands that would otherwise miss envelopes which were claimed ahead: hold, remove.
        """
        async with self._planning:
            self._put_back(self._pools.values())
            await self._recorder.idle()
            try:
                yield
            finally:
                self.wake()

    def snapshot(self) -> Snapshot:
        """Counts since the start and the present state."""
        tally, pools = self._sessions.tally, self._pools
        relay, local, reports = pools[Traffic.RELAY], pools[Traffic.LOCAL], pools[Traffic.REPORTS]
        counters = {
            "bounce.envelope": reports.in_flight,
            "bounce.lost": tally.lost_reports,
            "bounce.session": tally.reports,
            "mda.envelope": local.in_flight,
            "mda.running": local.sessions,
            "mta.envelope": relay.in_flight,
            "mta.session": relay.sessions,
            "scheduler.delivery.damaged": tally.damaged,
            "scheduler.delivery.ok": tally.delivered,
            "scheduler.delivery.permfail": tally.failed,
            "scheduler.delivery.tempfail": tally.deferred,
            "scheduler.envelope.expired": tally.expired + self._sweeper.expired,
            "scheduler.envelope.inflight": sum(pool.in_flight for pool in pools.values()),
        }
        return Snapshot(MappingProxyType(counters), frozenset(self._paused()), self._recorder.trouble)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _schedule(self) -> None:
        for preparation in (self.recall_paused, self.reconfigured):
            while not (self._is_stopping or await self._when_possible(preparation)):
                log.info("trying again")
        async with self._sessions.at_work(self._pace.grace):
            while not self._is_stopping:
                await self._when_possible(self._plan)
            self._put_back(self._pools.values())
        with anyio.move_on_after(LAST_WORDS):
            await self._recorder.done()
        if self._recorder.unrecorded:
            log.error("%d outcomes are not recorded: their mail may be sent again", self._recorder.unrecorded)

    async def _plan(self) -> None:
        """Claim, start sessions, and wait until there is reason to do it again."""
        self._awake = anyio.Event()
        async with self._planning:
            claimed = await self._planner.plan()
            for pool in self._pools.values():
                self._sessions.fill(pool)
        if claimed or self._is_stopping:
            return
        wake = await self._planner.next_wake()
        tick = self._pace.tick
        left = tick if wake is None else (wake - self._spool.clock.now()) / 1000
        with anyio.move_on_after(max(0, min(left, tick))):
            await self._awake.wait()
            return
        self._planner.look_again()
        await self._planner.find_strays()

    async def _when_possible(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do it once outcomes can be recorded; False when the spool cannot be asked, after a pause."""
        await self._recorder.ready()
        try:
            await work()
        except (SpoolFull, SpoolUnavailable) as error:
            trouble: Exception = error
        except ExceptionGroup as group:
            passing, others = group.split((SpoolFull, SpoolUnavailable))
            if passing is None or others is not None:
                raise
            trouble = passing.exceptions[0]
        else:
            return True
        log.warning("nothing can be claimed for delivery: %s", trouble)
        await anyio.sleep(PAUSE)
        return False

    def _wake_planner(self) -> None:
        self._awake.set()

    def _was_recorded(self, ended: Ended) -> None:
        """The spool knows of it: what does that make possible?"""
        kind = "smtp-out" if ended.lane.target.traffic is Traffic.RELAY else "mda"
        match ended.verdict:
            case LaneFailed() as verdict:
                pause = (verdict.not_before - verdict.at) // 1000
                log.info("%s: Disabling route %s for %ds: %s", kind, ended.lane.target.name, pause, verdict.reason)
                self._sweeper.lane_failed(verdict)
                self.wake()
            case LaneOpened():
                log.info("%s: Enabling route %s", kind, ended.lane.target.name)
                ended.pool.opened(ended.lane, self._spool.clock.now())
                self.wake()
        if ended.returned or ended.damaged or ended.pool.is_short or ended.pool.has_news:
            self._wake_planner()
        self._sessions.fill(ended.pool)

    def _put_back(self, pools: Iterable[Pool]) -> None:
        """Give back what waits for a session."""
        for pool in pools:
            for lane in pool.lanes_waiting():
                self._put_back_lane(pool, lane)

    def _put_back_lane(self, pool: Pool, lane: LaneInHand) -> None:
        batches = pool.withdraw(lane)
        self._recorder.put(Ended(pool, lane, batches, returned=[item for batch in batches for item in batch.items]))

    # -- what is paused -----------------------------------------------------------------------------------------------

    def _paused(self) -> list[str]:
        return [traffic.value for traffic, pool in self._pools.items() if pool.is_paused]

    async def _set_paused(self, traffic: Traffic, paused: bool) -> bool:
        pool = self._pools[traffic]
        async with self.standstill():
            if pool.is_paused is paused:
                return False
            names = {*self._paused(), traffic.value} if paused else {*self._paused()} - {traffic.value}
            await self._spool.remember(_PAUSED, ",".join(sorted(names)))
            pool.is_paused = paused
        log.info("info: %s %s", traffic.value, "paused" if paused else "resumed")
        return True

    async def recall_paused(self) -> None:
        """Pause what was paused before the restart. `run` begins with it; whoever pauses more before that, too."""
        paused = (await self._spool.recall(_PAUSED)).split(",")
        for traffic, pool in self._pools.items():
            pool.is_paused = traffic.value in paused
