"""Runs batches: gives them to a delivery, decides what the outcomes mean, and hands that to the recorder.

A session takes batch after batch of its kind of traffic; one task serves as many messages as there are without a pause.

Guarantees: every batch that was started ends in the recorder: settled, or returned when the session was cancelled.
Nothing that delivery does, exceptions of its own included, ends the scheduler or fails mail: unknown trouble is temporary.

Failure: `SpoolLost` comes through.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from policy.config import Config
from policy.route import Route
from scheduler.health import Health
from scheduler.limits import Traffic
from scheduler.pool import Job, Pool
from scheduler.recorder import Ended, Recorder
from scheduler.stats import Tally
from scheduler.targets import REPORT_ROUTE
from spool.door import SpoolDoor
from spool.errors import SpoolFull, SpoolLost, SpoolUnavailable
from spool.message import Batch, Claimed, Submission
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply
from spool.report import ReportLine
from spool.settlement import Settlement, settle
from spool.state import Event

Deliver: TypeAlias = Callable[[Batch, Route], Awaitable[Sequence[Attempt | Damaged]]]
"""Tries a batch: an `Attempt` for each item in order, or `Damaged` in its place. Raises nothing."""

Report: TypeAlias = Callable[[Claimed, Sequence[ReportLine]], Awaitable[Submission | Deferred | Failed]]
"""Makes the report that a report envelope stands for, and finds out where it goes."""

log: Final = logging.getLogger(__name__)

_IN_DOUBT: Final = Deferred(
    Reply(451, "4.3.2", "broken off when smtpd stopped: if it was sent, no reply was seen"), stage=Stage.DOT
)
_STRAY: Final = Reply(451, "4.3.0", "internal error while delivering; the log says more")


@dataclass(frozen=True, slots=True)
class Agents:
    """Who does the work."""

    deliver: Deliver
    report: Report


class Sessions:
    """See the module. ``hunger`` is called when a lane has more that could be claimed. They run inside `at_work`."""

    def __init__(
        self, spool: SpoolDoor, config: Callable[[], Config], agents: Agents, recorder: Recorder, health: Health
    ) -> None:
        self.tally = Tally()
        self.hunger: Callable[[], None] = _nobody
        self._spool = spool
        self._config = config
        self._agents = agents
        self._recorder = recorder
        self._health = health
        self._group: TaskGroup | None = None

    @asynccontextmanager
    async def at_work(self, grace: float) -> AsyncIterator[None]:
        """Sessions may be started inside; afterwards those that run have ``grace`` seconds to end."""
        async with anyio.create_task_group() as self._group:
            yield
            self._group.cancel_scope.deadline = anyio.current_time() + grace

    def fill(self, pool: Pool) -> None:
        """Start sessions for batches that may have one."""
        while self._group is not None and (job := pool.next_job()) is not None:
            self._group.start_soon(self._serve, pool, job)

    async def _serve(self, pool: Pool, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            await self._run(pool, job)
            if self._recorder.trouble:
                await self._recorder.ready()
            job = pool.next_job()
            # The route may have earned another session.
            self.fill(pool)

    async def _run(self, pool: Pool, job: Job) -> None:
        ended: Ended | None = None
        try:
            if job.target.route is None:
                ended = await self._report(pool, job)
            else:
                results = await self._deliver(job, job.target.route)
                ended = self._settle(pool, job, results)
        finally:
            pool.session_ended(job)
            self._recorder.put(ended or self._broken_off(pool, job))
            if pool.is_hungry(job):
                self.hunger()

    def _broken_off(self, pool: Pool, job: Job) -> Ended:
        """The stop did not wait for it: mailboxes recognise their mail, of other mail the history says what is not known."""
        if job.lane.target.traffic is not Traffic.RELAY:
            return Ended(pool, job.lane, [job.batch], returned=job.batch.items, load=job.load)
        now = self._spool.clock.now()
        attempts = [Attempt(item.envelope.id, now, now, job.lane.target.name, _IN_DOUBT) for item in job.batch.items]
        settlements = [settle(item, attempt, now, ()) for item, attempt in zip(job.batch.items, attempts, strict=True)]
        return Ended(pool, job.lane, [job.batch], settlements, load=job.load)

    # -- mail ---------------------------------------------------------------------------------------------------------

    async def _deliver(self, job: Job, route: Route) -> Sequence[Attempt | Damaged]:
        started = self._spool.clock.now()
        try:
            results = await self._agents.deliver(job.batch, route)
        except Exception:
            log.exception("delivery to %s failed in an unforeseen way", route.name)
        else:
            if len(results) == len(job.batch.items):
                return results
            log.error("delivery to %s answered %d for %d envelopes", route.name, len(results), len(job.batch.items))
        ended, outcome = self._spool.clock.now(), Deferred(_STRAY)
        return [Attempt(item.envelope.id, started, ended, route.name, outcome) for item in job.batch.items]

    def _settle(self, pool: Pool, job: Job, results: Sequence[Attempt | Damaged]) -> Ended:
        attempts = [result for result in results if isinstance(result, Attempt)]
        damaged = [result for result in results if isinstance(result, Damaged)]
        self.tally.damaged += len(damaged)
        if not attempts:
            return Ended(pool, job.lane, [job.batch], damaged=damaged, load=job.load)
        diagnosis = self._health.diagnose(job, attempts)
        intervals = self._config().warn_intervals
        settlements = []
        for item, result in zip(job.batch.items, results, strict=True):
            if isinstance(result, Attempt):
                due = self._health.due(item, result, job, diagnosis)
                settlements.append(self._settle_one(item, settle(item, result, due, intervals)))
        batches, returned = [job.batch], []
        if diagnosis.is_closed:
            pool.closed(job.lane)
            waiting = pool.withdraw(job.lane)
            batches += waiting
            returned = [item for batch in waiting for item in batch.items]
        return Ended(pool, job.lane, batches, settlements, diagnosis.verdict, returned, damaged, job.load)

    def _settle_one(self, item: Claimed, settlement: Settlement) -> Settlement:
        self.tally.add(settlement.event)
        if settlement.event is Event.EXPIRED:
            log.info(
                "%s expired: from=<%s> to=<%s>", item.envelope.id, item.message.return_path, item.envelope.recipient
            )
        is_lost = settlement.event in (Event.FAILED, Event.EXPIRED)
        if is_lost and (item.envelope.kind.is_report or item.message.return_path.is_null):
            self.tally.lost_reports += 1
            reply = settlement.attempt.outcome.reply
            log.error("%s: nobody is told that this cannot be delivered: %s", item.envelope.id, reply)
        return settlement

    # -- reports ------------------------------------------------------------------------------------------------------

    async def _report(self, pool: Pool, job: Job) -> Ended:
        """The lane of reports goes an envelope at a time."""
        (item,) = job.batch.items
        started = self._spool.clock.now()
        try:
            outcome = await self._tell(item, started)
        except SpoolLost:
            raise
        except (SpoolFull, SpoolUnavailable) as error:
            outcome = Deferred(Reply(451, "4.3.1", f"the spool cannot take the report: {error}"))
        except Exception:
            log.exception("making report %s failed in an unforeseen way", item.envelope.id)
            outcome = Deferred(_STRAY)
        if isinstance(outcome, Delivered):
            self.tally.reports += 1
            return Ended(pool, job.lane, [job.batch], load=job.load)
        attempt = Attempt(item.envelope.id, started, self._spool.clock.now(), REPORT_ROUTE, outcome)
        return self._settle(pool, job, [attempt])

    async def _tell(self, item: Claimed, started: int) -> Outcome:
        """Make the report and put it into the spool, which settles its envelope in the same commit."""
        lines = await self._spool.report_lines(item.envelope.id)
        answer = await self._agents.report(item, lines)
        if not isinstance(answer, Submission):
            return answer
        outcome = Delivered(Reply(250, "2.0.0", f"sent as {answer.message.id}"), stage=Stage.LOCAL)
        attempt = Attempt(item.envelope.id, started, self._spool.clock.now(), REPORT_ROUTE, outcome)
        with anyio.CancelScope(shield=True):
            await self._spool.accept(answer, settle(item, attempt, attempt.ended, ()))
        return outcome


def _nobody() -> None:
    return
