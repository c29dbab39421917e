"""What a new configuration means for mail that is queued already: other lanes, other deadlines, lanes without an action.

The spool remembers how each action chose its lanes, and for how long its mail may wait, when that was last put into
practice; so a configuration that was changed while nothing ran is found out too, and one that was not costs nothing.

Guarantees: works in bounded transactions; done again after a crash in the middle, it comes to the same.

Failure: what the spool raises comes through; the old facts stay remembered, so that the next start does it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Self

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


class Adoption:
    """What is to be done for one new configuration: first `move`, while nothing is claimed, then `finish`."""

    def __init__(self, spool: SpoolDoor, config: Config, before: dict[str, ActionFacts]) -> None:
        self._spool = spool
        self._config = config
        self._before = before
        self._after = facts_of(config)

    @classmethod
    async def prepare(cls, spool: SpoolDoor, config: Config) -> Self:
        """Compare ``config`` with what was put into practice last."""
        return cls(spool, config, _decode(await spool.recall(FACTS)))

    async def move(self) -> None:
        """Lanes that their actions choose differently now, those that lost their action, those whose action is back."""
        # Before the first configuration there was no mail.
        if self._before and {name: facts.keyed_by for name, facts in self._before.items()} != {
            name: facts.keyed_by for name, facts in self._after.items()
        }:
            await self._each_lane(self._move)

    async def finish(self) -> None:
        """Deadlines by the new ttls; and this is what was put into practice last."""
        if self._before == self._after:
            return
        for name, facts in self._after.items():
            if self._has_other_ttl(name):
                await self._spool.set_ttl(name, facts.ttl)
        await self._spool.remember(FACTS, _encode(self._after))

    async def _each_lane(self, work: Callable[[LaneStatus], Coroutine[None, None, None]]) -> None:
        last = 0
        while page := await self._spool.lanes(last, PAGE):
            # All at once, so that they share commits.
            async with anyio.create_task_group() as together:
                for status in page:
                    if status.lane != REPORTS:
                        together.start_soon(work, status)
            last = page[-1].id

    async def _move(self, status: LaneStatus) -> None:
        lane = status.lane
        old, new = self._before.get(lane.action), self._after.get(lane.action)
        if new is not None and (old is None or old.keyed_by != new.keyed_by):
            await self._spool.relane(status.id, lane_by(self._config.actions[lane.action]))
        target = target_of(self._config, lane)
        if isinstance(target, Unroutable):
            await self._spool.park_lane(status.id, target.reason)
        elif status.parked:
            await self._spool.unpark_lane(status.id)

    def _has_other_ttl(self, action: str) -> bool:
        old, new = self._before.get(action), self._after.get(action)
        return bool(self._before) and new is not None and (old is None or old.ttl != new.ttl)


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


def _encode(facts: dict[str, ActionFacts]) -> str:
    return json.dumps({name: [fact.keyed_by, fact.ttl] for name, fact in facts.items()})
