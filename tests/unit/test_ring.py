"""Lanes in turn."""

from __future__ import annotations

from scheduler.ring import Ring
from spool.lane import DueLane, Lane, LaneWish


def lane(number: int) -> DueLane:
    return DueLane(number, Lane("mx", f"d{number}.example"), number, 0)


class Index:
    """Due lanes of one action as the spool answers them."""

    def __init__(self, numbers: range) -> None:
        self.due = {number: lane(number) for number in numbers}

    def answer(self, ring: Ring) -> LaneWish | None:
        wish = ring.wish(has_news=True)
        if wish is not None:
            after = wish.after.id if wish.after else -1
            ring.take_in(wish, [self.due[number] for number in sorted(self.due) if number > after][: wish.limit])
        return wish


def ids(ring: Ring) -> list[int]:
    return [due.id for due in ring]


def test_lanes_that_all_fit_stay_while_they_have_more() -> None:
    ring, index = Ring("mx", False, 4), Index(range(3))
    index.answer(ring)
    ring.had_its_turn(0, has_more=True)
    assert ids(ring) == [1, 2, 0]


def test_a_lane_without_more_goes_out() -> None:
    ring, index = Ring("mx", False, 4), Index(range(3))
    index.answer(ring)
    ring.had_its_turn(0, has_more=False)
    assert ids(ring) == [1, 2]


def test_lanes_are_asked_for_again_and_again_while_they_fit() -> None:
    ring, index = Ring("mx", False, 4), Index(range(2))
    index.answer(ring)
    index.due[2] = lane(2)
    index.answer(ring)
    assert ids(ring) == [0, 1, 2]


def test_a_full_ring_asks_for_no_more() -> None:
    ring, index = Ring("mx", False, 4), Index(range(10))
    index.answer(ring)
    assert ring.wish(has_news=True) is None


def test_a_ring_that_holds_everything_asks_only_for_news() -> None:
    ring, index = Ring("mx", False, 4), Index(range(3))
    index.answer(ring)
    assert ring.wish(has_news=False) is None


def test_a_ring_that_ran_low_asks_without_news() -> None:
    ring, index = Ring("mx", False, 4), Index(range(10))
    index.answer(ring)
    ring.had_its_turn(0, has_more=True)
    ring.had_its_turn(1, has_more=True)
    assert ring.wish(has_news=False) == LaneWish("mx", False, 4, lane(3))


def test_every_lane_has_its_turn_however_many_there_are() -> None:
    ring, index = Ring("mx", False, 4), Index(range(11))
    turns = dict.fromkeys(range(11), 0)
    for _ in range(60):
        index.answer(ring)
        first = next(iter(ring)).id
        turns[first] += 1
        ring.had_its_turn(first, has_more=True)
    assert min(turns.values()) >= 4
    assert max(turns.values()) <= 8


def test_a_ring_that_overflowed_asks_for_everything_again_when_all_fits() -> None:
    ring, index = Ring("mx", False, 4), Index(range(10))
    index.answer(ring)
    for number in range(8):
        index.due.pop(number)
        ring.had_its_turn(number, has_more=False)
        index.answer(ring)
    assert ids(ring) == [8, 9]
    index.due[1] = lane(1)
    index.answer(ring)
    assert set(ids(ring)) == {8, 9, 1}


def test_a_dropped_lane_is_gone() -> None:
    ring = Ring("mx", False, 4)
    ring.add(lane(1))
    ring.drop(1)
    ring.drop(2)
    assert ids(ring) == []
