"""What the attempts of a batch say of their route, and when the envelopes that were deferred are due again.

A deferral before MAIL (`Stage.closes_lane`) speaks of the route. While other sessions of that route work, there were only
too many of them; otherwise the lane closes, for longer each time, and what was tried waits with it: it is due the moment
the lane opens. Everything else, a refused recipient too, shows a route that works and opens a closed lane.

Guarantees: sessions that began before a lane failed do not make it fail again, however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policy.config import Retry
from scheduler.limits import Traffic
from scheduler.pool import Job
from scheduler.retry import LOCAL_RETRY, RELAY_RETRY, Timetable
from spool.lane import LaneFailed, LaneOpened, LaneVerdict
from spool.message import Claimed
from spool.outcome import Attempt, Deferred


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is to be told the spool about a lane, and whether its route was there at all for this batch."""

    verdict: LaneVerdict | None
    #: The lane is closed, by this batch or before: what was deferred on the way waits with it.
    is_closed: bool


_WORKS = Diagnosis(None, is_closed=False)
_CLOSED = Diagnosis(None, is_closed=True)


def speaks_of_route(attempt: Attempt) -> bool:
    """Whether this attempt came to grief before the message was spoken of."""
    outcome = attempt.outcome
    return isinstance(outcome, Deferred) and outcome.stage.closes_lane


class Health:
    """Judges lanes, and says when envelopes are due."""

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable

    def diagnose(self, job: Job, attempts: Sequence[Attempt]) -> Diagnosis:
        """What ``attempts``, of which there is at least one, say of the route; the lane and its load remember it."""
        if job.target.traffic is Traffic.REPORTS:
            return _WORKS
        if all(map(speaks_of_route, attempts)):
            return self._failed(job, attempts[0])
        lane, ended = job.lane, attempts[-1].ended
        job.load.worked(ended)
        if not lane.failures:
            return _WORKS
        lane.failures = 0
        return Diagnosis(LaneOpened(lane.id), is_closed=False)

    def due(self, claimed: Claimed, attempt: Attempt, job: Job, diagnosis: Diagnosis) -> int:
        """When the envelope is tried again, if it is."""
        if diagnosis.is_closed or not isinstance(attempt.outcome, Deferred):
            return attempt.ended
        if speaks_of_route(attempt) and job.target.traffic is not Traffic.REPORTS:
            return self._timetable.soon(attempt.ended)
        usual = RELAY_RETRY if job.target.traffic is Traffic.RELAY else LOCAL_RETRY
        return self._timetable.next_try(claimed, _chosen(job) or usual, attempt.ended)

    def _failed(self, job: Job, attempt: Attempt) -> Diagnosis:
        lane = job.lane
        if job.load.worked_at >= attempt.started:
            job.load.turned_away()
            return _WORKS
        if attempt.started <= lane.failed_at:
            return _CLOSED
        return Diagnosis(self._close(job, attempt), is_closed=True)

    def _close(self, job: Job, attempt: Attempt) -> LaneFailed:
        lane = job.lane
        job.load.is_proven = False
        lane.failures += 1
        lane.failed_at = attempt.ended
        not_before = self._timetable.after_pause(lane.failures, _chosen(job), attempt.ended)
        return LaneFailed(lane.id, attempt.ended, not_before, str(attempt.outcome.reply))


def _chosen(job: Job) -> Retry | None:
    """What the operator says of retries, where he does."""
    return None if job.target.action is None else job.target.action.retry
