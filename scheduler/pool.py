"""One kind of traffic: which lanes to claim from, whose batch goes next, and how much is in hand.

A lane is in hand from its claim until its last outcome is recorded. Its batches wait for a session; sessions go round all
lanes in hand, a batch at a time, so that a lane with a million envelopes has no more of them than one with a hundred. Routes
that have not worked yet share a part of the sessions: if all of them hang, those that are known to work still have theirs.

Guarantees: never more sessions, probes or claimed envelopes than its `Room`. A lane whose route fails is probed by one
envelope, and by no second one before that has ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from policy.route import Unroutable, chooser_of
from scheduler.batches import make_batches, octets_in_memory, shares_batches
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
#: Batches that may wait for each session: enough to keep it busy during a commit, and no more than new mail can overtake.
CLAIMED_AHEAD: Final = 2


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
    #: The user who chose its command or file; empty for other lanes.
    chooser: str = ""
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
    is_stranger: bool = False


class Pool:
    """See the module."""

    def __init__(self, room: Room, targets: Targets) -> None:
        self.room = room
        self.is_paused = False
        #: The spool's index may know of due lanes that are not here.
        self.has_news = True
        #: Mail is due that finds no room: whoever makes room should have more claimed. The same for strangers' room.
        self.is_short = False
        self._strangers_are_short = False
        self._choosers_are_short = False
        #: Batches being tried, envelopes claimed and not yet recorded.
        self.sessions = 0
        self.in_flight = 0
        self._targets = targets
        self._limits = Limits()
        self._probes = 0
        #: Sessions with routes that have not proven themselves.
        self._strangers = 0
        #: Batches that wait for a session, and octets of all bodies in memory.
        self._waiting = 0
        self._octets = 0
        #: Of the lanes with a chooser: batches that wait, and sessions.
        self._waiting_for: Counter[str] = Counter()
        self._sessions_for: Counter[str] = Counter()
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
        return [(ring, wish) for ring in self._rings.values() for wish in ring.wishes(has_news)]

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
        self._choosers_are_short = False
        wanting = list(islice(self._wanting(), budget + 1))
        self.is_short = len(wanting) > budget or not (budget or self.is_paused)
        share = _share(budget, wanting)
        # Several messages for a mailbox wait as one batch: the more there are, the more of them share its fsync.
        share_of_mailbox = _share(self._claimable(), wanting)
        strangers = self._room_for_strangers()
        self._strangers_are_short = strangers < self.room.strangers
        orders = []
        promised: Counter[str] = Counter()
        for ring, due, target in wanting[:budget]:
            room = share_of_mailbox if shares_batches(due.lane, target.action) else share
            if ring.failing:
                room = 1
            if self._is_stranger(ring, target):
                room = min(room, target.bounds.first, strangers)
                strangers -= room
            if chooser := chooser_of(due.lane.key):
                room = min(room, self._room_for(chooser) - promised[chooser])
                promised[chooser] += room
            if room:
                orders.append(Order(due, target, room, ring))
        return orders

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
        self._waits(lane, len(batches))

    def _waits(self, lane: LaneInHand, batches: int) -> None:
        """So many more batches wait for a session, or less."""
        self._waiting += batches
        if lane.chooser:
            self._waiting_for[lane.chooser] += batches
            if not self._waiting_for[lane.chooser]:
                del self._waiting_for[lane.chooser]

    def _room_for(self, chooser: str) -> int:
        """How much more may be claimed for commands and files of one user."""
        room = CLAIMED_AHEAD * self.room.of_one_user - self._waiting_for[chooser]
        self._choosers_are_short = self._choosers_are_short or room <= 0
        return max(0, room)

    def _budget(self) -> int:
        if self.is_paused or self._octets >= self.room.octets:
            return 0
        to_wait = CLAIMED_AHEAD * self.room.sessions - self._waiting
        return max(0, min(self._claimable(), to_wait))

    def _claimable(self) -> int:
        """Envelopes that one claim may take, whatever batches they make."""
        return min(CLAIM_ROUND, self.room.in_flight - self.in_flight)

    def _is_stranger(self, ring: Ring, target: Target) -> bool:
        """Whether this route must prove itself first; probes of failing ones have their own limit."""
        all_are_welcome = self.room.strangers == self.room.sessions
        return not (all_are_welcome or ring.failing or self._limits.is_proven(target.name))

    def _room_for_strangers(self) -> int:
        waiting = sum(len(lane.waiting) for lane in self._line if not lane.load.is_proven)
        return max(0, CLAIMED_AHEAD * self.room.strangers - waiting)

    def _wanting(self) -> Iterator[tuple[Ring, DueLane, Target]]:
        """Lanes that may be claimed from, one of each ring after the other."""
        lines = deque((ring, iter(tuple(ring))) for ring in self._rings.values() if ring)
        probes = self.room.probes - self._probes
        strangers_wait = self._room_for_strangers() == 0
        # A page that was read before a lane's route proved to work again may have put it into both of its rings.
        ordered: set[int] = set()
        while lines:
            ring, line = lines.popleft()
            if ring.failing and probes <= 0:
                continue
            for due in line:
                target = self._wanted(ring, due, strangers_wait)
                if target is not None and due.id not in ordered:
                    ordered.add(due.id)
                    probes -= ring.failing
                    lines.append((ring, line))
                    yield ring, due, target
                    break

    def _wanted(self, ring: Ring, due: DueLane, strangers_wait: bool) -> Target | None:
        target = self._targets(due.lane)
        if isinstance(target, Unroutable):
            return None
        if strangers_wait and self._is_stranger(ring, target):
            return None
        if (chooser := chooser_of(due.lane.key)) and not self._room_for(chooser):
            return None
        lane = self._hand.get(due.id)
        if lane is None:
            return target
        is_open = not (ring.failing or lane.failures or lane.verdicts)
        return target if is_open and len(lane.waiting) < lane.load.allowed else None

    def _lane_in_hand(self, order: Order) -> LaneInHand:
        due, target = order.due, order.target
        lane = self._hand.get(due.id)
        if lane is None:
            load = self._limits.open(target.name, target.bounds)
            lane = self._hand[due.id] = LaneInHand(due.id, due.lane, target, load, chooser=chooser_of(due.lane.key))
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
            if self._may_have_session(lane):
                batch = lane.waiting.popleft()
                if lane.waiting:
                    self._line.append(lane)
                return self._begin(lane, batch)
            self._line.append(lane)
        return None

    def _may_have_session(self, lane: LaneInHand) -> bool:
        if lane.chooser and self._sessions_for[lane.chooser] >= self.room.of_one_user:
            return False
        is_known = lane.load.is_proven or lane.is_probing
        return lane.load.free > 0 and (is_known or self._strangers < self.room.strangers)

    def _begin(self, lane: LaneInHand, batch: Batch) -> Job:
        is_stranger = not (lane.load.is_proven or lane.is_probing)
        lane.load.running += 1
        self._strangers += is_stranger
        self._waits(lane, -1)
        self.sessions += 1
        if lane.chooser:
            self._sessions_for[lane.chooser] += 1
        return Job(lane, lane.target, lane.load, batch, is_stranger)

    def session_ended(self, job: Job) -> None:
        """A batch was tried; what came of it is on its way to the spool."""
        job.load.running -= 1
        job.load.unrecorded += 1
        self._strangers -= job.is_stranger
        self.sessions -= 1
        if chooser := job.lane.chooser:
            self._sessions_for[chooser] -= 1
            if not self._sessions_for[chooser]:
                del self._sessions_for[chooser]

    def is_hungry(self, job: Job) -> bool:
        """Whether more should be claimed now that this batch has ended."""
        if self.is_short:
            return self._budget() > 0
        if (job.is_stranger and self._strangers_are_short) or (job.lane.chooser and self._choosers_are_short):
            return True
        more = self._rings.get((job.lane.lane.action, False), ())
        return len(job.lane.waiting) < job.load.allowed and job.lane.id in more

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
        self._waits(lane, -len(batches))
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


def _share(budget: int, wanting: Sequence[object]) -> int:
    """What each lane may have of a claim."""
    return min(CLAIM_FROM_LANE, max(1, budget // max(1, len(wanting))))


def _ring(action: str, failing: bool) -> Ring:
    return Ring(action, failing, FAILING_LANES if failing else LANES)
