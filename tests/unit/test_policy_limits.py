"""Limits of relaying, local delivery and the scheduler: what their lines mean, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from policy.config import Command, Maildir, Mbox, Relay
from policy.limits import Limits, MdaLimits, MtaLimits, SchedulerLimits
from policy.tables.inline import InlineTable
from scheduler.limits import Bounds, Traffic, bounds_of, room_of
from scheduler.targets import Target, target_of
from spool.lane import Lane
from tests.tools.configured import Configured
from tests.tools.in_flight import config_of

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
        (
            "mta limit max-conn-per-hots 3",
            '1:11: unknown limit "max-conn-per-hots" of mta; did you mean "max-conn-per-host"?',
        ),
        ("mta limit session-mail-max 0", "1:28: session-mail-max of 0 would let nothing through: expected at least 1"),
        ("mta limit for example.org inet4", '1:15: expected "domain" after "mta limit for", found "example.org"'),
        ("mta limit for domain x conn-delay-route soon", '1:41: expected a number, found "soon"'),
        ("mta max-deferred many", '1:18: expected a number, found "many"'),
        ("scheduler", '1:10: expected "limit" after "scheduler", found the end of line'),
    ],
)
def test_a_wrong_limit_says_what_is_wrong(configured: Configured, line: str, message: str) -> None:
    assert configured.errors(f"{line}\n{RULE}") == [message]


def test_a_domain_begins_with_what_was_said_for_all_before_it(configured: Configured) -> None:
    text = (
        "mta limit inet4 max-conn-per-host 3\n"
        "mta limit for domain Example.org session-mail-max 1\n"
        f"mta limit max-conn-per-host 4 conn-delay-route 0\n{RULE}"
    )
    limits = configured.load(text).limits
    assert limits.of_relay("EXAMPLE.ORG") == MtaLimits(family=4, max_conn_per_host=3, session_mail_max=1)
    assert limits.of_relay("example.net") == MtaLimits(family=4, max_conn_per_host=4, conn_delay_route=0)


@pytest.mark.parametrize(
    "line",
    [
        "mta max-deferred 100",
        "mda limit task-hiwat 50",
        "mta limit task-lowat 30",
        "scheduler limit max-evp-batch-size 256",
    ],
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
        (Maildir(name="a"), Bounds(1, 1, behind=1)),
        (Mbox(name="a"), Bounds(1, 1, behind=1)),
    ],
)
def test_a_user_gets_what_the_limit_says_and_no_lock_is_waited_for(action: Command, bounds: Bounds) -> None:
    assert bounds_of(action, "ann", Limits(mda=MdaLimits(max_session_per_user=12))) == bounds


@pytest.mark.parametrize(
    ("key", "bounds"),
    [
        ("ann", Bounds(1, 1, behind=1)),
        ("ann|vacation", Bounds(7, 7)),
        ("|/bin/cat", Bounds(7, 7)),
        ("/var/a", Bounds(1, 1, behind=1)),
    ],
)
def test_commands_that_aliases_and_forwards_name_have_the_bounds_of_commands(key: str, bounds: Bounds) -> None:
    found = target_of(config_of(Mbox(name="local")), Lane("local", key))
    assert isinstance(found, Target)
    assert found.bounds == bounds


def test_a_domain_has_its_own_limit_of_connections() -> None:
    limits = Limits(MtaLimits(max_conn_per_relay=4), {"slow.example": MtaLimits(max_conn_per_domain=1)})
    relay = Relay(name="relay")
    assert bounds_of(relay, "example.org", limits) == Bounds(4, 4)
    assert bounds_of(relay, "Slow.Example", limits) == Bounds(1, 1)


@pytest.mark.parametrize("mta", [MtaLimits(conn_delay_route=1), MtaLimits(max_conn_per_host=4)])
def test_a_route_that_is_held_back_has_few_sessions_to_wait(mta: MtaLimits) -> None:
    relay = Relay(name="relay")
    assert bounds_of(relay, "example.org", Limits(mta)) == Bounds(5, 5)
    assert bounds_of(relay, "example.org", Limits(replace(mta, max_conn_per_relay=30))) == Bounds(5, 30)


@pytest.mark.parametrize("mta", [MtaLimits(conn_delay_route=0), MtaLimits(max_conn_per_host=5)])
def test_a_limit_that_holds_nothing_back_leaves_the_sessions_as_they_are(mta: MtaLimits) -> None:
    relay = Relay(name="relay")
    assert bounds_of(relay, "example.org", Limits(mta)) == bounds_of(relay)


def test_a_connector_is_a_relay_s_only_one_where_it_has_no_source_addresses() -> None:
    limits = Limits(MtaLimits(max_conn_per_connector=3))
    sources = InlineTable.of_list("src", ["127.0.0.1", "127.0.0.2"])
    assert bounds_of(Relay(name="relay"), "example.org", limits) == Bounds(3, 3)
    assert bounds_of(Relay(name="relay", src=sources), "example.org", limits) == bounds_of(Relay(name="relay"))
