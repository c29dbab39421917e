"""When the memory of clients who have left is given back."""

from __future__ import annotations

import pytest

from ingress.ebb import CROWD, Ebb, give_back


class Told:
    """Counts how often something was given back."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def told() -> Told:
    return Told()


def risen(told: Told, clients: int) -> Ebb:
    ebb = Ebb(told)
    for number in range(1, clients + 1):
        ebb.rises(number)
    return ebb


def test_nothing_is_given_back_while_they_are_there(told: Told) -> None:
    risen(told, 10 * CROWD).look(10 * CROWD)
    assert told.times == 0


def test_it_is_given_back_once_when_all_have_left(told: Told) -> None:
    ebb = risen(told, CROWD)
    ebb.look(0)
    ebb.look(0)
    assert told.times == 1


def test_a_few_who_come_and_go_give_nothing_back(told: Told) -> None:
    ebb = risen(told, CROWD - 1)
    ebb.look(0)
    assert told.times == 0


def test_it_is_given_back_when_half_have_left_and_again_when_the_others_have(told: Told) -> None:
    ebb = risen(told, 4 * CROWD)
    ebb.look(3 * CROWD)
    assert told.times == 0
    ebb.look(2 * CROWD)
    assert told.times == 1
    ebb.look(0)
    assert told.times == 2


def test_a_crowd_that_comes_again_counts_again(told: Told) -> None:
    ebb = risen(told, CROWD)
    ebb.look(0)
    for number in range(1, CROWD + 1):
        ebb.rises(number)
    ebb.look(0)
    assert told.times == 2


def test_giving_back_leaves_everything_in_its_place() -> None:
    kept = [bytes(1000) for _ in range(1000)]
    give_back()
    assert all(piece == bytes(1000) for piece in kept)
