"""One kind of traffic: which lanes to claim from, whose batch goes next, and how much is in hand.

A lane is in hand from its claim until its last outcome is recorded. Its batches wait for a session; sessions go round all
lanes in hand, a batch at a time, so that a lane with a million envelopes has no more of them than one with a hundred.

Guarantees: never more sessions, probes or claimed envelopes than its `Room`. A lane whose route fails is probed by one
envelope, and by no second one before that has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from policy.route import Unroutable
from scheduler.batches import make_batches, octets_in_memory
from scheduler.limits import Limits, Room, RouteLoad
from scheduler.ring import Ring
from scheduler.targets import Target, Targets
from spool.lane import DueLane, Lane, LaneWish
from spool.message import Batch, Claimed

#: Lanes of one action that are kept in memory; of failing ones few are tried at a time anyway.
LANES: Final = 256
FAILING_LANES: Final = 64
#: Envelopes of one lane, and of all lanes, that one claim takes: a few milliseconds of the spool's thread.
CLAIM_FROM_LANE: Final = 100
CLAIM_ROUND: Final = 256


@dataclass(slots=True, eq=False)
class LaneInHand:
    """A lane of which something is claimed. Times are spool time in milliseconds."""

    id: int
    lane: Lane
    target: Target
    load: RouteLoad
    #: Failures of its route in a row.
    failures: int = 0
    #: When its route failed last, or before all time.
    failed_at: int = -1
    #: Whether what is in flight is the probe of a failing route.
    is_probing: bool = False
    waiting: deque[Batch] = field(default_factory=deque)
    #: Envelopes claimed and not yet recorded, waiting ones included.
    in_flight: int = 0
    #: Verdicts on their way to the spool; until they are there, its index says something old.
    verdicts: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A claim to be made."""

    due: DueLane
    target: Target
    room: int
    ring: Ring


@dataclass(frozen=True, slots=True)
class Job:
    """A batch that has a session."""

    lane: LaneInHand
    #: As it was when the session began: a reload may change the lane's meanwhile.
    target: Target
    load: RouteLoad
    batch: Batch


class Pool:
    """See the module."""

    def __init__(self, room: Room, targets: Targets) -> None:
        self.room = room
        self.is_paused = False
        #: The spool's index may know of due lanes that are not here.
        self.has_news = True
        #: Mail is due that finds no room: whoever makes room should have more claimed.
        self.is_short = False
        #: Batches being tried, envelopes claimed and not yet recorded.
        self.sessions = 0
        self.in_flight = 0
        self._targets = targets
        self._limits = Limits()
        self._probes = 0
        self._octets = 0
        self._rings: dict[tuple[str, bool], Ring] = {}
        self._hand: dict[int, LaneInHand] = {}
        #: Lanes with waiting batches, in the order of their turns.
        self._line: deque[LaneInHand] = deque()

    # -- which lanes to claim from ------------------------------------------------------------------------------------

    def wishes(self) -> list[tuple[Ring, LaneWish]]:
        """What to ask the spool for, while there is room for anything."""
        if not self._budget():
            return []
        has_news, self.has_news = self.has_news, False
        return [(ring, wish) for ring in self._rings.values() if (wish := ring.wish(has_news)) is not None]

    def serve(self, actions: Sequence[str]) -> None:
        """From now on this pool is for the lanes of these actions, and of no others."""
        keys = [(action, failing) for failing in (False, True) for action in actions]
        if list(self._rings) != keys:
            self._rings = {key: self._rings.get(key) or _ring(*key) for key in keys}

    def see(self, lane: DueLane) -> None:
        """This lane has something due."""
        ring = self._rings.get((lane.lane.action, lane.failures > 0))
        if ring is not None:
            ring.add(lane)

    def orders(self) -> list[Order]:
        """What to claim now, shared out among the lanes that want something."""
        budget = self._budget()
        wanting = list(islice(self._wanting(), budget + 1))
        self.is_short = len(wanting) > budget or not (budget or self.is_paused)
        share = min(CLAIM_FROM_LANE, max(1, budget // max(1, len(wanting))))
        return [Order(due, target, 1 if ring.failing else share, ring) for ring, due, target in wanting[:budget]]

    def take(self, order: Order, claimed: Sequence[Claimed]) -> None:
        """What the spool gave for an order."""
        has_more = len(claimed) == order.room and not order.ring.failing
        order.ring.had_its_turn(order.due.id, has_more)
        if not claimed:
            return
        lane = self._lane_in_hand(order)
        batches = make_batches(lane.lane, lane.target.action, claimed)
        lane.in_flight += len(claimed)
        self.in_flight += len(claimed)
        self._octets += sum(map(octets_in_memory, batches))
        if not lane.waiting:
            self._line.append(lane)
        lane.waiting.extend(batches)

    def _budget(self) -> int:
        if self.is_paused or self._octets >= self.room.octets:
            return 0
        return max(0, min(CLAIM_ROUND, self.room.in_flight - self.in_flight))

    def _wanting(self) -> Iterator[tuple[Ring, DueLane, Target]]:
        """Lanes that may be claimed from, one of each ring after the other."""
        lines = deque((ring, iter(tuple(ring))) for ring in self._rings.values() if ring)
        probes = self.room.probes - self._probes
        while lines:
            ring, line = lines.popleft()
            if ring.failing and probes <= 0:
                continue
            for due in line:
                target = self._wanted(ring, due)
                if target is not None:
                    probes -= ring.failing
                    lines.append((ring, line))
                    yield ring, due, target
                    break

    def _wanted(self, ring: Ring, due: DueLane) -> Target | None:
        target = self._targets(due.lane)
        if isinstance(target, Unroutable):
            return None
        lane = self._hand.get(due.id)
        if lane is None:
            free = ring.failing or self._limits.free(target.name, target.bounds) > 0
            return target if free else None
        is_open = not (ring.failing or lane.failures or lane.verdicts)
        return target if is_open and len(lane.waiting) < lane.load.allowed else None

    def _lane_in_hand(self, order: Order) -> LaneInHand:
        due, target = order.due, order.target
        lane = self._hand.get(due.id)
        if lane is None:
            load = self._limits.open(target.name, target.bounds)
            lane = self._hand[due.id] = LaneInHand(due.id, due.lane, target, load)
            if order.ring.failing:
                lane.failures, lane.is_probing = due.failures, True
                self._probes += 1
        elif lane.target is not target:
            self._limits.close(lane.target.name)
            lane.target, lane.load = target, self._limits.open(target.name, target.bounds)
        return lane

    # -- sessions -----------------------------------------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """The next batch that may have a session; None when there is none or no session for it."""
        if self.sessions >= self.room.sessions:
            return None
        for _ in range(len(self._line)):
            lane = self._line.popleft()
            if lane.load.free > 0:
                batch = lane.waiting.popleft()
                if lane.waiting:
                    self._line.append(lane)
                lane.load.running += 1
                self.sessions += 1
                return Job(lane, lane.target, lane.load, batch)
            self._line.append(lane)
        return None

    def is_hungry(self, lane: LaneInHand) -> bool:
        """Whether this lane has more that could be claimed now."""
        more = self._rings.get((lane.lane.action, False), ())
        return not self.is_short and len(lane.waiting) < lane.load.allowed and lane.id in more

    def session_ended(self, job: Job) -> None:
        """A batch was tried; what came of it is on its way to the spool."""
        job.load.running -= 1
        job.load.unrecorded += 1
        self.sessions -= 1

    # -- back to the spool --------------------------------------------------------------------------------------------

    def closed(self, lane: LaneInHand) -> None:
        """The lane's route failed: nothing of it is claimed until the spool says that it is due."""
        for failing in (False, True):
            ring = self._rings.get((lane.lane.action, failing))
            if ring is not None:
                ring.drop(lane.id)

    def opened(self, lane: LaneInHand, now: int) -> None:
        """The lane's route works again, and the spool knows it: what waits there is due at once."""
        self.closed(lane)
        self.see(DueLane(lane.id, lane.lane, now, 0))

    def withdraw(self, lane: LaneInHand) -> list[Batch]:
        """Take what waits for a session away from it; it is on its way back to the spool."""
        batches = list(lane.waiting)
        lane.waiting.clear()
        if batches:
            self._line.remove(lane)
        return batches

    def lanes_waiting(self) -> list[LaneInHand]:
        """Lanes with batches that wait for a session."""
        return list(self._line)

    def lane(self, lane_id: int) -> LaneInHand | None:
        """The lane with this id, if it is in hand."""
        return self._hand.get(lane_id)

    def settled(self, lane: LaneInHand, batches: Sequence[Batch]) -> None:
        """The spool knows what came of these."""
        envelopes = sum(len(batch.items) for batch in batches)
        self.in_flight -= envelopes
        self._octets -= sum(map(octets_in_memory, batches))
        lane.in_flight -= envelopes
        if lane.in_flight or lane.verdicts:
            return
        self._probes -= lane.is_probing
        self._limits.close(lane.target.name)
        del self._hand[lane.id]


def _ring(action: str, failing: bool) -> Ring:
    return Ring(action, failing, FAILING_LANES if failing else LANES)
