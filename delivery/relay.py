"""The relay: gives a message to another server, and says for each recipient what came of it.

One message and its recipients travel over one connection, at most `MAX_RECIPIENTS` in a transaction; connections are reused.
A kept connection that proves dead before it answered MAIL is replaced by a fresh one at once, which is no attempt.

Guarantees: every envelope of a batch gets an `Attempt`, or a `Damaged` when its body proved damaged; a recipient is tried on
a second host only when the first one never answered MAIL, so no recipient gets a message twice from one call.

Failure: what the world does ends in outcomes (see `delivery.routes`, `delivery.handshake`, `delivery.transaction`); our own
faults in the log, and in ``Deferred`` for who has no outcome yet. Cancelled, it cuts the connection that was in use.

RFC 5321 4.5.4 (sending), 4.5.3.1.10 (too many recipients); RFC 3461 5.2 (who reports).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final, Self

import anyio

from delivery.client import Offers
from delivery.commands import Unsendable, check_parcel, mail_command, rcpt_command
from delivery.connector import Connector
from delivery.consignment import Consignment, Place
from delivery.hop import Candidate, Hop, Unreachable
from delivery.permits import Permits
from delivery.pool import Connection, Pool
from delivery.resolver import Resolver
from delivery.routes import Routes
from delivery.timeouts import Timeouts
from delivery.transaction import Commands, Transaction, Untouched
from policy.config import Config
from policy.limits import MtaLimits
from policy.pem import PemSource
from policy.route import Route
from spool.errors import BodyDamaged
from spool.layout import Layout
from spool.message import Batch, Claimed
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply

#: Recipients of one transaction. RFC 5321 4.5.3.1.8: every server takes a hundred.
MAX_RECIPIENTS: Final = 100
#: Seconds for which a host that did not answer is tried after the others.
DOUBTED_FOR: Final = 60.0
#: Hosts in doubt that are remembered; when there are more, all are forgotten.
MAX_DOUBTED: Final = 10_000

#: What is said when we are at fault.
INTERNAL: Final = Reply(451, "4.3.0", "internal error, the log says more")

#: The stages before MAIL, by how much a trouble there tells.
_TELLING = (Stage.ROUTE, Stage.CONNECT, Stage.TLS, Stage.AUTH)
#: RFC 5321 4.5.3.1.10: too many recipients, also by the code that RFC 821 had for it.
_TOO_MANY: Final = frozenset({452, 552})
_TOO_MANY_STATUS: Final = frozenset({"", "4.5.3", "5.5.3"})

#: All that is said of relaying has one name, so that it is traced together.
log = logging.getLogger("delivery.relay")


class Relayer:
    """See the module. ``now`` is spool time in milliseconds, ``pem`` has certificates instead of their files."""

    def __init__(
        self, routes: Routes, now: Callable[[], int], timeouts: Timeouts | None = None, pem: PemSource | None = None
    ) -> None:
        timeouts = timeouts or Timeouts()
        self._routes = routes
        self._now = now
        self._timeouts = timeouts
        permits = Permits()
        self._pool = Pool(timeouts, permits)
        self._connector = Connector(timeouts, self._pool, permits, pem)
        self._doubted: dict[Hop, float] = {}

    @classmethod
    def make(
        cls, config: Callable[[], Config], layout: Layout, now: Callable[[], int], pem: PemSource | None = None
    ) -> Self:
        """A relayer for this machine."""
        return cls(Routes(config, Resolver.of_machine(layout)), now, pem=pem)

    async def deliver(self, batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        """Try all envelopes of ``batch``: one result for each, in order."""
        results: list[Attempt | Damaged] = []
        for _, items in groupby(batch.items, key=lambda item: item.message.id):
            consignment = Consignment(list(items), route, self._now)
            await self._run(consignment, route)
            results += consignment.results()
        return results

    async def aclose(self) -> None:
        """Say goodbye to everybody. Nothing is being delivered any more."""
        await self._pool.aclose()

    # -- hosts --------------------------------------------------------------------------------------------------------

    async def _run(self, consignment: Consignment, route: Route) -> None:
        try:
            candidates = await self._routes.candidates(await self._routes.present(route))
            await self._try_hosts(candidates, consignment)
        except Unreachable as trouble:
            consignment.settle(consignment.waiting(), trouble.outcome, Place(route.name))
        except BodyDamaged as damage:
            consignment.spoil(str(damage))
        except Exception:
            # Those who have an outcome keep it: to defer them as well would send them a second copy.
            log.exception("mta error reason=relaying %s failed", consignment.parcel.message.id)
            consignment.settle(consignment.waiting(), Deferred(INTERNAL, stage=Stage.MAIL), Place(route.name))

    async def _try_hosts(self, candidates: list[Candidate], consignment: Consignment) -> None:
        """Go from host to host until nobody waits; raises the trouble that tells most when somebody still does."""
        troubles = []
        for candidate in sorted(candidates, key=self._is_doubted):
            async with self._pool.place(candidate.hop, candidate.purpose.limits):
                try:
                    await self._visit(candidate, consignment)
                    return
                except Unreachable as trouble:
                    self._doubt(candidate.hop, trouble)
                    troubles.append(trouble)
        raise max(troubles, key=lambda trouble: _TELLING.index(trouble.stage))

    def _is_doubted(self, candidate: Candidate) -> bool:
        return self._doubted.get(candidate.hop, 0.0) > time.monotonic()

    def _doubt(self, hop: Hop, trouble: Unreachable) -> None:
        if trouble.stage is Stage.CONNECT:
            if len(self._doubted) >= MAX_DOUBTED:
                self._doubted.clear()
            self._doubted[hop] = time.monotonic() + DOUBTED_FOR

    # -- connections --------------------------------------------------------------------------------------------------

    async def _visit(self, candidate: Candidate, consignment: Consignment) -> None:
        """Give one host everything: over a kept connection first, over a fresh one if that has died."""
        limits = candidate.purpose.limits
        kept = self._pool.take(candidate.hop, limits)
        if kept is not None:
            await self._give(kept, consignment, limits)
        while not consignment.is_done:
            fresh = await self._connector.connect(candidate)
            self._doubted.pop(candidate.hop, None)
            untouched = await self._give(fresh, consignment, limits)
            if untouched and fresh.is_fresh and not fresh.messages:
                raise Unreachable(Deferred(untouched.reply, fresh.channel.remote, Stage.CONNECT)) from untouched

    async def _give(self, connection: Connection, consignment: Consignment, limits: MtaLimits) -> Untouched | None:
        """Transactions on one connection, until nobody waits any more or it is over; the reason if it broke."""
        try:
            while not (consignment.is_done or connection.is_spent(limits)):
                await _rest(connection, limits)
                await self._transact(connection, consignment)
        except Untouched as untouched:
            return untouched
        finally:
            self._pool.give_back(connection, limits)
        return None

    # -- transactions -------------------------------------------------------------------------------------------------

    async def _transact(self, connection: Connection, consignment: Consignment) -> None:
        channel = connection.channel
        place = Place(connection.route, connection.session, connection.source)
        try:
            parcel = check_parcel(consignment.parcel, channel.offers)
            items, rcpts = _addressed(consignment, channel.offers, channel.remote, place)
            utf8 = parcel.needs_utf8([item.envelope.destination.address for item in items])
            mail = mail_command(parcel, channel.offers, utf8=utf8)
        except Unsendable as refusal:
            consignment.settle(consignment.waiting(), Failed(refusal.reply, channel.remote, Stage.MAIL), place)
            return
        if not items:
            return
        outcomes = await Transaction(channel, Commands(mail, rcpts), parcel.body, self._timeouts).run()
        connection.messages += 1
        connection.rests_since = time.monotonic()
        progress = any(isinstance(outcome, Delivered) for outcome in outcomes)
        for item, outcome in zip(items, outcomes, strict=True):
            if not _is_one_too_many(outcome, alone=not progress):
                connection.refusals = connection.refusals + 1 if outcome.stage is Stage.RCPT else 0
                consignment.settle([item], _passed_on(outcome, item, channel.offers), place)
            elif not progress:
                consignment.settle([item], Deferred(outcome.reply, outcome.remote, outcome.stage), place)


async def _rest(connection: Connection, limits: MtaLimits) -> None:
    """Between two transactions of a session, as long as the operator wants."""
    if connection.messages and limits.session_transaction_delay:
        await anyio.sleep(connection.rests_since + limits.session_transaction_delay - time.monotonic())


def _addressed(
    consignment: Consignment, offers: Offers, remote: str, place: Place
) -> tuple[list[Claimed], list[bytes]]:
    """The recipients of the next transaction and their commands; those that can never be sent to are settled."""
    items, rcpts = [], []
    for item in consignment.waiting(MAX_RECIPIENTS):
        try:
            rcpts.append(rcpt_command(item.envelope.destination.address, item.envelope.recipient, offers))
            items.append(item)
        except Unsendable as refusal:
            consignment.settle([item], Failed(refusal.reply, remote, Stage.RCPT), place)
    return items, rcpts


def _is_one_too_many(outcome: Outcome, *, alone: bool) -> bool:
    """Whether this recipient was only one too many for the transaction; ``alone``: no other got the message in it.

    552 without a status, when nobody else got it, is what it looks like: no room for this recipient's mail.
    """
    if outcome.stage is not Stage.RCPT or outcome.reply.code not in _TOO_MANY:
        return False
    return outcome.reply.status in _TOO_MANY_STATUS and not (alone and not outcome.reply.status)


def _passed_on(outcome: Outcome, item: Claimed, offers: Offers) -> Outcome:
    """With the wish for reports, where the next server has taken it over (RFC 3461 5.2.2)."""
    if isinstance(outcome, Delivered) and offers.dsn and item.envelope.recipient.notify_given:
        return replace(outcome, dsn_passed_on=True)
    return outcome
