"""The scheduler when the disk is full, when a write is lost, and when it has to stop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from policy.config import Relay
from scheduler.limits import bounds_of
from scheduler.runner import Runner
from spool.entry import PastAttempt
from spool.errors import SpoolLost
from spool.lane import Lane
from spool.layout import Layout, layout
from spool.listing import QueueReader
from spool.selection import Selection
from spool.state import Kind
from tests.tools.in_flight import LOCAL, NO_ROUTE
from tests.tools.scheduling import PACE, PATIENCE, FullDisk, World, world
from tests.tools.spooled import HOUR, LATER, Letter, put, take

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Layout:
    return layout(str(tmp_path))


@pytest.fixture
def disk() -> FullDisk:
    return FullDisk()


@pytest.fixture
async def house(place: Layout, disk: FullDisk) -> AsyncIterator[World]:
    async with world(place, ops=disk) as house:
        yield house


async def test_nothing_is_tried_while_outcomes_cannot_be_recorded(house: World, disk: FullDisk) -> None:
    for _ in range(100):
        await put(house.spool)
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 5)
        disk.is_full = True
        house.open_gate()
        await house.until(lambda: house.runner.snapshot().trouble)
        tried = len(house.tried)
        await anyio.sleep(10 * PACE.tick)
        assert len(house.tried) == tried <= 2 * bounds_of(Relay(name="relay")).most
        disk.is_full = False
        await house.settled()
    assert set(house.times_tried.values()) == {1}
    assert len(house.tried) == 100
    assert await house.spool.next_wake() is None


async def test_a_full_disk_is_said_once_and_its_end_too(
    house: World, disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scheduler")
    await put(house.spool)
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 1)
        disk.is_full = True
        house.open_gate()
        await house.until(lambda: house.runner.snapshot().trouble)
        assert "database or disk is full" in house.runner.snapshot().trouble
        disk.is_full = False
        await house.settled()
    ours = [record.levelname for record in caplog.records if record.name.startswith("scheduler")]
    assert ours == ["ERROR", "INFO"]
    assert house.runner.snapshot().trouble == ""


async def test_what_cannot_be_claimed_now_is_claimed_when_there_is_room(house: World, disk: FullDisk) -> None:
    async with house.at_work():
        await house.settled()
        await put(house.spool)
        disk.is_full = True
        house.runner.wake()
        await anyio.sleep(5 * PACE.tick)
        disk.is_full = False
        await house.settled()
    assert await house.spool.next_wake() is None


async def test_a_lane_that_cannot_be_parked_now_is_parked_later(house: World, disk: FullDisk) -> None:
    await put(house.spool, Letter(lane=Lane("gone", "")))
    disk.is_full = True
    async with house.at_work():
        await anyio.sleep(5 * PACE.tick)
        disk.is_full = False
        with anyio.fail_after(PATIENCE):
            while not (await house.spool.lanes(0, 10))[0].parked:  # noqa: ASYNC110 - the spool tells nobody
                await anyio.sleep(PACE.tick)


async def test_the_scheduler_ends_when_a_write_is_lost(house: World, disk: FullDisk) -> None:
    await put(house.spool)
    house.close_gate()

    async def lose() -> None:
        await house.until(lambda: house.running == 1)
        disk.is_lost = True
        house.open_gate()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(lose)
            with pytest.raises(SpoolLost):
                await house.runner.run()
    assert house.spool.lost.is_set()


async def test_a_stop_waits_for_sessions_and_puts_the_rest_back(house: World) -> None:
    for _ in range(30):
        await put(house.spool)
    house.close_gate()
    async with anyio.create_task_group() as group:
        group.start_soon(house.runner.run)
        await house.until(lambda: house.running == 5)
        house.runner.stop()
        await anyio.sleep(2 * PACE.tick)
        house.open_gate()
    assert len(house.tried) == 5
    rest = await take(house.spool)
    assert len(rest) == 25
    assert not any(one.was_in_flight for one in rest)


async def cut_off(house: World, letter: Letter) -> None:
    """A session that does not end before the stop has waited long enough."""
    hasty = Runner(house.spool, lambda: house.config, house.deliver, house.report, replace(PACE, grace=0.05))
    await put(house.spool, letter)
    house.close_gate()
    async with anyio.create_task_group() as group:
        group.start_soon(hasty.run)
        await house.until(lambda: house.running == 1)
        hasty.stop()
    assert house.running == 0


async def test_a_session_that_does_not_end_is_cut_and_its_mail_put_back(place: Layout) -> None:
    async with world(place) as house:
        await cut_off(house, Letter(to=("ann@box.example.net",), lane=LOCAL, user="ann"))
        (again,) = await take(house.spool)
        assert again.envelope.attempts == 0


@pytest.mark.reliability("5 outbound duplicates")
async def test_of_a_relay_that_was_cut_the_history_says_that_it_may_have_been_sent(place: Layout) -> None:
    async with world(place) as house:
        await cut_off(house, Letter())
        (again,) = await take(house.spool)
        with closing(QueueReader.beside(place.spool_dir, house.spool.clock)) as reader:
            (past,) = reader.attempts(Selection(again.message.id))
        assert isinstance(past, PastAttempt)
        assert "if it was sent, no reply was seen" in past.attempt.outcome.reply.text


async def test_a_cancelled_scheduler_has_recorded_what_had_ended(place: Layout) -> None:
    async with world(place) as house:
        await put(house.spool, Letter(to=("a@example.org",)))
        async with anyio.create_task_group() as group:
            group.start_soon(house.runner.run)
            await house.until(lambda: house.tried)
            await put(house.spool, Letter(to=("b@example.org",)))
            group.cancel_scope.cancel()
    async with world(place) as after:
        left = await take(after.spool)
    assert [str(one.envelope.recipient.address) for one in left] == ["b@example.org"]


async def test_a_stop_while_the_disk_is_full_does_not_last_for_ever(
    house: World, disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.runner.LAST_WORDS", 0.1)
    await put(house.spool)
    house.close_gate()
    with anyio.fail_after(5):
        async with house.at_work():
            await house.until(lambda: house.running == 1)
            disk.is_full = True
            house.open_gate()
            await house.until(lambda: house.runner.snapshot().trouble)
    disk.is_full = False


async def test_outcomes_are_recorded_together_when_many_end_at_once(house: World, disk: FullDisk) -> None:
    house.outcome = lambda claimed, route: LATER
    for _ in range(100):
        await put(house.spool)
    house.close_gate()
    commits = 0
    original = disk.commit

    def counted(connection: object) -> None:
        nonlocal commits
        commits += 1
        original(connection)  # type: ignore[arg-type]

    async with house.at_work():
        await house.until(lambda: house.running == 5)
        disk.commit = counted  # type: ignore[method-assign]
        house.open_gate()
        await house.settled()
    assert len(house.tried) == 100
    assert commits <= 50


@pytest.mark.reliability("6 reports")
async def test_a_delay_notice_comes_in_time_though_nothing_is_tried(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    await put(house.spool, Letter(warn_after=4 * HOUR))
    async with house.at_work():
        await house.until(lambda: house.tried)
        await house.settled()
        (lane,) = await house.spool.lanes(0, 10)
        await house.runner.pause_lane(lane.id)
        house.advance(4 * HOUR)
        await house.settled()
        house.advance(2_000)
        await house.until(lambda: house.reports)
    ((report, (line,)),) = house.reports
    assert report.envelope.kind is Kind.DELAYED
    assert line.outcome.reply.text.endswith(NO_ROUTE.reply.text)
    # The report itself may have been tried by now.
    assert house.times_tried[house.tried[0].envelope.id] == 1
