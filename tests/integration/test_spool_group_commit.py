"""Many callers, one commit: who shares it, who goes first, and what the failing ones cost the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine

import anyio
import anyio.lowlevel
import pytest

from spool.errors import DuplicateMessage, SpoolFull, SpoolUnavailable
from spool.lane import ClaimOrder, Lane
from spool.layout import Layout
from spool.outcome import Deferred
from spool.state import State
from spool.writer import SpoolWriter
from tests.tools.faults import FaultyOps, sqlite_error
from tests.tools.spooled import DONE, LATER, HandClock, Letter, put, settlement, submission, take

pytestmark = pytest.mark.anyio


@pytest.fixture
def ops() -> FaultyOps:
    return FaultyOps()


@pytest.fixture
async def spool(place: Layout, clock: HandClock, ops: FaultyOps) -> AsyncIterator[SpoolWriter]:
    writer = await SpoolWriter.open(place, clock, ops)
    yield writer
    ops.gate.set()
    await writer.aclose()


class Stalled:
    """A commit that is under way until ``release``: whatever is asked meanwhile shares the next one."""

    def __init__(self, spool: SpoolWriter, ops: FaultyOps) -> None:
        self._spool = spool
        self._ops = ops
        self._first: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Stalled:
        self._ops.gate.clear()
        self._first = asyncio.create_task(self._spool.remember("stall", "1"))
        await anyio.to_thread.run_sync(self._ops.at_gate.wait)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ops.gate.set()
        assert self._first is not None
        await self._first


async def take_lane(spool: SpoolWriter, lane: int) -> object:
    return await spool.claim([ClaimOrder(lane, 10)])


async def start(*coroutines: Coroutine[object, object, object]) -> list[asyncio.Task[object]]:
    """Begin them in this order; each has put its job when this returns."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    await anyio.lowlevel.checkpoint()
    return tasks


async def test_what_arrives_during_a_commit_shares_the_next_one(spool: SpoolWriter, ops: FaultyOps) -> None:
    async with Stalled(spool, ops):
        tasks = await start(*(put(spool) for _ in range(50)))
        before = ops.calls["commit"]
    await asyncio.gather(*tasks)
    assert ops.calls["commit"] - before <= 2, "the stalled commit, and one for all fifty"
    assert len(await take(spool)) == 50


async def test_twenty_sessions_need_few_commits(spool: SpoolWriter, ops: FaultyOps) -> None:
    ops.commit_takes = 0.01
    before = ops.calls["commit"]

    async def session() -> None:
        for _ in range(10):
            await put(spool)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(session)
    assert ops.calls["commit"] - before <= 20


async def test_a_lonely_message_waits_for_nobody(spool: SpoolWriter, ops: FaultyOps) -> None:
    before = ops.calls["commit"]
    with anyio.fail_after(1):
        await put(spool)
    assert ops.calls["commit"] == before + 1


async def test_outcomes_are_written_before_messages_that_came_earlier(spool: SpoolWriter, ops: FaultyOps) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    settled = settlement(spool, claimed, DONE)
    ops.spoil("commit", lambda: sqlite_error("SQLITE_FULL"), 2)
    ops.spoil("commit", lambda: sqlite_error("SQLITE_FULL"), 4)
    async with Stalled(spool, ops):
        accepting, recording = await start(put(spool), spool.record([settled]))
    # The shared commit found the disk full; of the single ones that follow, the first has room and the second has not.
    await recording
    with pytest.raises(SpoolFull):
        await accepting


async def test_a_piece_that_fails_takes_nothing_of_its_batch_with_it(spool: SpoolWriter, ops: FaultyOps) -> None:
    known = submission(spool.clock.now())
    await spool.accept(known)
    async with Stalled(spool, ops):
        before = ops.calls["commit"]
        first, again, last = await start(put(spool), spool.accept(known), put(spool))
    names = [await first, await last]
    with pytest.raises(DuplicateMessage):
        await again
    assert {claimed.message.id for claimed in await take(spool)} == {known.message.id, *names}
    assert ops.calls["commit"] - before <= 3, "stalled, shared, and the claim"


async def test_a_lane_made_by_a_piece_that_failed_is_made_again_by_the_next(spool: SpoolWriter, ops: FaultyOps) -> None:
    known = submission(spool.clock.now())
    await spool.accept(known)
    (claimed,) = await take(spool)
    settled = settlement(spool, claimed, Deferred(LATER.reply))
    elsewhere = submission(spool.clock.now(), Letter(lane=Lane("relay", "new.example")), known.message.id)
    async with Stalled(spool, ops):
        failing, working = await start(
            spool.accept(elsewhere, settles=settled), put(spool, Letter(lane=Lane("relay", "new.example")))
        )
    with pytest.raises(DuplicateMessage):
        await failing
    name = await working
    (found,) = await take(spool)
    assert (found.message.id, found.envelope.lane.key) == (name, "new.example")


async def test_all_or_nothing_of_an_accept_that_settles(spool: SpoolWriter) -> None:
    known = submission(spool.clock.now())
    await spool.accept(known)
    (claimed,) = await take(spool)
    with pytest.raises(DuplicateMessage):
        await spool.accept(known, settles=settlement(spool, claimed, DONE))
    await spool.record([settlement(spool, claimed, DONE)])
    assert await spool.next_wake() is None


async def test_a_caller_that_is_cancelled_has_its_message_accepted(spool: SpoolWriter, ops: FaultyOps) -> None:
    sent = submission(spool.clock.now())
    async with Stalled(spool, ops):
        (task,) = await start(spool.accept(sent))
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [claimed.message.id for claimed in await take(spool)] == [sent.message.id]


async def test_a_claim_whose_caller_is_cancelled_before_the_commit_is_taken_back(
    spool: SpoolWriter, ops: FaultyOps
) -> None:
    await put(spool)
    async with Stalled(spool, ops):
        (task,) = await start(take_lane(spool, 1))
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (claimed,) = await take(spool)
    assert claimed.envelope.state is State.INFLIGHT


async def test_a_claim_whose_caller_is_cancelled_after_the_answer_is_taken_back(spool: SpoolWriter) -> None:
    await put(spool)
    task = asyncio.create_task(take_lane(spool, 1))
    answered = threading.Event()
    real = spool._answer

    def answer_and_cancel(answers: list[object], made_due: bool) -> None:
        real(answers, made_due)  # type: ignore[arg-type]
        if not answered.is_set():
            answered.set()
            task.cancel()

    spool._answer = answer_and_cancel  # type: ignore[method-assign, assignment]
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await take(spool)) == 1


async def test_what_was_asked_before_the_end_is_done_and_after_it_refused(
    place: Layout, clock: HandClock, ops: FaultyOps
) -> None:
    spool = await SpoolWriter.open(place, clock, ops)
    async with Stalled(spool, ops):
        tasks = await start(put(spool), spool.aclose())
    name = await tasks[0]
    await tasks[1]
    with pytest.raises(SpoolUnavailable):
        await put(spool)
    again = await SpoolWriter.open(place, clock)
    assert [claimed.message.id for claimed in await take(again)] == [name]
    await again.aclose()


async def test_the_scheduler_is_told_of_what_may_be_due_and_of_nothing_else(spool: SpoolWriter) -> None:
    calls: list[int] = []
    spool.notify_accepted(lambda: calls.append(1))
    await put(spool)
    assert len(calls) == 1
    await spool.remember("fact", "1")
    (claimed,) = await take(spool)
    await spool.record([settlement(spool, claimed, DONE)])
    assert len(calls) == 1
