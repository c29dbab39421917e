"""Lanes in turn."""

from __future__ import annotations

from scheduler.ring import NEWEST, Ring
from spool.lane import DueLane, Lane, LaneWish


def lane(number: int) -> DueLane:
    return DueLane(number, Lane("mx", f"d{number}.example"), number, 0)


class Index:
    """Due lanes of one action as the spool answers them."""

    def __init__(self, numbers: range) -> None:
        self.due = {number: lane(number) for number in numbers}

    def answer(self, ring: Ring, *, has_news: bool = False) -> None:
        for wish in ring.wishes(has_news):
            after = wish.after.id if wish.after else -1
            numbers = sorted(self.due, reverse=wish.newest)
            ring.take_in(wish, [self.due[number] for number in numbers if number > after][: wish.limit])


def ids(ring: Ring) -> list[int]:
    return [due.id for due in ring]


def test_lanes_that_all_fit_stay_while_they_have_more() -> None:
    ring, index = Ring("mx", False, 4), Index(range(3))
    index.answer(ring, has_news=True)
    ring.had_its_turn(0, has_more=True)
    assert ids(ring) == [1, 2, 0]


def test_a_lane_without_more_goes_out() -> None:
    ring, index = Ring("mx", False, 4), Index(range(3))
    index.answer(ring, has_news=True)
    ring.had_its_turn(0, has_more=False)
    assert ids(ring) == [1, 2]


def test_lanes_are_asked_for_again_and_again_while_they_fit() -> None:
    ring, index = Ring("mx", False, 4), Index(range(2))
    index.answer(ring, has_news=True)
    index.due[2] = lane(2)
    index.answer(ring, has_news=True)
    assert ids(ring) == [0, 1, 2]


def test_a_full_ring_asks_for_no_more() -> None:
    ring, index = Ring("mx", False, 4), Index(range(10))
    index.answer(ring, has_news=True)
    assert ring.wishes(has_news=False) == []


def test_a_ring_that_holds_everything_asks_only_for_news() -> None:
    ring, index = Ring("mx", False, 4), Index(range(3))
    index.answer(ring, has_news=True)
    assert ring.wishes(has_news=False) == []


def test_a_ring_that_ran_low_asks_without_news() -> None:
    ring, index = Ring("mx", False, 4), Index(range(10))
    index.answer(ring, has_news=True)
    ring.had_its_turn(0, has_more=True)
    ring.had_its_turn(1, has_more=True)
    assert ring.wishes(has_news=False) == [LaneWish("mx", False, 4, lane(3))]


def test_what_became_due_last_comes_first_when_not_all_fit() -> None:
    ring, index = Ring("mx", False, 4), Index(range(100))
    index.answer(ring, has_news=True)
    index.due[100] = lane(100)
    index.answer(ring, has_news=True)
    assert 100 in ids(ring)[:NEWEST]
    assert ids(ring)[NEWEST:] == [0, 1, 2, 3]


def test_every_lane_has_its_turn_however_many_there_are() -> None:
    ring, index = Ring("mx", False, 4), Index(range(11))
    turns = dict.fromkeys(range(11), 0)
    index.answer(ring, has_news=True)
    for _ in range(60):
        index.answer(ring)
        first = next(iter(ring)).id
        turns[first] += 1
        ring.had_its_turn(first, has_more=True)
    assert min(turns.values()) >= 4
    assert max(turns.values()) <= 8


def test_a_ring_that_overflowed_asks_for_everything_again_when_all_fits() -> None:
    ring, index = Ring("mx", False, 4), Index(range(10))
    index.answer(ring, has_news=True)
    for number in range(8):
        index.due.pop(number)
        ring.had_its_turn(number, has_more=False)
        index.answer(ring)
    assert ids(ring) == [8, 9]
    index.due[1] = lane(1)
    index.answer(ring, has_news=True)
    assert set(ids(ring)) == {8, 9, 1}


def test_a_dropped_lane_is_gone() -> None:
    ring = Ring("mx", False, 4)
    ring.add(lane(1))
    ring.drop(1)
    ring.drop(2)
    assert ids(ring) == []
