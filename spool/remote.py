"""The spool's door as other processes see it: through a `spool.channel` to the process that holds the spool.

`RemoteIntake` is for ingress, `RemoteIntents` for delivery; `spool.serving` is the other side. A small body goes with its
message. A large one is written here, into a descriptor that the spool's process opened, and sealed with a key that is good
for this body alone.

Guarantees: as `spool.door` says; what was accepted there is durable before the answer leaves.

Failure: as `spool.door` says, and `SpoolUnavailable` when the spool's process has gone: whether it kept the last message
that was on its way is not known then.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self, TypeVar

import msgspec

from spool.bodies import BodyWriter, StoredBody
from spool.channel import CallFailed, Channel, ChannelClosed, Method
from spool.clock import Clock, SpoolClock, SystemClock
from spool.errors import SpoolUnavailable
from spool.files import SystemOps
from spool.ids import EnvelopeId, MessageId
from spool.intent import MboxIntent
from spool.message import Message, NewEnvelope, Recipient, Refusal, Submission
from spool.seal import Commission

A = TypeVar("A")
R = TypeVar("R")


class Accept(msgspec.Struct, frozen=True, array_like=True):
    """A `Submission`; its body is in ``octets``, or in the file that ``stored`` speaks of."""

    message: Message
    octets: bytes
    stored: StoredBody | None
    envelopes: tuple[NewEnvelope, ...]
    drop: str
    refused: tuple[Refusal, ...]
    expanded: tuple[Recipient, ...]


class SpoolFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the others have to know of the spool."""

    #: See `SpoolClock.offset`.
    clock_offset: int
    instance: str


#: None asks.
FACTS: Final = Method("spool-facts", type(None), SpoolFacts)
ACCEPT: Final = Method("accept", Accept, type(None))
#: A descriptor to write to comes with the answer.
NEW_BODY: Final = Method("new-body", str, Commission)
DISCARD_BODY: Final = Method("discard-body", str, type(None))
COMMIT_INTENTS: Final = Method("commit-intents", list[MboxIntent], type(None))
INTENT_OF: Final[Method[str, MboxIntent | None]] = Method("intent-of", str, MboxIntent | None)  # type: ignore[arg-type]


async def _ask(channel: Channel, method: Method[A, R], argument: A) -> R:
    try:
        return await channel.call(method, argument)
    except ChannelClosed as error:
        raise SpoolUnavailable(errno.EPIPE, f"the queue does not answer: {error}") from error
    except CallFailed as error:
        raise SpoolUnavailable(errno.EIO, "the queue is in trouble, which its log tells") from error


class RemoteIntents:
    """`spool.door.Intents`, made by `connect`."""

    def __init__(self, channel: Channel, facts: SpoolFacts, clock: Clock) -> None:
        self.clock = SpoolClock.ahead(clock, facts.clock_offset)
        self.instance = facts.instance
        self._channel = channel

    @classmethod
    async def connect(cls, channel: Channel, clock: Clock | None = None) -> Self:
        """Ask what has to be known; raises `SpoolUnavailable`."""
        return cls(channel, await _ask(channel, FACTS, None), clock or SystemClock())

    async def commit_intents(self, intents: Sequence[MboxIntent]) -> None:
        """See `spool.door.Intents`."""
        await _ask(self._channel, COMMIT_INTENTS, list(intents))

    async def intent_of(self, envelope: EnvelopeId) -> MboxIntent | None:
        """See `spool.door.Intents`."""
        return await _ask(self._channel, INTENT_OF, envelope)


class RemoteIntake:
    """`spool.door.Intake`, made by `connect`."""

    def __init__(self, channel: Channel, facts: SpoolFacts, clock: Clock) -> None:
        self.clock = SpoolClock.ahead(clock, facts.clock_offset)
        self._channel = channel

    @classmethod
    async def connect(cls, channel: Channel, clock: Clock | None = None) -> Self:
        """Ask what has to be known; raises `SpoolUnavailable`."""
        return cls(channel, await _ask(channel, FACTS, None), clock or SystemClock())

    async def accept(self, submission: Submission) -> None:
        """See `spool.door.Intake`."""
        body = submission.body
        stored = body if isinstance(body, StoredBody) else None
        frame = Accept(
            submission.message, b"" if isinstance(body, StoredBody) else body, stored,
            submission.envelopes, submission.drop, submission.refused, submission.expanded,
        )  # fmt: skip
        await _ask(self._channel, ACCEPT, frame)

    async def new_body(self, message: MessageId) -> BodyWriter:
        """See `spool.door.Intake`."""
        try:
            commission, came = await self._channel.fetch(NEW_BODY, message)
        except (ChannelClosed, CallFailed) as error:
            raise SpoolUnavailable(errno.EPIPE, f"the queue does not answer: {error}") from error
        return BodyWriter(message, commission.sealer(), _LentSheet(self._channel, message, came.take()))


class _LentSheet:
    """A file of the spool, for this body to be written to."""

    def __init__(self, channel: Channel, name: MessageId, descriptor: int) -> None:
        self._channel = channel
        self._name = name
        self._descriptor = descriptor
        self._ops = SystemOps()

    def write(self, data: bytes) -> None:
        """See `spool.bodies.Sheet`."""
        self._ops.write(self._descriptor, data)

    def finish(self) -> None:
        """See `spool.bodies.Sheet`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """See `spool.bodies.Sheet`."""
        if self._descriptor < 0:
            # It was given to `accept`, or discarded.
            return
        self.finish()
        with suppress(ChannelClosed):
            self._channel.tell(DISCARD_BODY, self._name)
