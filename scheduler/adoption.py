"""What a new configuration means for mail that is queued already: other lanes, other deadlines, lanes without an action.

The spool remembers how each action chose its lanes, and for how long its mail may wait, when that was last put into
practice; so a configuration that was changed while nothing ran is found out too, and one that was not costs nothing.

Guarantees: works in bounded transactions; done again after a crash in the middle, it comes to the same.

Failure: what the spool raises comes through; the old facts stay remembered, so that the next start does it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import anyio

from policy.config import Config, Relay
from policy.route import Unroutable
from scheduler.planner import lane_by
from scheduler.targets import target_of
from spool.door import SpoolDoor
from spool.lane import REPORTS, LaneStatus

#: Under which name the facts are remembered.
FACTS: Final = "actions"
#: Lanes looked at in one go.
PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class ActionFacts:
    """What of an action is written into envelopes when they are accepted."""

    keyed_by: str
    ttl: int


async def adopt(spool: SpoolDoor, config: Config) -> bool:
    """Bring lanes and deadlines in line with ``config``; whether there was anything to do. Nothing is claimed meanwhile."""
    change = _Change(config, _decode(await spool.recall(FACTS)), facts_of(config))
    if change.before == change.after:
        return False
    last = 0
    while page := await spool.lanes(last, PAGE):
        # All at once, so that they share commits.
        async with anyio.create_task_group() as together:
            for status in page:
                together.start_soon(change.apply, spool, status)
        last = page[-1].id
    await spool.remember(FACTS, json.dumps({name: [fact.keyed_by, fact.ttl] for name, fact in change.after.items()}))
    return True


@dataclass(frozen=True, slots=True)
class _Change:
    config: Config
    before: dict[str, ActionFacts]
    after: dict[str, ActionFacts]

    async def apply(self, spool: SpoolDoor, status: LaneStatus) -> None:
        lane = status.lane
        if lane == REPORTS:
            return
        old, new = self.before.get(lane.action), self.after.get(lane.action)
        if new is not None and (old is None or old.keyed_by != new.keyed_by):
            await spool.relane(status.id, lane_by(self.config.actions[lane.action]))
        if new is not None and (old is None or old.ttl != new.ttl):
            await spool.set_ttl(status.id, new.ttl)
        target = target_of(self.config, lane)
        if isinstance(target, Unroutable):
            await spool.park_lane(status.id, target.reason)
        elif status.parked:
            await spool.unpark_lane(status.id)


def facts_of(config: Config) -> dict[str, ActionFacts]:
    """The facts of every action by name."""
    return {name: ActionFacts(_keyed_by(config, name), config.ttl_of(name)) for name in config.actions}


def _keyed_by(config: Config, name: str) -> str:
    action = config.actions[name]
    if not isinstance(action, Relay):
        return "user"
    return "host" if action.hosts else "domain"


def _decode(text: str) -> dict[str, ActionFacts]:
    if not text:
        return {}
    return {name: ActionFacts(keyed_by, ttl) for name, (keyed_by, ttl) in json.loads(text).items()}
