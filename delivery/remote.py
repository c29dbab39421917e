"""Delivery by other processes: batches go there through a `spool.channel`, and what came of them comes back.

`RemoteDelivery` is the scheduler's side, `DeliveryDesk` that of a process that delivers. Among several, a mailbox has always
the same one, which has its agent; relayed mail goes to whoever has least to do, or to the first alone while the operator's
limits have all connections counted. Small bodies travel in the frame,
large ones as descriptors. A route is not sent but worked out there from its lane: who delivers has the configuration too,
and the secrets that go with it.

Guarantees: as `delivery.dispatch`: one result for each envelope of a batch, in order. While nobody delivers, batches wait.

Failure: the process that delivers may die at any time. What it had under way is deferred, and the history says that it may
have been sent; who kept it in a mailbox recognises it (`docs/durability.md`).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio
import msgspec

from delivery.dispatch import STRAY
from delivery.frames import HandedOver
from policy.config import Config, Lmtp, Relay
from policy.route import Route, Unroutable, route_of
from spool.bodies import Body, LargeBody, SmallBody, UnreadableBody
from spool.channel import CallFailed, Channel, ChannelClosed, Descriptors, Method, Offer
from spool.clock import SpoolClock
from spool.credible import MAX_TIME
from spool.errors import BodyDamaged
from spool.ids import EnvelopeId
from spool.lane import Lane
from spool.message import Batch, Claimed, Envelope, Message
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import EnhancedStatus, Reply, printable
from spool.seal import Opening

#: `delivery.dispatch.Dispatcher.deliver`.
Deliver: TypeAlias = Callable[[Batch, Route], Awaitable[Sequence[Attempt | Damaged]]]

#: What the history says of mail that was on its way elsewhere when those who delivered it died.
IN_DOUBT: Final = Deferred(
    Reply(451, "4.3.2", "the delivery process died: if it was sent, no reply was seen"), stage=Stage.DOT
)
_INTERRUPTED: Final = Deferred(Reply(451, "4.3.2", "the delivery process died"))


class _Letter(msgspec.Struct, frozen=True, array_like=True):
    """A message and its body: octets, or the size and what else is known of one that comes as a descriptor."""

    message: Message
    octets: bytes
    size: int
    checksum: bytes
    opening: Opening | None
    #: Why there is no body; empty for all but the unreadable.
    damage: str
    is_large: bool


class _Item(msgspec.Struct, frozen=True, array_like=True):
    letter: int
    lane_id: int
    envelope: Envelope
    was_in_flight: bool


class DeliverBatch(msgspec.Struct, frozen=True, array_like=True):
    """A `Batch`; the descriptors of its large bodies come in the order of its letters."""

    lane: Lane
    letters: list[_Letter]
    items: list[_Item]


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """An `Attempt`, or `Damaged` with its reason in ``route``."""

    kind: str
    envelope: EnvelopeId
    started: int
    ended: int
    route: str
    reply: Reply | None
    remote: str
    stage: Stage
    dsn_passed_on: bool


DELIVER: Final = Method("deliver", DeliverBatch, list[Ended])

_OUTCOMES: Final[dict[str, type[Delivered] | type[Deferred] | type[Failed]]] = {
    kind.__name__: kind for kind in (Delivered, Deferred, Failed)
}


@dataclass(slots=True, eq=False)
class _Carrier:
    """A process that delivers."""

    channel: Channel
    #: Batches that it has.
    batches: int = 0


class RemoteDelivery:
    """The scheduler's side. `attach` it to a process that delivers, whenever there is a new one.

    ``counts_connections`` says whether one process has to know of all connections.
    """

    def __init__(self, clock: SpoolClock, counts_connections: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._counts_connections = counts_connections
        #: By their numbers; one that has died stands here until another takes its number.
        self._carriers: dict[int, _Carrier] = {}
        self._attached = anyio.Event()

    def attach(self, channel: Channel, number: int = 1) -> None:
        """From here on, this one delivers, in place of the one of that number before it."""
        self._carriers[number] = _Carrier(channel)
        self._attached.set()

    async def deliver(self, batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        """See `scheduler.sessions.Deliver`."""
        carrier = await self._whoever_delivers(route)
        carrier.batches += 1
        try:
            return await self._deliver(batch, route, carrier.channel)
        finally:
            carrier.batches -= 1

    async def _deliver(self, batch: Batch, route: Route, channel: Channel) -> Sequence[Attempt | Damaged]:
        started = self._clock.now()
        is_elsewhere = isinstance(route.action, Relay | Lmtp)
        packed = _pack(batch, shares_bodies=is_elsewhere)
        try:
            ended = await channel.call(DELIVER, packed.frame, packed.descriptors)
            return _results(batch, ended)
        except ChannelClosed:
            outcome: Outcome = IN_DOUBT if is_elsewhere else _INTERRUPTED
        except (CallFailed, _Nonsense):
            outcome = Deferred(STRAY)
        finally:
            packed.close()
        now = self._clock.now()
        return [Attempt(one.envelope.id, started, now, route.name, outcome) for one in batch.items]

    async def _whoever_delivers(self, route: Route) -> _Carrier:
        while (carrier := self._choose(route)) is None:
            self._attached = anyio.Event()
            await self._attached.wait()
        return carrier

    def _choose(self, route: Route) -> _Carrier | None:
        """None while nobody is there, or not the one who has to do it."""
        carriers = [self._carriers[number] for number in sorted(self._carriers)]
        match route.action:
            case Relay() if self._counts_connections():
                carriers = carriers[:1]
            case Relay() | Lmtp():
                pass
            case _ if carriers:
                place = zlib.crc32(route.name.encode()) % len(carriers)
                carriers = carriers[place : place + 1]
        alive = (each for each in carriers if not each.channel.is_closed)
        return min(alive, key=lambda each: each.batches, default=None)


class DeliveryDesk:
    """The side of the process that delivers."""

    def __init__(self, deliver: Deliver, config: Callable[[], Config], now: Callable[[], int]) -> None:
        """``now`` is spool time in milliseconds."""
        self._deliver_here = deliver
        self._config = config
        self._now = now

    def offers(self) -> list[Offer]:
        """For the channel to the scheduler."""
        return [Offer(DELIVER, self._deliver)]

    async def _deliver(self, frame: DeliverBatch, came: Descriptors) -> list[Ended]:
        descriptors: list[int] = []
        try:
            batch = _unpack(frame, came, descriptors)
            return [_ended(one) for one in await self._try(batch)]
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _try(self, batch: Batch) -> Sequence[Attempt | Damaged]:
        route = route_of(self._config(), batch.lane)
        if isinstance(route, Route):
            return await self._deliver_here(batch, route)
        return [self._unroutable(one, route) for one in batch.items]

    def _unroutable(self, one: Claimed, why: Unroutable) -> Attempt:
        now = self._now()
        return Attempt(one.envelope.id, now, now, "-", Deferred(Reply(451, "4.3.5", why.reason), stage=Stage.ROUTE))


# -- batches ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Packed:
    frame: DeliverBatch
    descriptors: list[int]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def _pack(batch: Batch, *, shares_bodies: bool) -> _Packed:
    """Items of one message share its letter, if they are tried one after the other; a descriptor has one place to read."""
    letters: list[_Letter] = []
    descriptors: list[int] = []
    places: dict[str, int] = {}
    items = []
    for one in batch.items:
        place = places.get(one.message.id)
        if place is None or not (shares_bodies or isinstance(one.body, SmallBody)):
            place = places[one.message.id] = len(letters)
            letters.append(_letter(one.message, one.body, descriptors))
        items.append(_Item(place, one.lane_id, one.envelope, one.was_in_flight))
    return _Packed(DeliverBatch(batch.lane, letters, items), descriptors)


def _letter(message: Message, body: Body, descriptors: list[int]) -> _Letter:
    if isinstance(body, LargeBody):
        try:
            descriptors.append(body.ops.open(body.path))
        except OSError as error:
            return _Letter(message, b"", body.size, b"", None, f"{body.path}: {error.strerror}", False)
        return _Letter(message, b"", body.size, body.checksum, body.opening, "", True)
    try:
        return _Letter(message, body.read(), body.size, b"", None, "", False)
    except BodyDamaged as error:
        return _Letter(message, b"", body.size, b"", None, str(error), False)


def _unpack(frame: DeliverBatch, came: Descriptors, descriptors: list[int]) -> Batch:
    bodies: list[Body] = []
    for letter in frame.letters:
        if letter.is_large:
            descriptors.append(came.take())
            lent = HandedOver(descriptors[-1])
            bodies.append(LargeBody("its file", letter.size, letter.checksum, lent, letter.opening))
        elif letter.damage:
            bodies.append(UnreadableBody(letter.size, letter.damage))
        else:
            bodies.append(SmallBody(letter.octets))
    items = (
        Claimed(one.lane_id, one.envelope, frame.letters[one.letter].message, bodies[one.letter], one.was_in_flight)
        for one in frame.items
    )
    return Batch(frame.lane, tuple(items))


def _ended(one: Attempt | Damaged) -> Ended:
    if isinstance(one, Damaged):
        return Ended("Damaged", one.envelope, 0, 0, one.reason, None, "", Stage.LOCAL, False)
    outcome = one.outcome
    passed_on = isinstance(outcome, Delivered) and outcome.dsn_passed_on
    kind = type(outcome).__name__
    return Ended(
        kind, one.envelope, one.started, one.ended, one.route, outcome.reply, outcome.remote, outcome.stage, passed_on
    )


class _Nonsense(Exception):
    """No delivery of ours says that."""


def _results(batch: Batch, ended: Sequence[Ended]) -> list[Attempt | Damaged]:
    """What it says, about the envelopes that it was given, in words that break no line."""
    if [one.envelope for one in ended] != [item.envelope.id for item in batch.items]:
        raise _Nonsense
    return [_result(one) for one in ended]


def _result(one: Ended) -> Attempt | Damaged:
    if one.kind == "Damaged":
        return Damaged(one.envelope, printable(one.route))
    if not (0 <= one.started < MAX_TIME and 0 <= one.ended < MAX_TIME):
        raise _Nonsense
    return Attempt(one.envelope, one.started, one.ended, printable(one.route), _outcome(one))


def _outcome(one: Ended) -> Outcome:
    kind, reply = _OUTCOMES.get(one.kind), one.reply
    if kind is None or reply is None or not 200 <= reply.code <= 599:
        raise _Nonsense
    if reply.status and EnhancedStatus.parse(reply.status) is None:
        raise _Nonsense
    if kind is Delivered:
        return Delivered(reply, printable(one.remote), one.stage, one.dsn_passed_on)
    return kind(reply, printable(one.remote), one.stage)
