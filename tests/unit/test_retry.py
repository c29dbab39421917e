"""The timetable of retries."""

from __future__ import annotations

import pytest

from scheduler.retry import JITTER, LOCAL_BASE, MAX_PAUSE, MAX_WAIT, PROBE_BASE, RELAY_BASE, Timetable
from tests.tools.in_flight import Claim, claimed
from tests.tools.spooled import DAY, HOUR

EXACT = Timetable(lambda: 0.5)
EARLIEST = Timetable(lambda: 0.0)
LATEST = Timetable(lambda: 1.0)


def instants(base: int, tries: int, timetable: Timetable = EXACT) -> list[int]:
    """Seconds after arrival at which an envelope is tried that is always deferred at once."""
    now, found = 0, []
    for attempts in range(tries):
        now = timetable.next_try(claimed(Claim(attempts=attempts)), base, now)
        found.append(round(now / 1000))
    return found


@pytest.mark.parametrize(
    ("base", "seconds"),
    [
        (RELAY_BASE, [400, 1600, 3600, 6400, 10000, 14400, 19600, 25600, 32400, 40000]),
        (LOCAL_BASE, [10, 40, 90, 160, 250, 360, 490, 640, 810, 1000]),
    ],
)
def test_the_first_ten_retries_follow_the_squares(base: int, seconds: list[int]) -> None:
    assert instants(base, 10) == seconds


@pytest.mark.parametrize("timetable", [EARLIEST, LATEST])
def test_jitter_moves_no_retry_to_another_place_of_the_timetable(timetable: Timetable) -> None:
    for found, exact in zip(instants(RELAY_BASE, 10, timetable), instants(RELAY_BASE, 10), strict=True):
        assert abs(found - exact) <= JITTER * exact


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5, 1.0])
def test_jitter_stretches_a_wait_by_a_tenth_at_most(chance: float) -> None:
    wait = Timetable(lambda: chance).next_try(claimed(), RELAY_BASE, 0)
    assert wait == pytest.approx(RELAY_BASE * (1 - JITTER + 2 * JITTER * chance))


def test_no_wait_is_longer_than_the_cap() -> None:
    old = claimed(Claim(attempts=29))
    assert EXACT.next_try(old, RELAY_BASE, 3 * DAY + 23 * HOUR) - (3 * DAY + 23 * HOUR) <= MAX_WAIT


def test_what_was_tried_too_often_by_hand_is_still_retried_by_its_age() -> None:
    impatient = claimed(Claim(attempts=50))
    assert EXACT.next_try(impatient, RELAY_BASE, 60_000) == 1_600_000


def test_an_attempt_that_took_until_the_next_instant_is_not_repeated_at_once() -> None:
    assert EXACT.next_try(claimed(), RELAY_BASE, RELAY_BASE - 1000) == 4 * RELAY_BASE


def test_a_clock_that_lags_behind_the_arrival_makes_no_wait_longer() -> None:
    early = claimed(Claim(arrived=10 * HOUR))
    assert EXACT.next_try(early, RELAY_BASE, 0) == RELAY_BASE


def test_the_last_try_is_at_the_deadline() -> None:
    soon_over = claimed(Claim(ttl=300_000))
    assert EXACT.next_try(soon_over, RELAY_BASE, 1000) == 300_000


def test_past_its_deadline_an_envelope_still_waits_for_its_turn() -> None:
    over = claimed(Claim(ttl=300_000))
    assert EXACT.next_try(over, RELAY_BASE, 300_000) > 300_000


def test_a_failing_route_is_left_alone_longer_each_time_up_to_an_hour() -> None:
    pauses = [EXACT.after_pause(failures, 0) // 1000 for failures in range(1, 18)]
    assert pauses[:10] == [15, 60, 135, 240, 375, 540, 735, 960, 1215, 1500]
    assert pauses[-1] == MAX_PAUSE // 1000


def test_pauses_of_failing_routes_are_scattered() -> None:
    assert EARLIEST.after_pause(1, 0) == PROBE_BASE * (1 - JITTER)
    assert LATEST.after_pause(1, 0) == PROBE_BASE * (1 + JITTER)
