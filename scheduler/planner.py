"""Finds lanes with something due and claims from them, for all kinds of traffic at once.

Guarantees: what is asked of the spool is bounded by the room there is, not by the queue. A lane that leads nowhere by the
present configuration is moved to where its mail goes now or, when its action is gone, parked with the reason.

Failure: `SpoolFull` and `SpoolUnavailable` come through, nothing is claimed then; `SpoolLost` too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Final

import anyio

from policy.config import AnyAction, Config
from policy.route import Unroutable, lane_key, local_key
from scheduler.limits import Traffic, traffic_of
from scheduler.pool import Pool
from scheduler.targets import Targets
from spool.door import SpoolDoor
from spool.errors import SpoolError
from spool.lane import REPORTS, ClaimOrder, DueLane, Lane, LaneWish
from spool.message import Destination

#: Lanes of an action that the configuration does not have, parked at a time.
STRAYS: Final = 64

log: Final = logging.getLogger(__name__)


class Planner:
    """See the module."""

    def __init__(
        self, spool: SpoolDoor, config: Callable[[], Config], pools: Mapping[Traffic, Pool], targets: Targets
    ) -> None:
        self._spool = spool
        self._config = config
        self._pools = pools
        self._targets = targets
        self._strays: list[str] = []
        self._looked_at = -1
        self._next_wake: int | None = None
        self._knows_next_wake = False

    def look_again(self) -> None:
        """Something may be due that is not known here."""
        for pool in self._pools.values():
            pool.has_news = True
        self._knows_next_wake = False

    async def find_strays(self) -> None:
        """Learn of lanes whose action the configuration does not have."""
        known = self._config().actions.keys() | {REPORTS.action}
        self._strays = [action for action in await self._spool.lane_actions() if action not in known]

    async def plan(self) -> bool:
        """Claim what there is room for; whether that was anything."""
        await self._look()
        orders = [(pool, order) for pool in self._pools.values() for order in pool.orders()]
        if not orders:
            return False
        claimed = await self._spool.claim([ClaimOrder(order.due.id, order.room) for _, order in orders])
        by_lane = {lane_id: list(items) for lane_id, items in groupby(claimed, key=attrgetter("lane_id"))}
        for pool, order in orders:
            pool.take(order, by_lane.get(order.due.id, ()))
        return bool(claimed)

    async def next_wake(self) -> int | None:
        """When the next lane wakes that was not due at the last look (spool ms)."""
        if not self._knows_next_wake:
            self._knows_next_wake = True
            self._next_wake = await self._spool.next_wake(self._looked_at)
        return self._next_wake

    async def _look(self) -> None:
        self._share_out_actions()
        asked = [wish for pool in self._pools.values() for wish in pool.wishes()]
        # Even when nothing is asked: what is due by now waits for room, not for its time.
        self._looked_at = self._spool.clock.now()
        if not asked:
            return
        wishes = [wish for _, wish in asked] + [LaneWish(action, False, STRAYS) for action in self._strays]
        try:
            pages = await self._spool.due_lanes(self._looked_at, wishes)
        except SpoolError:
            self.look_again()
            raise
        for (ring, wish), page in zip(asked, pages, strict=False):
            ring.take_in(wish, page)
        found = ((lane, self._targets(lane.lane)) for page in pages for lane in page)
        astray = [(lane, target) for lane, target in found if isinstance(target, Unroutable)]
        if astray:
            async with anyio.create_task_group() as together:
                for lane, trouble in astray:
                    together.start_soon(self._lead_on, lane, trouble)

    def _share_out_actions(self) -> None:
        actions: dict[Traffic, list[str]] = {traffic: [] for traffic in self._pools}
        actions[Traffic.REPORTS].append(REPORTS.action)
        for action in self._config().actions.values():
            actions[traffic_of(action)].append(action.name)
        for traffic, pool in self._pools.items():
            pool.serve(actions[traffic])

    async def _lead_on(self, lane: DueLane, trouble: Unroutable) -> None:
        action = self._config().actions.get(lane.lane.action)
        moved = await self._spool.relane(lane.id, lane_by(action)) if action is not None else 0
        if not moved:
            log.warning("mail for lane %s/%s waits: %s", lane.lane.action, lane.lane.key, trouble.reason)
            await self._spool.park_lane(lane.id, trouble.reason)


def lane_by(action: AnyAction) -> Callable[[Destination], Lane]:
    """The lane that ``action`` wants a destination in."""

    def lane_of(destination: Destination) -> Lane:
        return Lane(action.name, lane_key(action, destination.address.domain, local_key(destination)))

    return lane_of
