"""Delivery to the users of this machine: plans deposits, has them made as the users, and tells what came of each.

Guarantees: one result for each envelope of a batch, in order, whatever happens: unknown trouble is ``Deferred`` with 4.3.0.
Messages for one mailbox are deposited together; each command runs by itself.

Failure: outcomes, and `Damaged` for bodies that are. A caller that is cancelled learns nothing; what was left is recognised
when it is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from anyio import CapacityLimiter, create_task_group, to_thread

from delivery.deposit import Refused, Result, ToCommand, ToMaildir, ToMbox, deferred, delivered
from delivery.hands import MAX_SESSIONS, Hands
from delivery.ledger import Ledger
from delivery.planning import Plan, Planner, was_tried
from policy.config import Config, LocalAction, Mbox
from spool.door import Intents
from spool.errors import UnknownEnvelope
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.layout import Layout
from spool.message import Claimed
from spool.outcome import Attempt, Damaged, Outcome

#: What a sender may learn of a fault of ours.
_STRAY: Final = deferred("4.3.0", "internal error while delivering; the log says more")

_DISCARDED: Final = delivered("Discarded")

#: What is to be done, or what came of it already.
_Planned: TypeAlias = Plan | Outcome

_log = logging.getLogger("delivery.agent")


class Mailboxes:
    """See the module."""

    def __init__(self, spool: Intents, layout: Layout, hands: Hands, config: Callable[[], Config]) -> None:
        self._spool = spool
        self._config = config
        self._layout = layout
        self._hands = hands
        self._since = spool.clock.now()
        self._limiter = CapacityLimiter(MAX_SESSIONS)

    async def deliver(self, items: Sequence[Claimed], action: LocalAction) -> Sequence[Attempt | Damaged]:
        """Try all of them: one result for each, in order."""
        ledger = Ledger(items, self._spool.clock.now)
        earlier = await self._earlier(items, action)
        plans = await to_thread.run_sync(self._plan, items, action, earlier, limiter=self._limiter)
        results: list[Result] = [_STRAY if isinstance(plan, Plan) else plan for plan in plans]
        async with create_task_group() as group:
            for places in _together(plans):
                group.start_soon(self._make, plans, places, results)
        for one, plan, result in zip(items, plans, results, strict=True):
            if isinstance(result, Damaged):
                ledger.spoil(one, result.reason)
            else:
                ledger.settle(one, _route(one, plan), result, plan.who.name if isinstance(plan, Plan) else "")
        return ledger.results()

    async def aclose(self) -> None:
        """Stop those who deliver."""
        await self._hands.aclose()

    async def _earlier(self, items: Sequence[Claimed], action: LocalAction) -> Mapping[EnvelopeId, MboxIntent]:
        """What attempts before this one were about to append."""
        found: dict[EnvelopeId, MboxIntent] = {}
        async with create_task_group() as group:
            for one in items:
                target = one.envelope.destination.target
                goes_to_mbox = target.startswith("/") or (not target and isinstance(action, Mbox))
                if goes_to_mbox and was_tried(one, self._since):
                    group.start_soon(self._find_intent, one.envelope.id, found)
        return found

    async def _find_intent(self, envelope: EnvelopeId, found: dict[EnvelopeId, MboxIntent]) -> None:
        with suppress(UnknownEnvelope):
            intent = await self._spool.intent_of(envelope)
            if intent is not None:
                found[envelope] = intent

    def _plan(
        self, items: Sequence[Claimed], action: LocalAction, earlier: Mapping[EnvelopeId, MboxIntent]
    ) -> list[_Planned]:
        planner = Planner(
            self._layout, self._spool.instance, self._since, self._config().sub_addr_delim,
            becomes_others=self._hands.becomes_others,
        )  # fmt: skip
        plans: list[_Planned] = []
        for one in items:
            if planner.goes_nowhere(one):
                plans.append(_DISCARDED)
                continue
            try:
                plans.append(planner.plan(one, action, earlier.get(one.envelope.id)))
            except Refused as refused:
                plans.append(refused.outcome)
        return plans

    async def _make(self, plans: Sequence[_Planned], places: Sequence[int], results: list[Result]) -> None:
        chosen = [plan for plan in (plans[place] for place in places) if isinstance(plan, Plan)]
        try:
            made = await self._hands.make(chosen[0].who, [plan.deposit for plan in chosen])
        except Exception:
            _log.exception("delivery to %s failed in an unforeseen way", chosen[0].who.name)
            return
        for place, result in zip(places, made, strict=True):
            results[place] = result


def _together(plans: Sequence[_Planned]) -> list[list[int]]:
    """Places of the plans that are made by one call."""
    groups: dict[object, list[int]] = {}
    for place, plan in enumerate(plans):
        if isinstance(plan, Plan):
            alone = place if isinstance(plan.deposit.method, ToCommand) else None
            groups.setdefault((plan.who, type(plan.deposit.method), alone), []).append(place)
    return list(groups.values())


def _route(one: Claimed, plan: _Planned) -> str:
    """For the history: ``maildir:/home/ann/Maildir``."""
    if not isinstance(plan, Plan):
        return f"local:{one.envelope.destination.user or one.envelope.destination.target}"
    match plan.deposit.method:
        case ToMaildir(path=path):
            return f"maildir:{path}"
        case ToMbox(path=path):
            return f"mbox:{path}"
        case ToCommand(arguments=arguments):
            return f"command:{arguments[0]}"
