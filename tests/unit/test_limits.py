"""How many sessions a route may have."""

from __future__ import annotations

import pytest

from policy.config import AnyAction, Command, Lmtp, Maildir, Mbox, Relay
from scheduler.limits import Bounds, Limits, RouteLoad, Traffic, bounds_of, traffic_of

BOUNDS = Bounds(5, 20)


@pytest.mark.parametrize(
    ("action", "traffic", "bounds"),
    [
        (Relay(name="x"), Traffic.RELAY, Bounds(5, 20)),
        (Mbox(name="x"), Traffic.LOCAL, Bounds(1, 1)),
        (Maildir(name="x"), Traffic.LOCAL, Bounds(2, 2)),
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
    assert Limits().free("mx:example.org", BOUNDS) == 5


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
    assert limits.free("smtp://h:25", BOUNDS) == 2


def test_a_route_is_forgotten_with_its_last_lane() -> None:
    limits = Limits()
    limits.open("smtp://h:25", BOUNDS).worked(1)
    limits.open("smtp://h:25", BOUNDS)
    limits.close("smtp://h:25")
    assert limits.free("smtp://h:25", BOUNDS) == 6
    limits.close("smtp://h:25")
    assert limits.free("smtp://h:25", BOUNDS) == 5
