"""Which lanes are claimed from, and whose batch goes next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from policy.config import AnyAction, Config, Maildir, Relay
from scheduler.limits import Room
from scheduler.pool import CLAIM_FROM_LANE, CLAIM_ROUND, Job, LaneInHand, Order, Pool
from scheduler.targets import Targets
from spool.lane import DueLane, Lane
from spool.message import Claimed
from tests.tools.in_flight import SMARTHOST, Claim, claimed, config_of

RELAY = Relay(name="mx")
ROOM = Room(sessions=12, strangers=12, probes=2, in_flight=40, octets=1 << 20)
#: Due envelopes of a lane, by its number.
Due = dict[int, int]


class Desk:
    """A pool for one action by MX, and a spool that gives it whatever it orders."""

    def __init__(self, room: Room = ROOM, action: AnyAction = RELAY) -> None:
        self.config = config_of(action)
        self.pool = Pool(room, Targets(self._present))
        self.pool.serve(["mx"])
        self._numbers = 0

    def _present(self) -> Config:
        return self.config

    def see(self, *numbers: int, failures: int = 0) -> None:
        """Lanes turn out to be due."""
        for number in numbers:
            self.pool.see(DueLane(number, Lane("mx", f"d{number}.example"), 0, failures))

    def give(self, order: Order, available: int) -> None:
        """The spool has ``available`` due envelopes for an order."""
        self.pool.take(order, [self._claim(order) for _ in range(min(order.room, available))])

    def _claim(self, order: Order) -> Claimed:
        self._numbers += 1
        return claimed(Claim(self._numbers, lane=order.due.lane))

    def give_all(self, due: Due) -> None:
        """Everything that is ordered, once."""
        for order in self.pool.orders():
            self.give(order, due[order.due.id])

    def jobs(self) -> list[Job]:
        """Sessions as long as there are any."""
        found = []
        while (job := self.pool.next_job()) is not None:
            found.append(job)
        return found

    def finish(self, job: Job) -> None:
        """A session ended, and its outcome is recorded."""
        self.pool.session_ended(job)
        job.load.unrecorded -= 1
        self.pool.settled(job.lane, [job.batch])


@pytest.fixture
def desk() -> Desk:
    return Desk()


def ordered(desk: Desk) -> dict[int, int]:
    return {order.due.id: order.room for order in desk.pool.orders()}


def test_a_lonely_lane_is_claimed_from_in_one_go() -> None:
    desk = Desk(Room(sessions=200, strangers=200, probes=2, in_flight=1000, octets=1 << 20))
    desk.see(1)
    assert ordered(desk) == {1: CLAIM_FROM_LANE}


def test_many_lanes_share_a_claim() -> None:
    desk = Desk(Room(sessions=200, strangers=200, probes=2, in_flight=1000, octets=1 << 20))
    desk.see(*range(64))
    assert ordered(desk) == dict.fromkeys(range(64), CLAIM_ROUND // 64)


def test_mailboxes_share_a_claim_by_messages_and_not_by_batches() -> None:
    desk = Desk(replace(ROOM, in_flight=200), Maildir(name="mx"))
    desk.see(*range(10))
    orders = desk.pool.orders()
    assert [order.room for order in orders] == [20] * 10
    for order in orders:
        desk.give(order, 20)
    assert [len(job.batch.items) for job in desk.jobs()] == [20] * 10


def test_no_more_is_claimed_than_may_be_in_flight() -> None:
    desk = Desk(Room(sessions=100, strangers=100, probes=2, in_flight=40, octets=1 << 20))
    desk.see(1, 2, 3)
    desk.give_all({1: 100, 2: 100, 3: 100})
    assert desk.pool.in_flight == 39
    desk.see(4)
    assert ordered(desk) == {4: 1}


def test_a_pool_without_room_says_that_it_is_short(desk: Desk) -> None:
    desk.see(*range(50))
    desk.pool.orders()
    assert desk.pool.is_short


def test_bodies_in_memory_are_bounded() -> None:
    desk = Desk(Room(sessions=12, strangers=12, probes=2, in_flight=1000, octets=2000))
    desk.see(1)
    desk.give_all({1: 2})
    desk.see(2)
    assert ordered(desk) == {}


def test_a_paused_pool_claims_nothing(desk: Desk) -> None:
    desk.see(1)
    desk.pool.is_paused = True
    assert ordered(desk) == {}


def test_a_failing_lane_is_probed_by_one_envelope(desk: Desk) -> None:
    desk.see(1, failures=3)
    assert ordered(desk) == {1: 1}


def test_a_failing_lane_is_not_probed_twice_at_a_time(desk: Desk) -> None:
    desk.see(1, failures=3)
    desk.give_all({1: 10})
    desk.see(1, failures=3)
    assert ordered(desk) == {}


def test_probes_are_limited_and_leave_working_lanes_alone(desk: Desk) -> None:
    desk.see(1, 2, 3, 4, failures=1)
    desk.see(10)
    assert ordered(desk).keys() == {10, 1, 2}
    desk.give_all({1: 9, 2: 9, 10: 0})
    desk.see(3, failures=1)
    assert ordered(desk) == {}


def test_a_probe_that_ended_makes_room_for_another(desk: Desk) -> None:
    desk.see(1, 2, 3, failures=1)
    desk.give_all({1: 1, 2: 1})
    for job in desk.jobs():
        desk.finish(job)
    assert ordered(desk) == {3: 1}


def test_sessions_go_round_the_lanes(desk: Desk) -> None:
    desk.see(1, 2)
    desk.give_all({1: 20, 2: 20})
    assert [job.lane.id for job in desk.jobs()][:6] == [1, 2, 1, 2, 1, 2]


def test_a_route_has_no_more_sessions_than_it_may(desk: Desk) -> None:
    desk.see(1)
    desk.give_all({1: 40})
    assert len(desk.jobs()) == 5


def test_all_routes_together_have_no_more_sessions_than_they_may(desk: Desk) -> None:
    desk.see(1, 2, 3, 4)
    desk.give_all({1: 10, 2: 10, 3: 10, 4: 10})
    assert len(desk.jobs()) == ROOM.sessions


def test_a_lane_is_hungry_when_its_sessions_have_less_than_one_batch_each_to_come() -> None:
    desk = Desk(Room(sessions=100, strangers=100, probes=2, in_flight=1000, octets=1 << 20))
    desk.see(1)
    desk.give_all({1: 100})
    running = desk.jobs()
    lane = running[0].lane
    while len(lane.waiting) > lane.load.allowed:
        desk.finish(running.pop())
        running += desk.jobs()
    assert not desk.pool.is_hungry(running[-1])
    desk.finish(running.pop())
    running += desk.jobs()
    assert desk.pool.is_hungry(running[-1])


def test_a_lane_that_gave_less_than_was_asked_is_not_asked_again(desk: Desk) -> None:
    desk.see(1)
    desk.give_all({1: 3})
    for job in desk.jobs():
        desk.finish(job)
    assert ordered(desk) == {}


def test_what_waits_for_a_session_can_be_taken_back(desk: Desk) -> None:
    desk.see(1)
    desk.give_all({1: 8})
    running = desk.jobs()
    lane = running[0].lane
    waiting = desk.pool.withdraw(lane)
    assert (len(running), len(waiting)) == (5, 3)
    desk.pool.settled(lane, waiting)
    assert desk.pool.in_flight == 5
    assert desk.pool.next_job() is None


def test_a_lane_is_out_of_hand_when_its_last_envelope_is_recorded(desk: Desk) -> None:
    desk.see(1)
    desk.give_all({1: 2})
    for job in desk.jobs():
        assert desk.pool.lane(1) is job.lane
        desk.finish(job)
    assert desk.pool.lane(1) is None
    assert (desk.pool.sessions, desk.pool.in_flight) == (0, 0)


def test_a_lane_stays_in_hand_until_its_verdict_is_recorded(desk: Desk) -> None:
    desk.see(1)
    desk.give_all({1: 1})
    (job,) = desk.jobs()
    job.lane.verdicts = 1
    desk.finish(job)
    assert desk.pool.lane(1) is job.lane


def closed(desk: Desk) -> LaneInHand:
    desk.see(1)
    desk.give_all({1: 40})
    lane = desk.jobs()[0].lane
    lane.failures = 1
    desk.pool.closed(lane)
    return lane


def test_a_closed_lane_is_not_claimed_from(desk: Desk) -> None:
    closed(desk)
    desk.see(1)
    assert ordered(desk) == {}


def test_an_opened_lane_is_claimed_from_at_once(desk: Desk) -> None:
    lane = closed(desk)
    desk.pool.settled(lane, desk.pool.withdraw(lane))
    lane.failures = 0
    desk.pool.opened(lane, 1000)
    assert ordered(desk).keys() == {1}


@pytest.fixture
def fixed_host() -> Callable[[], Config]:
    return lambda: config_of(Relay(name="mx", hosts=(SMARTHOST,)))


def test_a_lane_that_is_known_as_working_and_as_failing_is_ordered_once(desk: Desk) -> None:
    desk.see(1)
    desk.see(1, failures=3)
    assert [order.due.id for order in desk.pool.orders()] == [1]


def test_a_reload_leads_the_next_batches_elsewhere(desk: Desk, fixed_host: Callable[[], Config]) -> None:
    desk.see(1)
    desk.give_all({1: 40})
    before = desk.jobs()
    desk.config = fixed_host()
    desk.see(1)
    for job in before:
        desk.finish(job)
    lane = before[0].lane
    desk.pool.settled(lane, desk.pool.withdraw(lane)[5:])
    desk.see(1)
    desk.give_all({1: 1})
    after = desk.pool.next_job()
    assert after is not None
    assert (before[0].target.name, after.target.name) == ("mx:d1.example", "smtp://mail.example.org:25")


# -- routes that have not worked yet ----------------------------------------------------------------------------------

WARY = Room(sessions=12, strangers=6, probes=2, in_flight=1000, octets=1 << 20)


def prove(desk: Desk, number: int) -> None:
    """The route of a lane works."""
    desk.see(number)
    desk.give_all({number: 1})
    (job,) = desk.jobs()
    job.load.worked(1)
    desk.finish(job)


def test_strangers_leave_sessions_to_those_that_are_known_to_work() -> None:
    desk = Desk(WARY)
    prove(desk, 100)
    desk.see(*range(20))
    while ordered(desk):
        desk.give_all(dict.fromkeys(range(20), 5))
        desk.jobs()
    assert desk.pool.sessions == WARY.strangers
    desk.see(100, *range(20, 40))
    assert ordered(desk).keys() == {100}
    desk.give_all({100: 10})
    assert {job.lane.id for job in desk.jobs()} == {100}


def test_no_more_is_claimed_of_a_stranger_than_it_may_have_sessions() -> None:
    desk = Desk(WARY)
    desk.see(1)
    assert ordered(desk) == {1: 5}


def test_a_route_that_failed_is_a_stranger_again() -> None:
    desk = Desk(WARY)
    prove(desk, 1)
    desk.see(1)
    assert ordered(desk)[1] > 5
    desk.give_all({1: 1})
    (job,) = desk.jobs()
    job.load.is_proven = False
    desk.finish(job)
    desk.see(1)
    assert ordered(desk) == {1: 5}


def test_a_stranger_that_ended_makes_room_for_another() -> None:
    desk = Desk(WARY)
    desk.see(*range(40))
    desk.give_all(dict.fromkeys(range(40), 1))
    running = desk.jobs()
    assert len(running) == WARY.strangers
    desk.pool.orders()
    desk.pool.session_ended(running[0])
    assert desk.pool.is_hungry(running[0])


def test_lanes_that_share_a_busy_route_have_their_turns_too(desk: Desk) -> None:
    desk.config = config_of(Relay(name="mx", hosts=(SMARTHOST,)))
    desk.see(1)
    desk.give_all({1: 24})
    running = desk.jobs()
    assert len(running) == 5
    desk.see(2)
    desk.finish(running.pop())
    desk.jobs()
    desk.give_all({2: 5})
    desk.finish(running.pop())
    desk.finish(running.pop())
    assert 2 in {job.lane.id for job in desk.jobs()}


def test_no_more_batches_wait_than_keep_the_sessions_busy() -> None:
    desk = Desk(Room(sessions=5, strangers=5, probes=2, in_flight=1000, octets=1 << 20))
    desk.see(*range(30))
    desk.give_all(dict.fromkeys(range(30), 1))
    assert ordered(desk) == {}
    assert len(desk.jobs()) == 5
    assert len(ordered(desk)) == 5


def test_commands_that_one_user_chose_leave_the_other_users_their_sessions() -> None:
    desk = Desk(Room(sessions=50, strangers=50, probes=2, in_flight=1000, octets=1 << 20, of_one_user=7))
    due = dict.fromkeys(range(60), 3)
    for number in due:
        # The first forty are ann's, one for each of her commands.
        key = f"ann|slow {number}" if number < 40 else f"user{number}|fast"
        desk.pool.see(DueLane(number, Lane("mx", key), 0, 0))
    jobs = []
    while orders := desk.pool.orders():
        for order in orders:
            desk.give(order, due[order.due.id])
        jobs += desk.jobs()
    assert sum(job.lane.chooser == "ann" for job in jobs) == 7
    assert {job.lane.chooser for job in jobs} == {"ann"} | {f"user{number}" for number in range(40, 60)}


def test_commands_that_one_user_chose_are_all_run_in_the_end() -> None:
    desk = Desk(Room(sessions=5, strangers=5, probes=2, in_flight=1000, octets=1 << 20, of_one_user=2))
    for number in range(40):
        desk.pool.see(DueLane(number, Lane("mx", f"ann|{number}"), 0, 0))
    run: list[int] = []
    claimed_lanes: set[int] = set()

    def claim() -> None:
        for order in desk.pool.orders():
            desk.give(order, order.due.id not in claimed_lanes)
            claimed_lanes.add(order.due.id)

    claim()
    while len(run) < 40:
        jobs = desk.jobs()
        assert 0 < len(jobs) <= 2
        for job in jobs:
            run.append(job.lane.id)
            desk.finish(job)
            if desk.pool.is_hungry(job):
                claim()
    assert sorted(run) == list(range(40))
