"""The spool through a channel: both processes' sides in this one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest

from spool.address import Address
from spool.bodies import SMALL_BODY, StoredBody
from spool.channel import Channel, pair
from spool.errors import DuplicateMessage, SpoolUnavailable, UnknownEnvelope
from spool.ids import EnvelopeId, MessageId, new_message_id
from spool.intent import MboxIntent
from spool.message import Submission
from spool.remote import RemoteIntake, RemoteIntents
from spool.seal import Compression, Sealing, SealKey
from spool.serving import IntakeDesk, IntentsDesk
from spool.writer import SpoolWriter
from tests.tools.spooled import HandClock, Letter, put, sole, submission

LARGE = b"Subject: large\r\n\r\n" + b"a line of text\r\n" * (2 * SMALL_BODY // 16)


pytestmark = pytest.mark.anyio


def body_file(spool: SpoolWriter, name: str) -> Path:
    return Path(spool.bodies.path(name))


@dataclass
class Wing:
    """An ingress and a delivery that reach the spool through channels."""

    intake: RemoteIntake
    intents: RemoteIntents
    desk: IntakeDesk
    #: The far end of ingress.
    channel: Channel

    async def write(self, name: MessageId, content: bytes) -> StoredBody:
        writer = await self.intake.new_body(name)
        writer.write(content)
        return writer.finish()


@pytest.fixture
async def wing(spool: SpoolWriter, clock: HandClock) -> AsyncIterator[Wing]:
    async with _wing(spool, clock) as wing:
        yield wing


@asynccontextmanager
async def _wing(spool: SpoolWriter, clock: HandClock) -> AsyncIterator[Wing]:
    desk = IntakeDesk(spool)
    ingress, from_ingress = pair()
    delivery, from_delivery = pair()
    async with anyio.create_task_group() as group:
        to_spool, to_intents = Channel(ingress), Channel(delivery)
        for channel in (
            to_spool,
            to_intents,
            Channel(from_ingress, desk.offers()),
            Channel(from_delivery, IntentsDesk(spool).offers()),
        ):
            await group.start(channel.run)
        intake = await RemoteIntake.connect(to_spool, clock)
        yield Wing(intake, await RemoteIntents.connect(to_intents, clock), desk, to_spool)
        group.cancel_scope.cancel()


async def test_a_message_that_comes_through_a_channel_is_in_the_spool(spool: SpoolWriter, wing: Wing) -> None:
    sent = submission(spool.clock.now())
    await wing.intake.accept(sent)
    claimed = await sole(spool)
    assert (claimed.message, claimed.body.read()) == (sent.message, sent.body)


async def test_a_large_body_is_written_by_ingress_itself(spool: SpoolWriter, wing: Wing) -> None:
    name = new_message_id(1)
    await wing.intake.accept(submission(spool.clock.now(), Letter(body=await wing.write(name, LARGE)), name))
    assert (await sole(spool)).body.read() == LARGE


@pytest.mark.parametrize("compression", Compression)
async def test_a_large_body_is_sealed_without_the_key_of_the_queue(
    spool: SpoolWriter, wing: Wing, compression: Compression
) -> None:
    spool.seal_with(Sealing(compression, SealKey(b"k" * 32)))
    name = new_message_id(1)
    await wing.intake.accept(submission(spool.clock.now(), Letter(body=await wing.write(name, LARGE)), name))
    assert b"a line of text" not in body_file(spool, name).read_bytes()
    assert (await sole(spool)).body.read() == LARGE


async def test_an_abandoned_body_leaves_nothing(spool: SpoolWriter, wing: Wing) -> None:
    name = new_message_id(1)
    writer = await wing.intake.new_body(name)
    writer.write(LARGE)
    writer.abandon()
    with pytest.raises(DuplicateMessage):
        await accept_twice(spool, wing)
    assert not body_file(spool, name).exists()


async def accept_twice(spool: SpoolWriter, wing: Wing) -> None:
    sent = submission(spool.clock.now())
    await wing.intake.accept(sent)
    await wing.intake.accept(sent)


async def test_bodies_of_an_ingress_that_has_gone_are_gone_too(spool: SpoolWriter, wing: Wing) -> None:
    name = new_message_id(1)
    await wing.write(name, LARGE)
    wing.desk.close()
    assert not body_file(spool, name).exists()


async def test_spool_time_is_the_same_on_both_sides(spool: SpoolWriter, wing: Wing, clock: HandClock) -> None:
    clock.advance(123_456)
    assert wing.intake.clock.now() == wing.intents.clock.now() == spool.clock.now()


async def test_intents_are_kept_and_found_through_a_channel(spool: SpoolWriter, wing: Wing) -> None:
    await put(spool, Letter())
    envelope = (await sole(spool)).envelope.id
    intent = MboxIntent(envelope, "/var/mail/ann", 1, 2, 3, 4, b"sum")
    assert await wing.intents.intent_of(envelope) is None
    await wing.intents.commit_intents([intent])
    assert await wing.intents.intent_of(envelope) == intent


async def test_an_unknown_envelope_is_an_error_through_a_channel_too(wing: Wing) -> None:
    with pytest.raises(UnknownEnvelope):
        await wing.intents.commit_intents([MboxIntent(EnvelopeId("0" * 20 + ".1"), "/x", 1, 2, 3, 4, b"")])


async def test_a_spool_whose_process_has_gone_is_unavailable(spool: SpoolWriter, wing: Wing) -> None:
    wing.channel.close()
    with pytest.raises(SpoolUnavailable):
        await wing.intake.accept(submission(spool.clock.now()))


def forged(spool: SpoolWriter) -> dict[str, Submission]:
    """What only an ingress says that somebody has taken over."""
    honest = submission(spool.clock.now())
    (envelope,) = honest.envelopes
    stolen = StoredBody(new_message_id(2), 100, b"sum")
    split = Address("bob\r\nDATA", "example.org")
    command = replace(envelope.destination, target="|cat\nrm")
    return {
        "a body that it has not written": replace(honest, body=stolen),
        "a sender with a line end": replace(honest, message=replace(honest.message, return_path=split)),
        "a recipient with a line end": replace(
            honest, envelopes=(replace(envelope, recipient=replace(envelope.recipient, address=split)),)
        ),
        "a command of two lines": replace(honest, envelopes=(replace(envelope, destination=command),)),
        "a name of a message that is a path": replace(
            honest,
            message=replace(honest.message, id="../../etc/passwd"),  # type: ignore[arg-type]
        ),
        "a parameter with a NUL": replace(honest, message=replace(honest.message, envid="a\0b")),
    }


FORGED = (
    "a body that it has not written",
    "a sender with a line end",
    "a recipient with a line end",
    "a command of two lines",
    "a name of a message that is a path",
    "a parameter with a NUL",
)


@pytest.mark.parametrize("what", FORGED)
async def test_what_only_a_stranger_says_ends_the_talk(spool: SpoolWriter, wing: Wing, what: str) -> None:
    with pytest.raises(SpoolUnavailable):
        await wing.intake.accept(forged(spool)[what])
    assert wing.channel.is_closed


@pytest.mark.parametrize("name", ["../../../tmp/x", "a" * 19, "0" * 20 + ".1", ""])
async def test_a_body_is_never_made_under_another_name_than_that_of_a_message(wing: Wing, name: str) -> None:
    with pytest.raises(SpoolUnavailable):
        await wing.intake.new_body(MessageId(name))
