"""What the operator does to envelopes: all, those of a message, one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from spool.entry import PastAttempt
from spool.errors import UnknownEnvelope
from spool.lane import LaneFailed
from spool.layout import Layout
from spool.listing import QueueReader
from spool.selected import STEP
from spool.selection import EVERYTHING, Selection, select
from spool.state import State
from spool.writer import SpoolWriter
from tests.tools.spooled import DONE, HOUR, LATER, HandClock, Letter, due_lanes, put, record, take

pytestmark = pytest.mark.anyio

TWO = ("bob@example.org", "eve@example.net")
MANY = tuple(f"user{number}@example.org" for number in range(2 * STEP + 3))


@pytest.fixture
def reader(spool: SpoolWriter, place: Layout) -> Iterator[QueueReader]:
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        yield reader


async def test_what_is_held_is_not_claimed_until_it_is_released(spool: SpoolWriter) -> None:
    await put(spool, Letter(to=TWO))
    assert await spool.hold(EVERYTHING) == 2
    assert await take(spool) == []
    assert await spool.hold(EVERYTHING) == 0, "it is held already"
    assert await spool.release(EVERYTHING) == 2
    assert len(await take(spool)) == 2


async def test_one_envelope_is_held_and_its_siblings_go(spool: SpoolWriter) -> None:
    name = await put(spool, Letter(to=TWO))
    assert await spool.hold(select(f"{name}.1")) == 1
    assert [claimed.envelope.id for claimed in await take(spool)] == [f"{name}.2"]


async def test_the_envelopes_of_one_message_are_named_by_the_beginning_of_its_id(
    spool: SpoolWriter, reader: QueueReader
) -> None:
    name = await put(spool, Letter(to=TWO))
    other = await put(spool)
    assert await spool.remove(Selection(name[:18])) == 2
    assert [entry.id for entry in reader.entries()] == [f"{other}.1"]


@pytest.mark.parametrize("text", ["0123456789abcdefghij", "0123456789abcdefghij.1"])
async def test_an_id_that_is_not_there_is_an_error(spool: SpoolWriter, text: str) -> None:
    await put(spool)
    with pytest.raises(UnknownEnvelope):
        await spool.hold(select(text))


async def test_an_ordinal_that_is_not_there_is_an_error(spool: SpoolWriter) -> None:
    name = await put(spool)
    with pytest.raises(UnknownEnvelope):
        await spool.remove(select(f"{name}.2"))


async def test_more_than_a_step_is_done_in_several(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool, Letter(to=MANY))
    assert await spool.hold(EVERYTHING) == len(MANY)
    assert reader.counts().by_state == {State.HELD: len(MANY)}
    assert await spool.remove(EVERYTHING) == len(MANY)
    assert reader.counts().messages == 0


async def test_more_than_a_step_of_one_message_is_done_in_several(spool: SpoolWriter) -> None:
    name = await put(spool, Letter(to=MANY))
    assert await spool.hold(Selection(name)) == len(MANY)
    assert await spool.release(Selection(name)) == len(MANY)


async def test_what_comes_while_all_is_removed_stays(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool, Letter(to=MANY))
    late: list[str] = []
    write = spool._select_step

    async def and_another(*arguments: object) -> object:
        late.append(await put(spool))
        return await write(*arguments)  # type: ignore[arg-type]

    spool._select_step = and_another  # type: ignore[method-assign, assignment]
    assert await spool.remove(EVERYTHING) == len(MANY)
    assert {entry.id for entry in reader.entries()} == {f"{name}.1" for name in late}


async def test_a_removal_leaves_a_line_in_the_history(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await put(spool)
    await spool.remove(EVERYTHING)
    (past,) = reader.attempts(Selection(name))
    assert isinstance(past, PastAttempt)
    assert (past.attempt.route, past.attempt.outcome.reply.text) == ("operator", "removed by the operator")


async def test_a_release_takes_back_the_hold_of_an_envelope_in_flight(spool: SpoolWriter) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    assert await spool.hold(EVERYTHING) == 1
    assert await spool.release(EVERYTHING) == 1
    await record(spool, claimed, LATER, spool.clock.now())
    assert len(await take(spool)) == 1


async def test_a_release_does_not_take_back_a_removal(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await spool.remove(EVERYTHING)
    assert await spool.release(EVERYTHING) == 0
    await record(spool, claimed, LATER, spool.clock.now())
    assert list(reader.entries()) == []


async def test_an_envelope_removed_in_flight_is_delivered_if_it_can_be(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await put(spool)
    (claimed,) = await take(spool)
    await spool.remove(EVERYTHING)
    await record(spool, claimed, DONE)
    (past,) = reader.attempts(Selection(name))
    assert isinstance(past, PastAttempt)
    assert past.attempt.outcome == DONE


async def test_scheduling_makes_due_what_waits_and_opens_its_lane(spool: SpoolWriter, clock: HandClock) -> None:
    name = await put(spool)
    (claimed,) = await take(spool)
    now = spool.clock.now()
    await record(spool, claimed, LATER, now + HOUR)
    await spool.record([], [LaneFailed(claimed.lane_id, now, now + HOUR, "connection refused")])
    assert await due_lanes(spool) == []
    assert await spool.schedule(Selection(name)) == 1
    assert len(await take(spool)) == 1


async def test_scheduling_leaves_held_ones_held(spool: SpoolWriter) -> None:
    await put(spool)
    await spool.hold(EVERYTHING)
    assert await spool.schedule(EVERYTHING) == 0
    assert await take(spool) == []


async def test_an_empty_queue_has_nothing_to_select(spool: SpoolWriter) -> None:
    assert await spool.remove(EVERYTHING) == 0
