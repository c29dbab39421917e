"""What may be claimed, what was in flight before, and what damage costs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from spool.address import NULL_SENDER
from spool.bodies import SMALL_BODY, LargeBody
from spool.claims import IN_DOUBT
from spool.entry import PastAttempt
from spool.errors import BodyDamaged, UnknownEnvelope
from spool.ids import EnvelopeId, MessageId, new_message_id
from spool.intent import MboxIntent
from spool.lane import ClaimOrder, Lane, LaneFailed, LaneOpened
from spool.layout import Layout
from spool.listing import QueueReader
from spool.opening import database_path
from spool.selection import EVERYTHING, Selection
from spool.state import State
from spool.writer import SpoolWriter
from tests.tools.faults import files_in
from tests.tools.spooled import DONE, HOUR, LATER, HandClock, Letter, due_lanes, put, record, submission, take

pytestmark = pytest.mark.anyio

LARGE = b"0123456789abcde\n" * (SMALL_BODY // 4)


async def put_large(spool: SpoolWriter, content: bytes = LARGE) -> MessageId:
    name = new_message_id(1_700_000_000_000)
    writer = await spool.new_body(name)
    writer.write(content)
    await spool.accept(submission(spool.clock.now(), Letter(body=writer.finish()), name))
    return name


def spoil(place: Layout, statement: str) -> None:
    with closing(sqlite3.connect(database_path(place.spool_dir), isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        assert connection.execute(statement).rowcount == 1


async def test_the_earliest_due_are_claimed_first_and_no_more_than_there_is_room(
    spool: SpoolWriter, clock: HandClock
) -> None:
    names = []
    for _ in range(5):
        names.append(await put(spool))
        clock.advance(10)
    assert [claimed.message.id for claimed in await take(spool, 3)] == names[:3]
    assert [claimed.message.id for claimed in await take(spool, 3)] == names[3:]


async def test_a_lane_whose_route_failed_is_not_claimed_before_its_time(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    (lane,) = await due_lanes(spool)
    now = spool.clock.now()
    await spool.record([], [LaneFailed(lane.id, now, now + HOUR, "connection refused")])
    assert await spool.claim([ClaimOrder(lane.id, 1)]) == []
    assert await spool.next_wake() == now + HOUR
    clock.advance(HOUR)
    (again,) = await due_lanes(spool)
    assert again.failures == 1
    assert len(await spool.claim([ClaimOrder(lane.id, 1)])) == 1


async def test_success_opens_a_lane_and_forgets_its_failures(spool: SpoolWriter) -> None:
    await put(spool)
    (lane,) = await due_lanes(spool)
    now = spool.clock.now()
    await spool.record([], [LaneFailed(lane.id, now, now + HOUR, "connection refused")])
    await spool.record([], [LaneOpened(lane.id)])
    assert [found.failures for found in await due_lanes(spool)] == [0]
    (status,) = await spool.lanes(0, 10)
    assert (status.last_error, status.last_failure) == ("", now)


async def test_a_paused_lane_is_neither_due_nor_claimed(spool: SpoolWriter) -> None:
    await put(spool)
    (lane,) = await due_lanes(spool)
    await spool.pause_lane(lane.id)
    assert await due_lanes(spool) == []
    assert await spool.claim([ClaimOrder(lane.id, 1)]) == []
    await spool.resume_lane(lane.id)
    assert await due_lanes(spool) == [lane]


async def test_a_parked_lane_says_why_and_is_not_claimed(spool: SpoolWriter) -> None:
    await put(spool)
    (lane,) = await due_lanes(spool)
    await spool.park_lane(lane.id, 'no action "relay" any more')
    assert await spool.claim([ClaimOrder(lane.id, 1)]) == []
    (status,) = await spool.lanes(0, 10)
    assert (status.parked, status.last_error) == (True, 'no action "relay" any more')
    await spool.unpark_lane(lane.id)
    assert len(await take(spool)) == 1


async def test_a_lane_that_is_not_there_has_nothing_to_claim(spool: SpoolWriter) -> None:
    assert await spool.claim([ClaimOrder(4711, 1)]) == []


async def test_an_unclaimed_envelope_is_as_it_was(spool: SpoolWriter) -> None:
    await put(spool)
    before = await take(spool)
    await spool.unclaim(before)
    assert await take(spool) == before


async def test_having_been_in_flight_is_remembered_through_later_deferrals(place: Layout, clock: HandClock) -> None:
    spool = await SpoolWriter.open(place, clock)
    await put(spool)
    await take(spool)
    await spool.aclose()
    spool = await SpoolWriter.open(place, clock)
    (claimed,) = await take(spool)
    await record(spool, claimed, LATER, spool.clock.now())
    (again,) = await take(spool)
    assert again.was_in_flight, "a copy of ours may still lie in the mailbox"
    await spool.aclose()


@pytest.mark.reliability("5 outbound duplicates")
@pytest.mark.parametrize(("user", "lines"), [("", 1), ("ann", 0)])
async def test_of_what_was_in_flight_to_another_host_the_history_says_that_it_may_have_been_sent(
    place: Layout, clock: HandClock, user: str, lines: int
) -> None:
    spool = await SpoolWriter.open(place, clock)
    name = await put(spool, Letter(user=user))
    await take(spool)
    await spool.aclose()
    spool = await SpoolWriter.open(place, clock)
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        history = reader.attempts(Selection(name))
    await spool.aclose()
    assert [one.attempt.outcome for one in history if isinstance(one, PastAttempt)] == [IN_DOUBT] * lines


async def test_what_was_asked_of_an_envelope_in_flight_is_obeyed_after_a_restart(
    place: Layout, clock: HandClock
) -> None:
    spool = await SpoolWriter.open(place, clock)
    kept, dropped = await put(spool), await put(spool)
    await take(spool)
    assert await spool.hold(Selection(kept)) == 1
    assert await spool.remove(Selection(dropped)) == 1
    await spool.aclose()
    spool = await SpoolWriter.open(place, clock)
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        counts = reader.counts()
    await spool.aclose()
    assert (counts.messages, counts.by_state) == (1, {State.HELD: 1})


async def test_an_envelope_that_is_set_aside_is_not_sent_until_it_is_released(spool: SpoolWriter) -> None:
    await put(spool, Letter(sender=NULL_SENDER))
    (claimed,) = await take(spool)
    await spool.set_aside(claimed.envelope.id, "body altered")
    assert await spool.next_wake() is None
    assert await spool.release(EVERYTHING) == 1
    assert len(await take(spool)) == 1


async def test_an_unknown_envelope_cannot_be_set_aside(spool: SpoolWriter) -> None:
    with pytest.raises(UnknownEnvelope):
        await spool.set_aside(EnvelopeId("0123456789abcdefghij.1"), "why")
    with pytest.raises(UnknownEnvelope):
        await spool.set_aside(EnvelopeId("nonsense"), "why")


SPOILT = {
    "a small body with another octet": "UPDATE body SET content = zeroblob(length(content)) WHERE message = 2",
    "a small body cut short": "UPDATE body SET content = substr(content, 2) WHERE message = 2",
    "a small body gone": "DELETE FROM body WHERE message = 2",
    "a message gone": "DELETE FROM message WHERE id = 2",
    "a sender that is no text": "UPDATE message SET sender_local = CAST(X'fffe' AS TEXT) WHERE id = 2",
    "a destination that is no text": "UPDATE envelope SET local = CAST(X'fffe' AS TEXT) WHERE id = 2",
    "a recipient gone": "DELETE FROM recipient WHERE message = 2",
    "an impossible wish for reports": "UPDATE recipient SET notify = 99 WHERE message = 2",
    "an impossible kind of body": "UPDATE message SET body_kind = -1 WHERE id = 2",
    "an impossible kind": "UPDATE envelope SET kind = 77 WHERE id = 2",
}


@pytest.mark.parametrize("damage", SPOILT)
async def test_damage_costs_its_own_envelope_and_no_other(place: Layout, damage: str) -> None:
    spool = await SpoolWriter.open(place)
    first, _, third = [await put(spool) for _ in range(3)]
    await spool.aclose()
    spoil(place, SPOILT[damage])
    spool = await SpoolWriter.open(place)
    assert {claimed.message.id for claimed in await take(spool)} == {first, third}
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        assert reader.counts().by_state[State.DAMAGED] == 1
        assert len(list(reader.damaged())) == 1
    await spool.aclose()


@pytest.mark.parametrize("damage", SPOILT)
async def test_what_is_damaged_can_be_removed(place: Layout, damage: str) -> None:
    spool = await SpoolWriter.open(place)
    for _ in range(3):
        await put(spool, Letter(sender=NULL_SENDER))
    await spool.aclose()
    spoil(place, SPOILT[damage])
    spool = await SpoolWriter.open(place)
    await spool.unclaim(await take(spool))
    assert await spool.remove(EVERYTHING) == 3
    assert await spool.next_wake() is None
    await spool.aclose()


def cut(path: str) -> None:
    os.truncate(path, len(LARGE) - 1)


def alter(path: str) -> None:
    with open(path, "r+b") as body:
        body.seek(len(LARGE) // 2)
        body.write(b"!")


FOUND_AT_CLAIM: dict[str, Callable[[str], None]] = {"gone": os.unlink, "cut short": cut}


@pytest.mark.parametrize("damage", FOUND_AT_CLAIM)
async def test_a_large_body_that_is_not_whole_is_not_claimed(spool: SpoolWriter, damage: str) -> None:
    name = await put_large(spool)
    FOUND_AT_CLAIM[damage](spool.bodies.path(name))
    assert await take(spool) == []


async def test_an_altered_large_body_is_never_read_to_its_end(spool: SpoolWriter) -> None:
    alter(spool.bodies.path(await put_large(spool)))
    (claimed,) = await take(spool)
    seen: list[bytes] = []
    with pytest.raises(BodyDamaged):
        seen.extend(claimed.body.chunks())
    assert sum(map(len, seen)) < len(LARGE)


async def test_a_large_body_is_read_to_its_end_while_its_name_is_taken_away(spool: SpoolWriter) -> None:
    name = await put_large(spool)
    (claimed,) = await take(spool)
    assert isinstance(claimed.body, LargeBody)
    pieces = claimed.body.chunks()
    first = next(pieces)
    os.unlink(spool.bodies.path(name))
    assert first + b"".join(pieces) == LARGE


async def test_the_file_of_a_large_body_goes_with_its_last_envelope(spool: SpoolWriter, place: Layout) -> None:
    name = await put_large(spool)
    (claimed,) = await take(spool)
    assert name in files_in(place.spool_dir)
    await record(spool, claimed, DONE)
    assert name not in files_in(place.spool_dir)


async def test_an_intent_comes_back_as_it_was_kept_whatever_its_numbers(spool: SpoolWriter) -> None:
    name = await put(spool, Letter(lane=Lane("local", "ann")))
    envelope = EnvelopeId(f"{name}.1")
    assert await spool.intent_of(envelope) is None
    path = os.fsdecode(b"/var/mail/\xff\xfe")
    first = MboxIntent(envelope, path, (1 << 64) - 1, 1 << 63, 1 << 40, 17, b"\x00\xff" * 8)
    await spool.commit_intents([first])
    assert await spool.intent_of(envelope) == first
    second = MboxIntent(envelope, "/var/mail/ann", 1, 2, 3, 4, b"x")
    await spool.commit_intents([second])
    assert await spool.intent_of(envelope) == second


async def test_intents_are_kept_together_or_not_at_all(spool: SpoolWriter) -> None:
    envelope = EnvelopeId(f"{await put(spool)}.1")
    good = MboxIntent(envelope, "/var/mail/ann", 1, 2, 3, 4, b"x")
    stray = MboxIntent(EnvelopeId(f"{envelope}9"), "/var/mail/ann", 1, 2, 3, 4, b"x")
    with pytest.raises(UnknownEnvelope):
        await spool.commit_intents([good, stray])
    assert await spool.intent_of(envelope) is None
