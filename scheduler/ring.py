"""Lanes that may have something due, in turn: a few of possibly very many, the rest stays in the spool's index.

As long as all due lanes of an action fit, they are all here and stay here while they have more. When they do not, a lane
that had its turn goes out, and the next page of the index comes in, round and round: no lane waits for ever behind those
that always have more. Meanwhile those that became due last are looked at too, so that new mail does not have to wait for a
whole round.

Guarantees: a page of `capacity` lanes is asked for when no more than half as many are here, so memory is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from spool.lane import DueLane, LaneWish

#: Lanes that are taken from the newest end when something became due and not all fit.
NEWEST: Final = 16


class Ring:
    """The lanes of one action, either those whose route works or those whose route fails."""

    def __init__(self, action: str, failing: bool, capacity: int) -> None:
        self.action = action
        self.failing = failing
        self._capacity = capacity
        self._lanes: OrderedDict[int, DueLane] = OrderedDict()
        self._overflows = False
        self._after: DueLane | None = None

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> Iterator[DueLane]:
        return iter(self._lanes.values())

    def __contains__(self, lane_id: int) -> bool:
        return lane_id in self._lanes

    def wishes(self, has_news: bool) -> list[LaneWish]:
        """What to ask the spool for: nothing while nothing new is to be had, or enough is here."""
        if not self._overflows:
            return [LaneWish(self.action, self.failing, self._capacity)] if has_news else []
        wishes = []
        if len(self._lanes) <= self._capacity // 2:
            wishes.append(LaneWish(self.action, self.failing, self._capacity, self._after))
        if has_news:
            wishes.append(LaneWish(self.action, self.failing, NEWEST, newest=True))
        return wishes

    def take_in(self, wish: LaneWish, page: Sequence[DueLane]) -> None:
        """What the spool answered."""
        if wish.newest:
            for lane in page:
                self._lanes[lane.id] = lane
                self._lanes.move_to_end(lane.id, last=False)
            return
        full = len(page) == wish.limit
        self._overflows = full or wish.after is not None
        self._after = page[-1] if full else None
        for lane in page:
            self._lanes[lane.id] = lane

    def add(self, lane: DueLane) -> None:
        """A lane that is known to have something due."""
        self._lanes[lane.id] = lane

    def had_its_turn(self, lane_id: int, has_more: bool) -> None:
        """Something was claimed of this lane: to the end of the line, or out."""
        lane = self._lanes.pop(lane_id, None)
        if lane is not None and has_more and not self._overflows:
            self._lanes[lane_id] = lane

    def drop(self, lane_id: int) -> None:
        """This lane has no business here any more."""
        self._lanes.pop(lane_id, None)
