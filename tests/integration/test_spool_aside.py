"""What is damaged is not sent, and its sender is told, whatever of it can still be read."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from spool.address import NULL_SENDER, Address
from spool.errors import BodyDamaged
from spool.ids import MessageId
from spool.layout import Layout
from spool.listing import QueueReader
from spool.message import Claimed, Notify
from spool.opening import database_path
from spool.outcome import Failed
from spool.selection import EVERYTHING, Selection
from spool.state import Event, Kind, State
from spool.writer import SpoolWriter
from tests.tools.spooled import SENDER, HandClock, Letter, put, take

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("2 faults")]

#: Milliseconds after which a report is due.
SOON = 2000


async def damaged(spool: SpoolWriter, letter: Letter | None = None) -> MessageId:
    """A message of which the body was altered after it was accepted, tried once."""
    name = await put(spool, letter)
    with closing(sqlite3.connect(spool_file(spool), isolation_level=None)) as connection:
        connection.execute("UPDATE body SET content = zeroblob(length(content))")
    assert await take(spool) == []
    return name


def spool_file(spool: SpoolWriter) -> str:
    return database_path(str(spool.bodies.path("x")).partition("/msg/")[0])


async def reports(spool: SpoolWriter, clock: HandClock) -> list[Claimed]:
    clock.advance(SOON)
    return [claimed for claimed in await take(spool) if claimed.envelope.kind.is_report]


@pytest.fixture
async def reader(spool: SpoolWriter, place: Layout) -> AsyncIterator[QueueReader]:
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        yield reader


async def test_the_sender_of_a_damaged_message_is_told(spool: SpoolWriter, clock: HandClock) -> None:
    await damaged(spool)
    (report,) = await reports(spool, clock)
    (line,) = await spool.report_lines(report.envelope.id)
    assert (report.envelope.kind, report.envelope.destination.address) == (Kind.FAILED, SENDER)
    assert isinstance(line.outcome, Failed)
    assert "damaged" in line.outcome.reply.text


async def test_all_recipients_of_a_damaged_message_are_in_one_report(spool: SpoolWriter, clock: HandClock) -> None:
    await damaged(spool, Letter(to=("bob@example.org", "eve@example.org")))
    (report,) = await reports(spool, clock)
    lines = await spool.report_lines(report.envelope.id)
    assert {line.recipient.address.local for line in lines} == {"bob", "eve"}


async def test_the_body_of_such_a_report_s_message_is_not_read_as_if_it_were_whole(
    spool: SpoolWriter, clock: HandClock
) -> None:
    await damaged(spool)
    (report,) = await reports(spool, clock)
    with pytest.raises(BodyDamaged):
        report.body.read()


@pytest.mark.parametrize(("sender", "notify"), [(NULL_SENDER, None), (SENDER, Notify.NEVER)])
async def test_who_wants_no_report_gets_none(
    spool: SpoolWriter, clock: HandClock, sender: Address, notify: Notify | None
) -> None:
    await damaged(spool, Letter(sender=sender, notify=notify))
    assert await reports(spool, clock) == []


async def test_what_was_found_while_it_was_sent_is_told_too(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await spool.set_aside(claimed.envelope.id, "its file: altered")
    assert len(await reports(spool, clock)) == 1


async def test_nobody_is_told_of_what_the_next_hop_may_have(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await spool.set_aside(claimed.envelope.id, "outcome not recorded", was_sent=True)
    assert await reports(spool, clock) == []


async def test_the_history_says_that_it_was_damaged(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await damaged(spool)
    (attempt,) = reader.attempts(Selection(name))
    assert getattr(attempt, "event", None) is Event.FAILED


async def test_a_damaged_envelope_stays_until_the_operator_decides(
    spool: SpoolWriter, clock: HandClock, reader: QueueReader
) -> None:
    await damaged(spool)
    assert len(await reports(spool, clock)) == 1
    assert reader.counts().by_state[State.DAMAGED] == 1
    assert await spool.remove(EVERYTHING) == 2
