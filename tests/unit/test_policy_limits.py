"""Limits of relaying, local delivery and the scheduler: what their lines mean, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.config import Command, Maildir, Mbox, Relay
from policy.limits import Limits, MdaLimits, MtaLimits, SchedulerLimits
from scheduler.limits import Bounds, Traffic, bounds_of, room_of
from tests.tools.configured import Configured

RULE = "match for any reject\n"


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def test_what_is_not_limited_has_the_house_s_own_measure(configured: Configured) -> None:
    assert configured.load(RULE).limits == Limits()


def test_limits_of_one_line_and_of_several_add_up(configured: Configured) -> None:
    text = f"mda limit max-session 9\nmda limit max-session-per-user 2\nscheduler limit max-inflight 50\n{RULE}"
    limits = configured.load(text).limits
    assert (limits.mda, limits.scheduler) == (MdaLimits(9, 2), SchedulerLimits(50))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mda limit max-sesion 1", '1:11: unknown limit "max-sesion" of mda; did you mean "max-session"?'),
        ("mda limit max-session", "1:22: expected a number, found the end of line"),
        ("mda limit max-session 0", "1:23: max-session of 0 would let nothing through: expected at least 1"),
        ("scheduler limit max-inflight -1", "1:30: -1 is not a number of at least 0"),
        ("mta max-deferred many", '1:18: expected a number, found "many"'),
        ("scheduler", '1:10: expected "limit" after "scheduler", found the end of line'),
    ],
)
def test_a_wrong_limit_says_what_is_wrong(configured: Configured, line: str, message: str) -> None:
    assert configured.errors(f"{line}\n{RULE}") == [message]


@pytest.mark.parametrize(
    "line", ["mta max-deferred 100", "mda limit task-hiwat 50", "scheduler limit max-evp-batch-size 256"]
)
def test_what_bounds_memory_elsewhere_is_told_to_have_no_effect(configured: Configured, line: str) -> None:
    (warning,) = configured.warnings(f"{line}\n{RULE}")
    assert "has no effect: mail that waits is not kept in memory here" in warning


def test_the_sessions_of_local_delivery_are_those_of_mda_limit() -> None:
    room = room_of(Traffic.LOCAL, Limits(mda=MdaLimits(max_session=3)))
    assert (room.sessions, room.strangers, room.probes) == (3, 3, 3)
    assert room_of(Traffic.RELAY, Limits(mda=MdaLimits(max_session=3))) == room_of(Traffic.RELAY, Limits())


def test_what_is_in_flight_is_bounded_by_the_scheduler_s_limit_but_for_reports() -> None:
    limits = Limits(scheduler=SchedulerLimits(40))
    in_flight = {traffic: room_of(traffic, limits).in_flight for traffic in Traffic}
    assert in_flight == {Traffic.RELAY: 40, Traffic.LOCAL: 40, Traffic.REPORTS: 100}


@pytest.mark.parametrize(
    ("action", "bounds"),
    [
        (Command(name="a", command="x"), Bounds(7, 12)),
        (Maildir(name="a"), Bounds(2, 2)),
        (Mbox(name="a"), Bounds(1, 1)),
    ],
)
def test_a_user_gets_what_the_limit_says_and_no_lock_is_waited_for(action: Command, bounds: Bounds) -> None:
    assert bounds_of(action, "ann", Limits(mda=MdaLimits(max_session_per_user=12))) == bounds


def test_a_domain_has_its_own_limit_of_connections() -> None:
    limits = Limits(MtaLimits(max_conn_per_relay=4), {"slow.example": MtaLimits(max_conn_per_domain=1)})
    relay = Relay(name="relay")
    assert bounds_of(relay, "example.org", limits) == Bounds(4, 4)
    assert bounds_of(relay, "Slow.Example", limits) == Bounds(1, 1)
