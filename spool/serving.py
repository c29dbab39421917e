"""What the process that holds the spool serves to those that do not: see `spool.remote`.

Those who ask may have been taken over by a stranger. So they are believed nothing that could be checked: a body is only
what was opened for the same channel, its seal is the one that was given out for it, and no text with a control character
comes in.

Guarantees: when a channel ends, the bodies that were begun through it and named by no commit are gone.

Failure: the spool's errors go to whoever asked; `ChannelClosed` for what nobody honest says, which ends the channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from spool.address import Address
from spool.bodies import StoredBody
from spool.channel import ChannelClosed, Descriptors, Offer, Parcel
from spool.credible import require_credible, require_credible_intents
from spool.ids import MESSAGE_ID_LENGTH, EnvelopeId, MessageId, split_id
from spool.intent import MboxIntent
from spool.message import Recipient, Submission
from spool.remote import ACCEPT, COMMIT_INTENTS, DISCARD_BODY, FACTS, INTENT_OF, NEW_BODY, Accept, SpoolFacts
from spool.seal import Commission
from spool.writer import SpoolWriter

#: Bodies that one process may have begun: more than it may have sessions.
MAX_BODIES: Final = 10_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: What a command of an alias may not hold either.
_LINE_END = re.compile(r"[\x00\r\n]")


def facts_offer(spool: SpoolWriter) -> Offer:
    """Everybody may know these."""

    async def facts(_: None, __: Descriptors) -> SpoolFacts:
        return SpoolFacts(spool.clock.offset, spool.instance)

    return Offer(FACTS, facts)


class IntakeDesk:
    """Serves one ingress."""

    def __init__(self, spool: SpoolWriter) -> None:
        self._spool = spool
        self._begun: dict[MessageId, Commission] = {}

    def offers(self) -> list[Offer]:
        """For the channel to it."""
        return [
            facts_offer(self._spool),
            Offer(ACCEPT, self._accept),
            Offer(NEW_BODY, self._new_body),
            Offer(DISCARD_BODY, self._discard),
        ]

    def close(self) -> None:
        """It has gone."""
        for name in list(self._begun):
            self._drop(name)

    async def _accept(self, frame: Accept, _: Descriptors) -> None:
        body = self._stored(frame) if frame.stored else frame.octets
        submission = Submission(frame.message, body, frame.envelopes, frame.drop, frame.refused, frame.expanded)
        require_clean(submission)
        require_credible(submission)
        await self._spool.accept(submission)

    def _stored(self, frame: Accept) -> StoredBody:
        assert frame.stored is not None
        commission = self._begun.pop(frame.message.id, None)
        if commission is None or frame.stored.name != frame.message.id:
            raise ChannelClosed("a body that was not begun here")
        return StoredBody(frame.stored.name, frame.stored.size, frame.stored.checksum, commission.seal)

    async def _new_body(self, name: str, _: Descriptors) -> Parcel[Commission]:
        message = _message_id(name)
        if message in self._begun or len(self._begun) >= MAX_BODIES:
            raise ChannelClosed("too many bodies")
        self._spool.require_ready()
        bodies = self._spool.bodies
        commission = bodies.sealing.commission(message)
        descriptor = bodies.create(message)
        self._begun[message] = commission
        return Parcel(commission, [descriptor])

    async def _discard(self, name: str, _: Descriptors) -> None:
        self._drop(_message_id(name))

    def _drop(self, name: MessageId) -> None:
        bodies = self._spool.bodies
        if self._begun.pop(name, None) is not None and not bodies.is_handed_over(name):
            bodies.discard(name)


class IntentsDesk:
    """Serves one delivery."""

    def __init__(self, spool: SpoolWriter) -> None:
        self._spool = spool

    def offers(self) -> list[Offer]:
        """For the channel to it."""
        return [
            facts_offer(self._spool),
            Offer(COMMIT_INTENTS, self._commit_intents),
            Offer(INTENT_OF, self._intent_of),
        ]

    async def _commit_intents(self, intents: list[MboxIntent], _: Descriptors) -> None:
        require_credible_intents(intents)
        await self._spool.commit_intents(intents)

    async def _intent_of(self, envelope: str, _: Descriptors) -> MboxIntent | None:
        return await self._spool.intent_of(EnvelopeId(envelope))


def require_clean(submission: Submission) -> None:
    """Raise `ChannelClosed` for a text that no session of ours lets in."""
    if _CONTROL.search("".join(_texts(submission))):
        raise ChannelClosed("a control character in a message's envelope")
    if _LINE_END.search("".join(envelope.destination.target for envelope in submission.envelopes)):
        raise ChannelClosed("a line end in a command")
    _message_id(submission.message.id)


def _texts(submission: Submission) -> Iterator[str]:
    message = submission.message
    client = message.client
    yield from _address(message.return_path)
    yield from (message.envid, client.address, client.host, client.helo, client.protocol, client.login, submission.drop)
    for envelope in submission.envelopes:
        destination = envelope.destination
        yield from _recipient(envelope.recipient)
        yield from _address(destination.address)
        yield from (destination.user, destination.extension, envelope.lane.action)
    for refusal in submission.refused:
        yield from _recipient(refusal.recipient)
    for recipient in submission.expanded:
        yield from _recipient(recipient)


def _recipient(recipient: Recipient) -> Iterator[str]:
    yield from _address(recipient.address)
    yield recipient.orcpt


def _address(address: Address) -> Iterator[str]:
    yield address.local
    yield address.domain


def _message_id(text: str) -> MessageId:
    """``text`` names a file: it must be a whole id and nothing else."""
    try:
        name, ordinal = split_id(text)
    except ValueError as error:
        raise ChannelClosed(str(error)) from error
    if ordinal is not None or len(name) != MESSAGE_ID_LENGTH or name != text:
        raise ChannelClosed(f"{text!r} is no message id")
    return MessageId(name)
