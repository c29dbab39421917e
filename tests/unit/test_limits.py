"""How many sessions a route may have."""

from __future__ import annotations

import pytest

from policy.config import AnyAction, Command, Lmtp, Maildir, Mbox, Relay
from scheduler.limits import REMEMBERED, Bounds, Limits, RouteLoad, Traffic, bounds_of, traffic_of

BOUNDS = Bounds(5, 20)


@pytest.mark.parametrize(
    ("action", "traffic", "bounds"),
    [
        (Relay(name="x"), Traffic.RELAY, Bounds(5, 20)),
        (Mbox(name="x"), Traffic.LOCAL, Bounds(1, 1, behind=1)),
        (Maildir(name="x"), Traffic.LOCAL, Bounds(1, 1, behind=1)),
        (Command(name="x", command="true"), Traffic.LOCAL, Bounds(7, 7)),
        (Lmtp(name="x", destination="/socket"), Traffic.LOCAL, Bounds(2, 5)),
        (None, Traffic.REPORTS, Bounds(10, 10)),
    ],
)
def test_each_kind_of_action_has_its_traffic_and_bounds(
    action: AnyAction | None, traffic: Traffic, bounds: Bounds
) -> None:
    assert (traffic_of(action), bounds_of(action)) == (traffic, bounds)


def test_a_new_route_begins_with_few_sessions() -> None:
    assert Limits().open("mx:example.org", BOUNDS).free == 5


def test_the_next_batch_for_a_mailbox_is_written_while_one_is_being_recorded() -> None:
    load = Limits().open("maildir:ann", bounds_of(Maildir(name="x")))
    load.unrecorded = 1
    assert load.free == 1
    load.unrecorded = 2
    assert load.free == 0


def test_a_route_earns_a_session_with_every_success_up_to_its_bound() -> None:
    load = RouteLoad(BOUNDS, BOUNDS.first)
    for at in range(3):
        load.worked(at)
    assert load.allowed == 8
    for at in range(100):
        load.worked(at)
    assert load.allowed == 20


def test_a_route_that_turns_a_session_away_is_halved() -> None:
    load = RouteLoad(BOUNDS, 20, running=12)
    load.turned_away()
    assert load.allowed == 6


def test_a_route_never_has_less_than_one_session() -> None:
    load = RouteLoad(BOUNDS, 1, running=1)
    load.turned_away()
    assert load.allowed == 1


def test_a_crowded_route_earns_a_session_in_a_round_of_successes() -> None:
    load = RouteLoad(BOUNDS, 10, running=10)
    load.turned_away()
    for at in range(4):
        load.worked(at)
    assert load.allowed == 5
    load.worked(5)
    assert load.allowed == 6


def test_lanes_that_lead_to_one_route_share_its_sessions() -> None:
    limits = Limits()
    first, second = limits.open("smtp://h:25", BOUNDS), limits.open("smtp://h:25", BOUNDS)
    first.running += 3
    assert second.free == 2


def test_a_route_is_forgotten_with_its_last_lane() -> None:
    limits = Limits()
    limits.open("smtp://h:25", BOUNDS).worked(1)
    assert limits.open("smtp://h:25", BOUNDS).free == 6
    limits.close("smtp://h:25")
    limits.close("smtp://h:25")
    assert limits.open("smtp://h:25", BOUNDS).free == 5


def test_a_route_that_worked_is_remembered_and_one_that_failed_since_is_not() -> None:
    limits = Limits()
    limits.open("mx:example.org", BOUNDS).worked(1)
    limits.close("mx:example.org")
    assert limits.is_proven("mx:example.org")
    limits.open("mx:example.org", BOUNDS).is_proven = False
    limits.close("mx:example.org")
    assert not limits.is_proven("mx:example.org")


def test_a_bounded_number_of_working_routes_is_remembered() -> None:
    limits = Limits()
    for number in range(REMEMBERED + 1):
        limits.open(f"mx:d{number}.example", BOUNDS).worked(1)
        limits.close(f"mx:d{number}.example")
    assert not limits.is_proven("mx:d0.example")
    assert limits.is_proven("mx:d1.example")


def test_a_route_with_as_many_unrecorded_batches_as_sessions_starts_no_more() -> None:
    load = Limits().open("mx:example.org", BOUNDS)
    load.unrecorded = 5
    assert load.free == 0
