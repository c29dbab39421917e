"""Lanes: when they wake, and what a new configuration does to what waits in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from spool.entry import QueueEntry
from spool.lane import REPORTS, Lane
from spool.lanes import STEP
from spool.layout import Layout
from spool.listing import QueueReader
from spool.message import Destination
from spool.outcomes import REPORT_DELAY
from spool.selection import EVERYTHING, Selection
from spool.writer import SpoolWriter
from tests.tools.spooled import (
    DAY,
    HOUR,
    LATER,
    NEVER,
    HandClock,
    Letter,
    due_lanes,
    put,
    record,
    settlement,
    take,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def reader(spool: SpoolWriter, place: Layout) -> Iterator[QueueReader]:
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        yield reader


def by_domain(destination: Destination) -> Lane:
    return Lane("mx", destination.address.domain)


def keys(reader: QueueReader) -> dict[str, str]:
    return {entry.id: entry.key for entry in reader.entries() if isinstance(entry, QueueEntry)}


async def test_a_lane_wakes_with_its_earliest_envelope(spool: SpoolWriter) -> None:
    await put(spool, Letter(to=("a@example.org", "b@example.org")))
    first, second = await take(spool)
    now = spool.clock.now()
    await spool.record([settlement(spool, first, LATER, now + 2 * HOUR), settlement(spool, second, LATER, now + HOUR)])
    assert await spool.next_wake() == now + HOUR


async def test_the_next_wake_is_asked_for_after_those_that_are_known(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    first = spool.clock.now()
    clock.advance(HOUR)
    await put(spool, Letter(lane=Lane("relay", "example.net")))
    assert await spool.next_wake() == first
    assert await spool.next_wake(first) == first + HOUR
    assert await spool.next_wake(first + HOUR) is None


async def test_a_new_configuration_moves_what_waits_to_the_lanes_it_wants(
    spool: SpoolWriter, reader: QueueReader
) -> None:
    name = await put(spool, Letter(to=("a@example.org", "b@example.net", "c@example.org")))
    await spool.hold(Selection(name, 2))
    (lane,) = await due_lanes(spool)
    assert await spool.relane(lane.id, by_domain) == 3
    assert keys(reader) == {f"{name}.1": "example.org", f"{name}.2": "example.net", f"{name}.3": "example.org"}
    assert {found.lane.key for found in await due_lanes(spool)} == {"example.org"}, "the held one is not due"


async def test_more_than_a_step_is_moved(spool: SpoolWriter, reader: QueueReader) -> None:
    many = tuple(f"u{number}@d{number % 3}.example" for number in range(2 * STEP + 1))
    await put(spool, Letter(to=many))
    (lane,) = await due_lanes(spool)
    assert await spool.relane(lane.id, by_domain) == len(many)
    assert set(keys(reader).values()) == {"d0.example", "d1.example", "d2.example"}
    assert await spool.relane(lane.id, by_domain) == 0


async def test_a_lane_that_stays_itself_is_walked_once(spool: SpoolWriter) -> None:
    await put(spool, Letter(to=tuple(f"u{number}@example.org" for number in range(STEP + 1))))
    (lane,) = await due_lanes(spool)
    assert await spool.relane(lane.id, lambda destination: lane.lane) == STEP + 1


async def test_an_outcome_finds_its_envelope_in_the_lane_it_was_moved_to(spool: SpoolWriter) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await spool.relane(claimed.lane_id, by_domain)
    await record(spool, claimed, LATER, spool.clock.now())
    (found,) = await due_lanes(spool)
    assert found.lane == Lane("mx", "example.org")


async def test_reports_are_not_moved_and_keep_their_deadline(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    await record(spool, claimed, NEVER)
    clock.advance(REPORT_DELAY)
    (lane,) = await due_lanes(spool)
    assert await spool.relane(lane.id, by_domain) == 0
    assert await spool.set_ttl(REPORTS.action, HOUR) == 0
    assert [found.lane for found in await due_lanes(spool)] == [REPORTS]


async def test_a_new_ttl_counts_from_arrival(spool: SpoolWriter, reader: QueueReader, clock: HandClock) -> None:
    await put(spool, Letter(to=("a@example.org", "b@example.org"), ttl=DAY))
    arrived = spool.clock.now()
    clock.advance(HOUR)
    await put(spool, Letter(lane=Lane("other", ""), ttl=DAY))
    assert await spool.set_ttl("relay", 2 * DAY) == 2
    deadlines = [entry.deadline for entry in reader.entries() if isinstance(entry, QueueEntry)]
    assert deadlines == [arrived + 2 * DAY] * 2 + [arrived + HOUR + DAY]


async def test_what_the_runner_remembers_outlives_a_restart(place: Layout, clock: HandClock) -> None:
    spool = await SpoolWriter.open(place, clock)
    assert await spool.recall("paused") == ""
    await spool.remember("paused", "mta")
    await spool.aclose()
    spool = await SpoolWriter.open(place, clock)
    assert await spool.recall("paused") == "mta"
    await spool.remember("paused", "")
    assert await spool.recall("paused") == ""
    await spool.aclose()


async def test_a_pause_outlives_a_restart(place: Layout, clock: HandClock) -> None:
    spool = await SpoolWriter.open(place, clock)
    await put(spool)
    (lane,) = await due_lanes(spool)
    await spool.pause_lane(lane.id)
    await spool.aclose()
    spool = await SpoolWriter.open(place, clock)
    assert await due_lanes(spool) == []
    await spool.aclose()


async def test_removing_the_last_envelope_puts_a_lane_to_sleep(spool: SpoolWriter) -> None:
    await put(spool)
    await spool.remove(EVERYTHING)
    assert await spool.next_wake() is None
    (status,) = await spool.lanes(0, 10)
    assert status.next_due is None
