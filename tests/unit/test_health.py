"""What attempts say of their route."""

from __future__ import annotations

import pytest

from scheduler.health import Health
from scheduler.pool import Job
from scheduler.retry import LOCAL_RETRY, PROBE_BASE, RELAY_RETRY, Timetable
from spool.lane import REPORTS, LaneFailed, LaneOpened
from spool.outcome import Deferred, Failed, Outcome, Stage
from spool.reply import Reply
from tests.tools.in_flight import LOCAL, NO_ROUTE, Claim, attempt, claimed, job
from tests.tools.spooled import DONE, LATER, NEVER

HEALTH = Health(Timetable(lambda: 0.5))
UNKNOWN_DOMAIN = Failed(Reply(550, "5.1.2", "no such domain"), stage=Stage.ROUTE)


@pytest.mark.parametrize("stage", [Stage.ROUTE, Stage.CONNECT, Stage.TLS, Stage.AUTH])
def test_a_deferral_before_mail_closes_the_lane(stage: Stage) -> None:
    outcome = Deferred(Reply(451, "4.4.1", "no"), stage=stage)
    found = HEALTH.diagnose(job(), [attempt(outcome)])
    assert found.verdict == LaneFailed(1, 2000, 2000 + PROBE_BASE, "451 4.4.1 no")
    assert found.is_closed


@pytest.mark.parametrize("outcome", [DONE, LATER, NEVER])
def test_a_route_that_answers_mail_works(outcome: Outcome) -> None:
    found = HEALTH.diagnose(job(), [attempt(outcome)])
    assert (found.verdict, found.is_closed) == (None, False)


@pytest.mark.parametrize("outcome", [DONE, LATER, NEVER, UNKNOWN_DOMAIN])
def test_a_probe_that_is_answered_opens_the_lane(outcome: Outcome) -> None:
    probe = job(failures=3)
    assert HEALTH.diagnose(probe, [attempt(outcome)]).verdict == LaneOpened(1)
    assert probe.lane.failures == 0


def test_a_probe_that_fails_makes_the_pause_longer() -> None:
    found = HEALTH.diagnose(job(failures=2), [attempt(NO_ROUTE)])
    assert isinstance(found.verdict, LaneFailed)
    assert found.verdict.not_before - found.verdict.at == 9 * PROBE_BASE


def test_sessions_that_began_before_the_failure_do_not_count_again() -> None:
    session = job()
    HEALTH.diagnose(session, [attempt(NO_ROUTE, started=1000, ended=2000)])
    second = HEALTH.diagnose(session, [attempt(NO_ROUTE, started=1500, ended=2500)])
    assert (second.verdict, second.is_closed) == (None, True)
    assert session.lane.failures == 1


def test_a_session_turned_away_while_others_work_closes_nothing() -> None:
    session = job()
    session.load.running = 10
    session.load.worked(1500)
    found = HEALTH.diagnose(session, [attempt(NO_ROUTE, started=1000, ended=2000)])
    assert (found.verdict, found.is_closed) == (None, False)
    assert session.load.allowed == 3


def test_a_success_before_the_session_began_does_not_save_the_lane() -> None:
    session = job()
    session.load.worked(900)
    assert HEALTH.diagnose(session, [attempt(NO_ROUTE, started=1000)]).is_closed


def test_a_route_works_when_one_recipient_of_the_batch_got_further() -> None:
    assert HEALTH.diagnose(job(), [attempt(NO_ROUTE), attempt(LATER)]).verdict is None


def test_a_report_never_closes_its_lane() -> None:
    assert HEALTH.diagnose(job(REPORTS), [attempt(NO_ROUTE)]).verdict is None


def due_after(session: Job, outcome: Outcome) -> int:
    tried = attempt(outcome)
    return HEALTH.due(claimed(Claim(lane=session.lane.lane)), tried, session, HEALTH.diagnose(session, [tried]))


def test_what_a_closed_lane_deferred_is_due_when_the_lane_opens() -> None:
    assert due_after(job(), NO_ROUTE) == 2000


def test_what_was_turned_away_is_tried_again_soon() -> None:
    session = job()
    session.load.worked(1500)
    assert due_after(session, NO_ROUTE) == 2000 + PROBE_BASE


def test_what_another_server_deferred_waits_by_the_timetable_of_relays() -> None:
    assert due_after(job(), LATER) == RELAY_RETRY.base


def test_what_a_mailbox_deferred_waits_by_the_timetable_of_local_mail() -> None:
    assert due_after(job(LOCAL), LATER) == LOCAL_RETRY.base


def test_a_report_that_was_deferred_waits_by_the_timetable_of_local_mail() -> None:
    assert due_after(job(REPORTS), NO_ROUTE) == LOCAL_RETRY.base
