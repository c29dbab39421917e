"""The timetable of retries."""

from __future__ import annotations

import pytest

from policy.config import Retry, Squares, Waits
from scheduler.retry import JITTER, LOCAL_RETRY, MAX_PAUSE, MAX_WAIT, PROBE_BASE, RELAY_RETRY, Timetable
from tests.tools.in_flight import Claim, claimed
from tests.tools.spooled import DAY, HOUR

pytestmark = pytest.mark.reliability("6 reports")

EXACT = Timetable(lambda: 0.5)
EARLIEST = Timetable(lambda: 0.0)
LATEST = Timetable(lambda: 1.0)


def instants(retry: Retry, tries: int, timetable: Timetable = EXACT) -> list[int]:
    """Seconds after arrival at which an envelope is tried that is always deferred at once."""
    now, found = 0, []
    for attempts in range(tries):
        now = timetable.next_try(claimed(Claim(attempts=attempts)), retry, now)
        found.append(round(now / 1000))
    return found


@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        (RELAY_RETRY, [400, 1600, 3600, 6400, 10000, 14400, 19600, 25600, 32400, 40000]),
        (Squares(60_000), [60, 240, 540, 960, 1500, 2160, 2940, 3840, 4860, 6000]),
        (LOCAL_RETRY, [10, 40, 90, 160, 250, 360, 490, 640, 810, 1000]),
    ],
)
def test_the_first_ten_retries_follow_the_squares(retry: Retry, seconds: list[int]) -> None:
    assert instants(retry, 10) == seconds


@pytest.mark.parametrize("timetable", [EARLIEST, LATEST])
def test_jitter_moves_no_retry_to_another_place_of_the_timetable(timetable: Timetable) -> None:
    for found, exact in zip(instants(RELAY_RETRY, 10, timetable), instants(RELAY_RETRY, 10), strict=True):
        assert abs(found - exact) <= JITTER * exact


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5, 1.0])
def test_jitter_stretches_a_wait_by_a_tenth_at_most(chance: float) -> None:
    wait = Timetable(lambda: chance).next_try(claimed(), RELAY_RETRY, 0)
    assert wait == pytest.approx(RELAY_RETRY.base * (1 - JITTER + 2 * JITTER * chance))


def test_no_wait_is_longer_than_the_cap() -> None:
    old = claimed(Claim(attempts=29))
    assert EXACT.next_try(old, RELAY_RETRY, 3 * DAY + 23 * HOUR) - (3 * DAY + 23 * HOUR) <= MAX_WAIT


def test_what_was_tried_too_often_by_hand_is_still_retried_by_its_age() -> None:
    impatient = claimed(Claim(attempts=50))
    assert EXACT.next_try(impatient, RELAY_RETRY, 60_000) == 1_600_000


def test_an_attempt_that_took_until_the_next_instant_is_not_repeated_at_once() -> None:
    assert EXACT.next_try(claimed(), RELAY_RETRY, RELAY_RETRY.base - 1000) == 4 * RELAY_RETRY.base


def test_a_clock_that_lags_behind_the_arrival_makes_no_wait_longer() -> None:
    early = claimed(Claim(arrived=10 * HOUR))
    assert EXACT.next_try(early, RELAY_RETRY, 0) == RELAY_RETRY.base


def test_the_last_try_is_at_the_deadline() -> None:
    soon_over = claimed(Claim(ttl=300_000))
    assert EXACT.next_try(soon_over, RELAY_RETRY, 1000) == 300_000


def test_past_its_deadline_an_envelope_still_waits_for_its_turn() -> None:
    over = claimed(Claim(ttl=300_000))
    assert EXACT.next_try(over, RELAY_RETRY, 300_000) > 300_000


def test_a_failing_route_is_left_alone_longer_each_time_up_to_an_hour() -> None:
    pauses = [EXACT.after_pause(failures, None, 0) // 1000 for failures in range(1, 18)]
    assert pauses[:10] == [15, 60, 135, 240, 375, 540, 735, 960, 1215, 1500]
    assert pauses[-1] == MAX_PAUSE // 1000


def test_pauses_of_failing_routes_are_scattered() -> None:
    assert EARLIEST.after_pause(1, None, 0) == PROBE_BASE * (1 - JITTER)
    assert LATEST.after_pause(1, None, 0) == PROBE_BASE * (1 + JITTER)


WAITS = Waits((60_000, 300_000, 2 * HOUR))


def test_waits_of_the_operator_s_own_follow_one_another_and_the_last_repeats() -> None:
    assert instants(WAITS, 5) == [60, 360, 7560, 14760, 21960]


def test_waits_of_the_operator_s_own_count_failures_and_not_the_age() -> None:
    waited_behind_a_dead_route = claimed(Claim(attempts=0))
    assert EXACT.next_try(waited_behind_a_dead_route, WAITS, DAY) == DAY + 60_000


def test_a_wait_of_the_operator_s_own_may_be_longer_than_the_cap() -> None:
    assert EXACT.next_try(claimed(), Waits((2 * MAX_WAIT,)), 0) == 2 * MAX_WAIT
    assert EXACT.next_try(claimed(), Squares(2 * MAX_WAIT), 0) == 2 * MAX_WAIT


def test_a_deadline_goes_before_the_operator_s_own_waits() -> None:
    assert EXACT.next_try(claimed(Claim(ttl=300_000)), Waits((HOUR,)), 1000) == 300_000


@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        (WAITS, [60, 300, 7200, 7200]),
        (Squares(300_000), [300, 900, 1500, 2100]),
        (Squares(2 * HOUR), [7200, 7200, 7200, 7200]),
    ],
)
def test_a_failing_route_is_left_alone_as_long_as_its_action_says(retry: Retry, seconds: list[int]) -> None:
    assert [EXACT.after_pause(failures, retry, 0) // 1000 for failures in range(1, 5)] == seconds


def test_a_failing_route_is_probed_within_an_hour_by_any_squares() -> None:
    assert EXACT.after_pause(1000, Squares(300_000), 0) == MAX_PAUSE
