"""The spool's door on a real database: what is accepted is claimed, recorded, and gone."""

from __future__ import annotations

import pytest

from spool.bodies import SMALL_BODY
from spool.errors import DuplicateMessage, SpoolInUse
from spool.ids import new_message_id
from spool.lane import REPORTS, DueLane, Lane, LaneFailed, LaneWish
from spool.layout import Layout
from spool.state import Event, Kind
from spool.writer import SpoolWriter
from tests.tools.spooled import (
    DONE,
    HOUR,
    LATER,
    NEVER,
    RELAY,
    HandClock,
    Letter,
    due_lanes,
    put,
    record,
    submission,
    take,
)

pytestmark = pytest.mark.anyio


async def test_a_message_is_claimed_as_it_was_accepted(spool: SpoolWriter) -> None:
    sent = submission(spool.clock.now(), Letter(to=("bob@example.org", "eve@example.net")))
    await spool.accept(sent)
    claimed = await take(spool)
    assert [one.message for one in claimed] == [sent.message] * 2
    assert [one.envelope.recipient for one in claimed] == [new.recipient for new in sent.envelopes]
    assert [one.envelope.destination for one in claimed] == [new.destination for new in sent.envelopes]
    assert {one.envelope.lane for one in claimed} == {RELAY}
    assert claimed[0].body.read() == sent.body


async def test_what_is_in_flight_is_not_claimed_again(spool: SpoolWriter) -> None:
    await put(spool)
    assert len(await take(spool)) == 1
    assert await take(spool) == []


async def test_a_delivered_message_is_gone(spool: SpoolWriter) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await record(spool, claimed, DONE)
    assert await spool.next_wake() is None


async def test_a_deferred_envelope_is_due_when_it_was_told_to_be(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    due = spool.clock.now() + HOUR
    await record(spool, claimed, LATER, due)
    assert await spool.next_wake() == due
    assert await take(spool) == []
    clock.advance(HOUR)
    (again,) = await take(spool)
    assert again.envelope.attempts == 1


async def test_a_failure_queues_its_report_in_the_same_commit(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await record(spool, claimed, NEVER)
    clock.advance(HOUR)
    (report,) = await take(spool)
    assert (report.envelope.kind, report.envelope.lane) == (Kind.FAILED, REPORTS)
    (line,) = await spool.report_lines(report.envelope.id)
    assert (line.recipient, line.event, line.outcome) == (claimed.envelope.recipient, Event.FAILED, NEVER)
    assert line.deadline == claimed.envelope.deadline


async def test_a_message_is_accepted_once(spool: SpoolWriter) -> None:
    sent = submission(spool.clock.now())
    await spool.accept(sent)
    with pytest.raises(DuplicateMessage):
        await spool.accept(sent)


async def test_a_large_body_comes_back_from_its_file(spool: SpoolWriter) -> None:
    name = new_message_id(1)
    content = b"0123456789abcdef" * (SMALL_BODY // 8)
    writer = await spool.new_body(name)
    for start in range(0, len(content), 10_000):
        writer.write(content[start : start + 10_000])
    await spool.accept(submission(spool.clock.now(), Letter(body=writer.finish()), name))
    (claimed,) = await take(spool)
    assert claimed.body.read() == content


async def test_a_second_opener_is_told_who_has_the_spool(spool: SpoolWriter, place: Layout) -> None:
    with pytest.raises(SpoolInUse, match=r"in use by process \d+"):
        await SpoolWriter.open(place)


async def test_mail_is_still_there_after_a_restart(place: Layout) -> None:
    first = await SpoolWriter.open(place)
    name = await put(first)
    await first.aclose()
    second = await SpoolWriter.open(place)
    (claimed,) = await take(second)
    await second.aclose()
    assert claimed.message.id == name
    assert not claimed.was_in_flight


async def test_what_was_in_flight_at_a_stop_is_ready_again_and_says_so(place: Layout) -> None:
    first = await SpoolWriter.open(place)
    await put(first)
    await take(first)
    await first.aclose()
    second = await SpoolWriter.open(place)
    (claimed,) = await take(second)
    await second.aclose()
    assert claimed.was_in_flight


async def test_a_lane_that_is_not_due_is_not_listed(spool: SpoolWriter) -> None:
    await put(spool)
    now = spool.clock.now()
    (lane,) = await due_lanes(spool)
    assert lane == DueLane(lane.id, RELAY, now, 0)
    assert await due_lanes(spool, now - 1) == []


async def test_due_lanes_are_answered_by_action_and_health_in_pages(spool: SpoolWriter, clock: HandClock) -> None:
    for key in ("a.example", "b.example", "c.example"):
        await put(spool, Letter(lane=Lane("mx", key)))
        clock.advance(1)
    await put(spool, Letter(lane=Lane("local", "ann")))
    now = spool.clock.now()
    (failed,) = (lane for lane in await due_lanes(spool) if lane.lane.key == "b.example")
    await spool.record([], [LaneFailed(failed.id, now, now, "no route")])
    first, failing, other = await spool.due_lanes(
        now, [LaneWish("mx", False, 1), LaneWish("mx", True, 10), LaneWish("local", False, 10)]
    )
    (second,) = await spool.due_lanes(now, [LaneWish("mx", False, 10, first[-1])])
    (newest,) = await spool.due_lanes(now, [LaneWish("mx", False, 1, newest=True)])
    keys = [[lane.lane.key for lane in page] for page in (first, failing, other, second, newest)]
    assert keys == [["a.example"], ["b.example"], ["ann"], ["c.example"], ["c.example"]]


async def test_every_action_that_has_a_lane_is_named_once(spool: SpoolWriter) -> None:
    for lane in (Lane("mx", "a.example"), Lane("mx", "b.example"), REPORTS, Lane("local", "ann")):
        await put(spool, Letter(lane=lane))
    assert await spool.lane_actions() == ["", "local", "mx"]


async def test_no_lane_names_no_action(spool: SpoolWriter) -> None:
    assert await spool.lane_actions() == []


async def test_a_drop_file_is_taken_once_even_after_its_message_is_gone(spool: SpoolWriter) -> None:
    await put(spool, Letter(drop="d1"))
    (claimed,) = await take(spool)
    await record(spool, claimed, DONE)
    with pytest.raises(DuplicateMessage, match="d1"):
        await put(spool, Letter(drop="d1"))
    await put(spool, Letter(drop="d2"))
