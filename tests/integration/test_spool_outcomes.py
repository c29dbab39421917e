"""What attempts come to: history, reports, deadlines, delay notices, and the end of a message."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from spool.address import NULL_SENDER, parse_address
from spool.errors import UnknownEnvelope
from spool.ids import EnvelopeId
from spool.lane import LaneFailed
from spool.layout import Layout
from spool.listing import QueueReader
from spool.message import Notify, Recipient
from spool.opening import database_path
from spool.outcome import Attempt, Deferred, Delivered, Stage
from spool.outcomes import REPORT_DELAY, SWEEP_BATCH
from spool.reply import Reply
from spool.selection import EVERYTHING, Selection
from spool.settlement import Settlement
from spool.state import Event, Kind, State
from spool.writer import SpoolWriter
from tests.tools.spooled import (
    DAY,
    DONE,
    HOUR,
    LATER,
    NEVER,
    HandClock,
    Letter,
    due_lanes,
    put,
    record,
    settlement,
    submission,
    take,
)

pytestmark = pytest.mark.anyio

TWO = ("bob@example.org", "eve@example.net")
EMPTY_AT_THE_END = ("message", "body", "recipient", "envelope", "report", "intent")


@pytest.fixture
def reader(spool: SpoolWriter, place: Layout) -> Iterator[QueueReader]:
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        yield reader


def rows_left(place: Layout) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{database_path(place.spool_dir)}?mode=ro", uri=True)) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in EMPTY_AT_THE_END}


async def test_with_the_last_envelope_nothing_of_a_message_is_left(spool: SpoolWriter, place: Layout) -> None:
    await put(spool, Letter(to=TWO))
    first, second = await take(spool)
    await record(spool, first, DONE)
    assert rows_left(place)["body"] == 1
    await record(spool, second, DONE)
    assert set(rows_left(place).values()) == {0}


async def test_failures_of_one_message_gather_in_one_report(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool, Letter(to=TWO))
    first, second = await take(spool)
    await record(spool, first, NEVER)
    clock.advance(REPORT_DELAY // 2)
    await record(spool, second, NEVER)
    assert await take(spool) == [], "it waits a little for others"
    clock.advance(REPORT_DELAY // 2)
    (report,) = await take(spool)
    lines = await spool.report_lines(report.envelope.id)
    assert [line.recipient for line in lines] == [first.envelope.recipient, second.envelope.recipient]
    assert report.envelope.recipient.address == report.message.return_path


async def test_a_failure_while_the_report_is_in_flight_gets_another(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool, Letter(to=TWO))
    first, second = await take(spool)
    await record(spool, first, NEVER)
    clock.advance(REPORT_DELAY)
    (report,) = await take(spool)
    await record(spool, second, NEVER)
    clock.advance(REPORT_DELAY)
    (another,) = await take(spool)
    assert another.envelope.id != report.envelope.id
    assert [line.recipient for line in await spool.report_lines(another.envelope.id)] == [second.envelope.recipient]


async def test_a_held_report_takes_further_lines_and_stays_held(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool, Letter(to=TWO))
    first, second = await take(spool)
    await record(spool, first, NEVER)
    (report,) = reader.reports()
    await spool.hold(EVERYTHING)
    await record(spool, second, NEVER)
    (still,) = reader.reports()
    assert still.id == report.id
    assert reader.counts().by_state == {State.HELD: 1}


async def test_a_report_keeps_the_body_until_it_is_sent(spool: SpoolWriter, place: Layout, clock: HandClock) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await record(spool, claimed, NEVER)
    clock.advance(REPORT_DELAY)
    (report,) = await take(spool)
    assert report.body.read() == claimed.body.read()
    about = submission(spool.clock.now(), Letter(sender=NULL_SENDER))
    settled = settlement(spool, report, Delivered(Reply(250, "2.0.0", "reported")))
    await spool.accept(about, settles=settled)
    (sent,) = await take(spool)
    await record(spool, sent, DONE)
    assert set(rows_left(place).values()) == {0}


async def test_a_report_is_accepted_once(spool: SpoolWriter, place: Layout, clock: HandClock) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await record(spool, claimed, NEVER)
    clock.advance(REPORT_DELAY)
    (report,) = await take(spool)
    settled = settlement(spool, report, Delivered(Reply(250, "2.0.0", "reported")))
    await spool.accept(submission(spool.clock.now(), Letter(sender=NULL_SENDER)), settles=settled)
    with pytest.raises(UnknownEnvelope):
        await spool.accept(submission(spool.clock.now(), Letter(sender=NULL_SENDER)), settles=settled)
    assert rows_left(place)["message"] == 1


async def test_a_report_that_cannot_be_sent_makes_no_other_report(
    spool: SpoolWriter, place: Layout, clock: HandClock
) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await record(spool, claimed, NEVER)
    clock.advance(REPORT_DELAY)
    (report,) = await take(spool)
    await record(spool, report, NEVER)
    assert set(rows_left(place).values()) == {0}


@pytest.mark.parametrize(
    "letter", [Letter(sender=NULL_SENDER), Letter(notify=Notify.NEVER), Letter(notify=Notify.SUCCESS)]
)
async def test_nobody_is_told_who_cannot_be_or_does_not_want_to_be(
    spool: SpoolWriter, place: Layout, letter: Letter
) -> None:
    await put(spool, letter)
    (claimed,) = await take(spool)
    await record(spool, claimed, NEVER)
    assert set(rows_left(place).values()) == {0}


async def test_success_is_reported_to_those_who_asked(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool, Letter(notify=Notify.SUCCESS))
    (claimed,) = await take(spool)
    await record(spool, claimed, DONE)
    clock.advance(REPORT_DELAY)
    (report,) = await take(spool)
    assert report.envelope.kind is Kind.RELAYED
    (line,) = await spool.report_lines(report.envelope.id)
    assert (line.event, line.outcome) == (Event.DELIVERED, DONE)


async def test_a_deferral_after_the_deadline_ends_an_envelope(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool, Letter(ttl=HOUR))
    clock.advance(HOUR)
    (claimed,) = await take(spool)
    await record(spool, claimed, LATER, spool.clock.now() + HOUR)
    clock.advance(REPORT_DELAY)
    (report,) = await take(spool)
    (line,) = await spool.report_lines(report.envelope.id)
    assert (line.event, line.outcome) == (Event.EXPIRED, LATER)


async def test_a_deadline_alone_ends_nothing(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool, Letter(ttl=HOUR))
    clock.advance(DAY)
    (claimed,) = await take(spool)
    await record(spool, claimed, DONE)
    assert await spool.next_wake() is None


async def test_a_lane_that_fails_ends_what_waits_in_it_beyond_its_deadline(
    spool: SpoolWriter, reader: QueueReader, clock: HandClock
) -> None:
    late = await put(spool, Letter(ttl=HOUR))
    young = await put(spool, Letter(ttl=DAY))
    (lane,) = await due_lanes(spool)
    clock.advance(HOUR)
    now = spool.clock.now()
    await spool.record([], [LaneFailed(lane.id, now, now + HOUR, "connection refused")])
    assert await spool.expire(lane.id, now) == 1
    assert await spool.expire(lane.id, now) == 0
    assert {entry.id for entry in reader.entries()} == {f"{late}.2", f"{young}.1"}, "the report, and what may wait"
    (line,) = await spool.report_lines(EnvelopeId(f"{late}.2"))
    assert (line.event, line.outcome.reply) == (Event.EXPIRED, Reply(451, "4.4.7", "connection refused"))
    (past,) = reader.attempts(Selection(late))
    assert "connection refused" in str(past)


async def test_many_that_are_overdue_end_in_bounded_batches(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool, Letter(to=tuple(f"u{number}@example.org" for number in range(SWEEP_BATCH + 10)), ttl=HOUR))
    (lane,) = await due_lanes(spool)
    clock.advance(HOUR)
    counts = [await spool.expire(lane.id, spool.clock.now()) for _ in range(3)]
    assert counts == [SWEEP_BATCH, 10, 0]


async def test_what_is_held_or_in_flight_does_not_expire(spool: SpoolWriter, clock: HandClock) -> None:
    held = await put(spool, Letter(ttl=HOUR))
    await put(spool, Letter(ttl=HOUR))
    await spool.hold(Selection(held))
    (lane,) = await due_lanes(spool)
    await take(spool)
    clock.advance(HOUR)
    assert await spool.expire(lane.id, spool.clock.now()) == 0


async def test_a_delay_notice_is_owed_once_for_each_interval(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool, Letter(warn_after=HOUR))
    intervals = (HOUR, 3 * HOUR)
    assert await spool.warn(spool.clock.now(), intervals) == 0
    clock.advance(HOUR)
    assert await spool.warn(spool.clock.now(), intervals) == 1
    assert await spool.warn(spool.clock.now(), intervals) == 0
    clock.advance(2 * HOUR)
    assert await spool.warn(spool.clock.now(), intervals) == 1
    clock.advance(DAY)
    assert await spool.warn(spool.clock.now(), intervals) == 0


async def test_a_delay_notice_leaves_the_message_waiting(spool: SpoolWriter, clock: HandClock) -> None:
    name = await put(spool, Letter(warn_after=HOUR))
    clock.advance(HOUR)
    await spool.warn(spool.clock.now(), (HOUR,))
    clock.advance(REPORT_DELAY)
    claimed = {one.envelope.kind: one for one in await take(spool)}
    assert set(claimed) == {Kind.MAIL, Kind.DELAYED}
    (line,) = await spool.report_lines(claimed[Kind.DELAYED].envelope.id)
    assert (line.event, line.recipient) == (Event.DEFERRED, claimed[Kind.MAIL].envelope.recipient)
    assert claimed[Kind.MAIL].message.id == name


@pytest.mark.reliability("6 reports")
async def test_a_delay_notice_repeats_what_the_other_server_said_of_each_recipient(
    spool: SpoolWriter, clock: HandClock
) -> None:
    await put(spool, Letter(to=("bob@example.org", "carl@example.org"), warn_after=HOUR))
    bob, carl = await take(spool)
    full = Deferred(Reply(452, "4.2.2", "carl's mailbox is full"), LATER.remote, Stage.RCPT)
    for _ in range(2):
        await spool.record([settlement(spool, bob, LATER), settlement(spool, carl, full)])
        bob, carl = await take(spool)
    await spool.unclaim([bob, carl])
    tried = spool.clock.now()
    clock.advance(HOUR)
    await spool.warn(spool.clock.now(), (HOUR,))
    clock.advance(REPORT_DELAY)
    (report,) = [one for one in await take(spool) if one.envelope.kind is Kind.DELAYED]
    lines = await spool.report_lines(report.envelope.id)
    assert [(line.outcome, line.at) for line in lines] == [(LATER, tried), (full, tried)]


@pytest.mark.reliability("6 reports")
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("451 4.4.1 connection refused", Reply(451, "4.4.1", "connection refused")),
        ("paused by the operator", Reply(451, "4.4.7", "paused by the operator")),
        ("", Reply(451, "4.4.7", "it has not been tried yet")),
    ],
)
async def test_a_delay_notice_about_what_was_never_tried_says_what_keeps_its_lane(
    spool: SpoolWriter, clock: HandClock, said: str, told: Reply
) -> None:
    await put(spool, Letter(warn_after=HOUR))
    (lane,) = await due_lanes(spool)
    if said:
        await spool.record([], [LaneFailed(lane.id, spool.clock.now(), spool.clock.now(), said)])
    clock.advance(HOUR)
    await spool.warn(spool.clock.now(), (HOUR,))
    clock.advance(REPORT_DELAY)
    (report,) = [one for one in await take(spool) if one.envelope.kind is Kind.DELAYED]
    (line,) = await spool.report_lines(report.envelope.id)
    assert line.outcome.reply == told


async def test_nobody_hears_of_a_delay_who_asked_for_other_reports_only(
    spool: SpoolWriter, clock: HandClock, reader: QueueReader
) -> None:
    await put(spool, Letter(warn_after=HOUR, notify=Notify.FAILURE))
    clock.advance(HOUR)
    assert await spool.warn(spool.clock.now(), (HOUR,)) == 1
    assert list(reader.reports()) == []


async def test_an_envelope_that_was_removed_in_flight_goes_without_a_report(spool: SpoolWriter, place: Layout) -> None:
    await put(spool, Letter(to=TWO))
    deferred, failed = await take(spool)
    assert await spool.remove(EVERYTHING) == 2
    await spool.record([settlement(spool, deferred, LATER), settlement(spool, failed, NEVER)])
    assert set(rows_left(place).values()) == {0}


async def test_an_envelope_that_was_held_in_flight_waits_when_it_is_deferred(
    spool: SpoolWriter, reader: QueueReader
) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    assert await spool.hold(EVERYTHING) == 1
    await record(spool, claimed, LATER, spool.clock.now())
    assert reader.counts().by_state == {State.HELD: 1}
    assert await take(spool) == []


async def test_an_envelope_that_was_held_in_flight_is_delivered_all_the_same(spool: SpoolWriter, place: Layout) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await spool.hold(EVERYTHING)
    await record(spool, claimed, DONE)
    assert set(rows_left(place).values()) == {0}


async def test_an_outcome_for_what_is_not_in_flight_changes_nothing(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    settled = settlement(spool, claimed, LATER, spool.clock.now())
    await spool.record([settled])
    await spool.record([replace(settled, event=Event.DELIVERED)])
    assert reader.counts().by_state == {State.READY: 1}


async def test_the_history_of_a_report_names_whom_it_goes_to(
    spool: SpoolWriter, reader: QueueReader, clock: HandClock
) -> None:
    name = await put(spool)
    (claimed,) = await take(spool)
    await record(spool, claimed, NEVER)
    clock.advance(REPORT_DELAY)
    (report,) = await take(spool)
    now = spool.clock.now()
    waits = Deferred(Reply(451, "4.3.0", "a table is down"))
    await spool.record(
        [Settlement(Attempt(report.envelope.id, now, now, "report", waits), Event.DEFERRED, now, None, None)]
    )
    last = reader.attempts(Selection(name))[-1]
    assert "ann@example.com" in str(last)


@pytest.mark.reliability("6 reports")
async def test_an_expansion_is_told_while_its_parts_wait(spool: SpoolWriter, clock: HandClock) -> None:
    team = Recipient(parse_address("team@example.org"), notify=Notify.SUCCESS, notify_given=True)
    whole = submission(spool.clock.now(), Letter(to=TWO, notify=Notify.NEVER))
    await spool.accept(replace(whole, expanded=(team,)))
    clock.advance(REPORT_DELAY)
    (report,) = [one for one in await take(spool) if one.envelope.kind is Kind.EXPANDED]
    (line,) = await spool.report_lines(report.envelope.id)
    assert (line.recipient, line.destination.address, line.event) == (team, team.address, Event.DELIVERED)
