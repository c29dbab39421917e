"""The scheduler on a real spool: everything is tried when it should be, and what came of it is written down."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from policy.route import Route
from scheduler.pool import CLAIM_FROM_LANE
from spool.address import NULL_SENDER
from spool.lane import Lane
from spool.layout import layout
from spool.message import Batch, Claimed
from spool.outcome import Attempt, Damaged, Deferred, Outcome
from tests.tools.in_flight import LOCAL, NO_ROUTE
from tests.tools.scheduling import World, by_mx, world
from tests.tools.spooled import DAY, DONE, HOUR, LATER, NEVER, Letter, put

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[World]:
    async with world(layout(str(tmp_path))) as house:
        yield house


async def test_what_waits_at_the_start_is_delivered(house: World) -> None:
    await put(house.spool)
    async with house.at_work():
        await house.settled()
    assert await house.spool.next_wake() is None
    assert house.counters["scheduler.delivery.ok"] == 1


async def test_what_is_accepted_meanwhile_is_delivered_at_once(house: World) -> None:
    async with house.at_work():
        await house.settled()
        await put(house.spool)
        await house.until(lambda: house.tried)


async def test_recipients_of_one_message_go_together(house: World) -> None:
    await put(house.spool, Letter(to=("a@example.org", "b@example.org", "c@example.org")))
    async with house.at_work():
        await house.settled()
    assert house.routes == {"smtp://mail.example.org:25": 3}
    assert house.peak == 1


async def test_a_user_gets_several_messages_at_once(house: World) -> None:
    for _ in range(10):
        await put(house.spool, Letter(lane=LOCAL, user="ann"))
    async with house.at_work():
        await house.settled()
    assert (house.routes, house.peak) == ({"mbox:ann": 10}, 1)


async def test_a_deferred_envelope_is_tried_again_when_it_is_due_and_not_before(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.advance(399_000)
        await house.settled()
        assert len(house.tried) == 1
        house.advance(1_000)
        await house.until(lambda: len(house.tried) == 2)
    assert house.counters["scheduler.delivery.tempfail"] == 2


async def test_a_smarthost_gets_as_many_sessions_as_it_earns(house: World) -> None:
    def close_gate_in_time(_claimed: Claimed, _route: Route) -> Outcome:
        # While mail is left: a route without any starts anew with few sessions. Whoever polls may come too late for that.
        if next(ended) == 60:
            house.close_gate()
        return DONE

    ended = count(1)
    house.outcome = close_gate_in_time
    for _ in range(100):
        await put(house.spool)
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 5)
        house.open_gate()
        await house.until(lambda: not house.gate.is_set() and house.running == 20)
        house.open_gate()
        await house.settled()
    assert house.peak == 20


async def test_a_huge_slow_lane_delays_nobody(house: World) -> None:
    for _ in range(3 * CLAIM_FROM_LANE):
        await put(house.spool, by_mx("slow.example"))
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 5)
        await put(house.spool, by_mx("quick.example"))
        await house.until(lambda: house.routes["mx:quick.example"] == 1)
        house.open_gate()


async def test_an_error_of_delivery_itself_is_temporary(
    house: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(batch: Batch, route: Route) -> list[Attempt | Damaged]:
        raise ZeroDivisionError

    monkeypatch.setattr(house, "deliver", broken)
    house.__post_init__()
    await put(house.spool)
    async with house.at_work():
        await house.settled()
    assert house.counters["scheduler.delivery.tempfail"] == 1
    assert "ZeroDivisionError" in caplog.text
    assert await house.spool.next_wake() == house.spool.clock.now() + 400_000


async def test_a_damaged_body_is_set_aside_and_not_tried_again(house: World) -> None:
    house.outcome = lambda claimed, route: Damaged(claimed.envelope.id, "its octets are not those that were accepted")
    await put(house.spool, Letter(sender=NULL_SENDER))
    async with house.at_work():
        await house.settled()
        house.advance(DAY)
        await house.settled()
    assert len(house.tried) == 1
    assert house.counters["scheduler.delivery.damaged"] == 1
    assert await house.spool.next_wake() is None


async def test_time_that_jumps_strands_nothing(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.outcome = lambda claimed, route: NEVER
        house.clock.boot_ms += 3 * DAY
        await house.until(lambda: len(house.tried) == 2)


# -- lanes whose route fails ------------------------------------------------------------------------------------------


async def test_a_failing_lane_is_probed_by_one_envelope(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    for _ in range(50):
        await put(house.spool)
    async with house.at_work():
        await house.settled()
        tried_first = len(house.tried)
        for pause in (16_000, 61_000, 136_000):
            house.advance(pause)
            await house.settled()
    assert tried_first <= 5
    assert len(house.tried) == tried_first + 3


async def test_when_a_probe_succeeds_all_the_others_follow_at_once(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    for _ in range(50):
        await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.outcome = lambda claimed, route: LATER
        house.advance(16_000)
        await house.settled()
    assert set(house.times_tried.values()) == {1, 2}
    assert len(house.times_tried) == 50


async def test_when_several_sessions_fail_at_once_the_lane_fails_once(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    for _ in range(50):
        await put(house.spool)
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 5)
        house.open_gate()
        await house.settled()
        (lane,) = await house.spool.lanes(0, 10)
    assert lane.failures == 1
    assert lane.not_before == house.spool.clock.now() + 15_000
    assert lane.last_error == str(NO_ROUTE.reply)


async def test_a_failing_lane_does_not_hold_up_a_working_one(house: World) -> None:
    def outcome(claimed: object, route: Route) -> Outcome:
        return NO_ROUTE if "dead" in route.name else LATER

    house.outcome = outcome
    for number in range(40):
        await put(house.spool, by_mx(f"dead{number}.example"))
    async with house.at_work():
        await house.settled()
        house.advance(HOUR)
        house.close_gate()
        await house.until(lambda: house.running == 25)
        await put(house.spool, by_mx("alive.example"))
        await house.until(lambda: house.routes["mx:alive.example"] == 1)
        assert house.running == 26
        house.open_gate()


async def test_nothing_expires_before_its_lane_has_failed_after_the_deadline(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    for _ in range(20):
        await put(house.spool, Letter(ttl=HOUR))
    async with house.at_work():
        await house.settled()
        house.outcome = lambda claimed, route: LATER
        house.advance(2 * HOUR)
        await house.settled()
        assert set(house.times_tried.values()) == {1, 2}
        assert house.counters["scheduler.envelope.expired"] == 20


async def test_a_probe_after_the_deadline_ends_all_that_wait_behind_it(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    for _ in range(20):
        await put(house.spool, Letter(ttl=HOUR))
    async with house.at_work():
        await house.settled()
        tried = len(house.tried)
        house.advance(2 * HOUR)
        await house.until(lambda: house.counters["scheduler.envelope.expired"] == 20)
        house.advance(2_000)
        await house.until(lambda: len(house.reports) == 20)
    assert len(house.tried) - tried <= 1 + 20


async def test_senders_of_what_waits_in_a_failing_lane_are_warned_once(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    for _ in range(5):
        await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.advance(5 * HOUR)
        await house.settled()
        house.advance(2_000)
        await house.until(lambda: len(house.reports) == 5)
        house.outcome = lambda claimed, route: Deferred(NO_ROUTE.reply, stage=NO_ROUTE.stage)
        house.advance(5 * HOUR)
        await house.settled()
    assert [lines[0].event.value for _, lines in house.reports] == ["deferred"] * 5


async def test_a_lane_that_is_closed_and_opened_says_so_in_the_log(
    house: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scheduler")
    house.outcome = lambda claimed, route: NO_ROUTE
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.outcome = lambda claimed, route: LATER
        house.advance(20_000)
        await house.settled()
    assert caplog.messages == [
        "smtp-out: Disabling route smtp://mail.example.org:25 for 15s: 451 4.4.1 connection refused",
        "smtp-out: Enabling route smtp://mail.example.org:25",
    ]


# -- lanes that lead nowhere ------------------------------------------------------------------------------------------


async def test_mail_whose_action_is_gone_waits_with_a_reason(house: World) -> None:
    await put(house.spool, Letter(lane=Lane("gone", "")))
    async with house.at_work():
        await house.settled()
        (lane,) = await house.spool.lanes(0, 10)
    assert lane.parked
    assert lane.last_error == 'no action "gone" in smtpd.conf'
    assert house.tried == []
