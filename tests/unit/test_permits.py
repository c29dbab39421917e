"""Connections counted against the operator's limits, at times that a test sets."""

from __future__ import annotations

import math

import pytest

from delivery import permits as module
from delivery.hop import Purpose
from delivery.permits import Permit, Permits, Refusal, Way
from policy.limits import MtaLimits

HERE = Way("192.0.2.1", "198.51.100.1")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def permits(clock: Clock) -> Permits:
    return Permits(clock)


def purpose(relay: str = "mx:a", domain: str = "a", **limits: int) -> Purpose:
    return Purpose(relay, domain, MtaLimits(**limits))


#: By kind: what another connection has in common with `HERE` of mx:a when it counts on the same, and when it does not.
SAME = {
    "host": (Way("192.0.2.1", "198.51.100.2"), "mx:b", "b"),
    "route": (HERE, "mx:b", "b"),
    "source": (Way("192.0.2.2", "198.51.100.1"), "mx:b", "b"),
    "connector": (Way("192.0.2.2", "198.51.100.1"), "mx:a", "b"),
    "relay": (Way("192.0.2.2", "198.51.100.2"), "mx:a", "b"),
    "domain": (Way("192.0.2.2", "198.51.100.2"), "mx:b", "a"),
}
OTHER = {
    "host": (Way("192.0.2.2", "198.51.100.1"), "mx:a", "a"),
    "route": (Way("192.0.2.1", "198.51.100.2"), "mx:a", "a"),
    "source": (Way("192.0.2.1", "198.51.100.2"), "mx:a", "a"),
    "connector": (HERE, "mx:b", "a"),
    "relay": (HERE, "mx:b", "a"),
    "domain": (HERE, "mx:a", "b"),
}


@pytest.mark.parametrize("kind", SAME)
def test_a_limit_counts_what_has_its_name_in_common_and_nothing_else(permits: Permits, kind: str) -> None:
    limit = {f"max_conn_per_{kind}": 1}
    assert isinstance(permits.ask(HERE, purpose()), Permit)
    way, relay, domain = SAME[kind]
    refused = permits.ask(way, purpose(relay, domain, **limit))
    assert isinstance(refused, Refusal)
    assert ([name[0] for name in refused.full], refused.pause) == ([kind], math.inf)
    way, relay, domain = OTHER[kind]
    assert isinstance(permits.ask(way, purpose(relay, domain, **limit)), Permit)


@pytest.mark.parametrize("kind", SAME)
def test_a_delay_counts_from_the_connection_before(permits: Permits, clock: Clock, kind: str) -> None:
    delay = {f"conn_delay_{kind}": 5}
    permits.ask(HERE, purpose())
    way, relay, domain = SAME[kind]
    clock.now += 2
    assert permits.ask(way, purpose(relay, domain, **delay)) == Refusal((), 3.0)
    clock.now += 3
    assert isinstance(permits.ask(way, purpose(relay, domain, **delay)), Permit)


def test_what_is_given_back_can_be_had_again(permits: Permits) -> None:
    wish = purpose(max_conn_per_host=1)
    first = permits.ask(HERE, wish)
    assert isinstance(first, Permit)
    permits.give_back(first)
    assert isinstance(permits.ask(HERE, wish), Permit)


def test_a_route_rests_after_a_connection_but_not_after_one_that_nobody_opened(permits: Permits, clock: Clock) -> None:
    wish = purpose(reconn_delay_route=3)
    unused = permits.ask(HERE, wish)
    assert isinstance(unused, Permit)
    clock.now += 10
    permits.give_back(unused, was_used=False)
    used = permits.ask(HERE, wish)
    assert isinstance(used, Permit)
    clock.now += 10
    permits.give_back(used)
    clock.now += 1
    assert permits.ask(HERE, wish) == Refusal((), 2.0)


def test_a_refusal_changes_nothing(permits: Permits) -> None:
    held = permits.ask(HERE, purpose())
    assert isinstance(held, Permit)
    for _ in range(3):
        assert isinstance(permits.ask(HERE, purpose(max_conn_per_host=1)), Refusal)
    permits.give_back(held)
    assert isinstance(permits.ask(HERE, purpose(max_conn_per_host=1)), Permit)


def test_names_without_a_connection_are_forgotten_when_there_are_too_many(
    permits: Permits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 12)
    held = permits.ask(HERE, purpose())
    assert isinstance(held, Permit)
    for number in range(50):
        passing = permits.ask(Way(f"203.0.113.{number}", "x"), purpose(f"mx:{number}", str(number)))
        assert isinstance(passing, Permit)
        permits.give_back(passing)
    assert isinstance(permits.ask(HERE, purpose(max_conn_per_host=1)), Refusal)
    assert len(permits._tallies) < 30
