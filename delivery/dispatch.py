"""The way from an action to those who deliver for it: the relay, LMTP, or the users of this machine.

Guarantees: one result for each envelope of a batch, in order. An exception that nobody foresaw is logged with its traceback
and defers with 4.3.0; its text reaches nobody else.

Failure: none beside outcomes and `Damaged`; cancellation passes through.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Final, Protocol, Self, TypeVar

from delivery.agents import AgentHands
from delivery.hands import Commit, Hands, OwnHands
from delivery.lmtp import LmtpClient
from delivery.mailboxes import Mailboxes
from delivery.recruits import Recruiter
from delivery.relay import Relayer
from policy.config import Config, Lmtp, LocalAction, Relay
from policy.pem import PemSource
from policy.route import Route
from spool.door import Intents
from spool.files import SystemOps
from spool.layout import Layout
from spool.message import Batch, Claimed
from spool.outcome import Attempt, Damaged, Deferred
from spool.reply import Reply

#: What a sender may learn of a fault of ours.
STRAY: Final = Reply(451, "4.3.0", "internal error while delivering; the log says more")

_What = TypeVar("_What", contravariant=True)
_How = TypeVar("_How", contravariant=True)

_log = logging.getLogger("delivery.dispatch")


class Carrier(Protocol[_What, _How]):
    """Those who deliver: the relay a batch by its route, the others envelopes by their action."""

    async def deliver(self, what: _What, how: _How, /) -> Sequence[Attempt | Damaged]:
        """One result for each envelope, in order."""

    async def aclose(self) -> None:
        """Nothing is being delivered any more."""


def hands_for(layout: Layout, commit: Commit) -> AgentHands | OwnHands:
    """Who delivers on this machine: as root agents, otherwise the user who started this, to nobody else."""
    if os.geteuid() == 0:
        return AgentHands(commit, Recruiter(layout.mail_dir))
    return OwnHands(commit, layout.mail_dir, SystemOps())


class Dispatcher:
    """See the module. ``now`` is spool time in milliseconds."""

    def __init__(
        self,
        relayer: Carrier[Batch, Route],
        lmtp: Carrier[Sequence[Claimed], Lmtp],
        mailboxes: Carrier[Sequence[Claimed], LocalAction],
        now: Callable[[], int],
    ) -> None:
        self._relayer = relayer
        self._lmtp = lmtp
        self._mailboxes = mailboxes
        self._now = now

    @classmethod
    def make(
        cls,
        config: Callable[[], Config],
        layout: Layout,
        spool: Intents,
        hands: Hands | None = None,
        pem: PemSource | None = None,
    ) -> Self:
        """A dispatcher for this machine, which delivers by ``hands`` and ends them; ``pem`` has its certificates."""
        now = spool.clock.now
        hands = hands or hands_for(layout, spool.commit_intents)
        mailboxes = Mailboxes(spool, layout, hands, config)
        return cls(Relayer.make(config, layout, now, pem), LmtpClient(config, now), mailboxes, now)

    async def deliver(self, batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        """Try all envelopes of ``batch``."""
        started = self._now()
        try:
            return await self._deliver(batch, route)
        except Exception:
            _log.exception("delivery to %s failed in an unforeseen way", route.name)
        ended = self._now()
        return [Attempt(one.envelope.id, started, ended, route.name, Deferred(STRAY)) for one in batch.items]

    async def aclose(self) -> None:
        """End every connection and agent. Nothing is being delivered any more."""
        await self._mailboxes.aclose()
        await self._lmtp.aclose()
        await self._relayer.aclose()

    async def _deliver(self, batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        action = route.action
        if isinstance(action, Relay):
            return await self._relayer.deliver(batch, route)
        # A command or file that an alias names takes the place of whatever the action does; its lane has no others.
        if isinstance(action, Lmtp) and not any(one.envelope.destination.target for one in batch.items):
            return await self._lmtp.deliver(batch.items, action)
        return await self._mailboxes.deliver(batch.items, action)
