"""The scheduler and the operator: pause, hold, schedule, reload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from policy.config import Mbox, Relay, Squares, Waits
from scheduler.limits import Traffic
from spool.lane import Lane
from spool.layout import Layout, layout
from spool.selection import EVERYTHING
from tests.tools.in_flight import LOCAL, NO_ROUTE, SMARTHOST, config_of
from tests.tools.scheduling import PACE, World, by_mx, world
from tests.tools.spooled import HOUR, LATER, Letter, put

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Layout:
    return layout(str(tmp_path))


@pytest.fixture
async def house(place: Layout) -> AsyncIterator[World]:
    async with world(place) as house:
        yield house


async def test_paused_traffic_waits_and_the_other_flows(house: World) -> None:
    async with house.at_work():
        assert await house.runner.pause(Traffic.RELAY)
        await put(house.spool)
        await put(house.spool, Letter(lane=LOCAL, user="ann"))
        await house.until(lambda: house.tried)
        await anyio.sleep(3 * PACE.tick)
        assert house.routes == {"mbox:ann": 1}
        assert await house.runner.resume(Traffic.RELAY)
        await house.until(lambda: len(house.tried) == 2)


async def test_pausing_twice_is_noticed(house: World) -> None:
    async with house.at_work():
        assert not await house.runner.resume(Traffic.LOCAL)
        assert await house.runner.pause(Traffic.LOCAL)
        assert not await house.runner.pause(Traffic.LOCAL)
        assert house.runner.snapshot().paused == {"mda"}


async def test_a_pause_outlasts_a_restart(place: Layout) -> None:
    async with world(place) as before, before.at_work():
        await before.runner.pause(Traffic.RELAY)
    async with world(place) as after:
        await put(after.spool)
        async with after.at_work():
            await anyio.sleep(5 * PACE.tick)
            assert after.tried == []
            assert after.runner.snapshot().paused == {"mta"}


async def test_a_pause_takes_back_what_was_claimed_ahead(house: World) -> None:
    for _ in range(30):
        await put(house.spool)
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 5)
        await house.runner.pause(Traffic.RELAY)
        assert house.counters["scheduler.envelope.inflight"] == 5
        house.open_gate()
        await house.until(lambda: not house.running)
        await anyio.sleep(3 * PACE.tick)
        assert len(house.tried) == 5


async def test_a_paused_lane_waits_and_the_others_flow(house: World) -> None:
    await put(house.spool, by_mx("a.example"))
    (lane,) = await house.spool.lanes(0, 10)
    async with house.at_work():
        await house.settled()
        await house.runner.pause_lane(lane.id)
        await put(house.spool, by_mx("a.example"))
        await put(house.spool, by_mx("b.example"))
        await house.until(lambda: house.routes["mx:b.example"] == 1)
        await anyio.sleep(3 * PACE.tick)
        assert house.routes["mx:a.example"] == 1
        await house.runner.resume_lane(lane.id)
        await house.until(lambda: house.routes["mx:a.example"] == 2)


async def test_what_is_held_at_a_standstill_is_not_tried_although_it_was_claimed_ahead(house: World) -> None:
    for _ in range(30):
        await put(house.spool)
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 5)
        async with house.runner.standstill():
            assert await house.spool.hold(EVERYTHING) == 30
        house.open_gate()
        await house.settled()
        await anyio.sleep(3 * PACE.tick)
        assert len(house.tried) == 5
        await house.spool.release(EVERYTHING)
        await house.until(lambda: len(house.tried) == 30)


async def test_scheduled_mail_is_tried_at_once(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        await house.spool.schedule(EVERYTHING)
        await house.until(lambda: len(house.tried) == 2)


async def test_scheduling_opens_a_lane_for_a_probe_and_its_success_for_all(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    for _ in range(20):
        await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.outcome = lambda claimed, route: LATER
        await house.spool.schedule(EVERYTHING)
        await house.until(lambda: len(house.times_tried) == 20)


# -- reload -----------------------------------------------------------------------------------------------------------


async def test_mail_whose_action_comes_back_is_delivered(house: World) -> None:
    await put(house.spool, Letter(lane=Lane("gone", "")))
    async with house.at_work():
        await house.settled()
        house.config = config_of(Relay(name="gone", hosts=(SMARTHOST,)))
        await house.runner.reconfigured()
        await house.until(lambda: house.routes["smtp://mail.example.org:25"] == 1)


async def test_mail_for_a_smarthost_goes_by_mx_when_the_action_does(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    for domain in ("a.example", "b.example"):
        await put(house.spool, Letter(to=(f"bob@{domain}",)))
    async with house.at_work():
        await house.settled()
        house.config = config_of(Relay(name="relay"))
        await house.runner.reconfigured()
        await house.spool.schedule(EVERYTHING)
        await house.until(lambda: house.routes["mx:a.example"] and house.routes["mx:b.example"])


async def test_a_reload_while_nothing_ran_is_found_out_at_the_start(place: Layout) -> None:
    async with world(place) as before:
        before.outcome = lambda claimed, route: LATER
        await put(before.spool, by_mx("a.example"))
        async with before.at_work():
            await before.settled()
    async with world(place) as after:
        after.config = config_of(Relay(name="mx", hosts=(SMARTHOST,)))
        async with after.at_work():
            await after.spool.schedule(EVERYTHING)
            await after.until(lambda: after.routes["smtp://mail.example.org:25"] == 1)
        lanes = {status.lane: status.next_due for status in await after.spool.lanes(0, 10)}
    assert lanes[Lane("mx", "a.example")] is None


async def test_a_reload_during_a_session_leads_its_mail_on_when_it_comes_back(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    await put(house.spool, Letter(to=("bob@a.example",)))
    house.close_gate()
    async with house.at_work():
        await house.until(lambda: house.running == 1)
        house.config = config_of(Relay(name="relay"))
        await house.runner.reconfigured()
        house.open_gate()
        await house.settled()
        house.advance(HOUR)
        await house.until(lambda: house.routes["mx:a.example"] == 1)


async def test_relayed_mail_is_parked_when_its_action_delivers_to_users_now(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    await put(house.spool, by_mx("a.example"))
    async with house.at_work():
        await house.settled()
        house.config = config_of(Mbox(name="mx"))
        await house.runner.reconfigured()
        house.advance(HOUR)
        await house.settled()
        reasons = [status.last_error for status in await house.spool.lanes(0, 10) if status.next_due is not None]
    assert reasons == ['action "mx" delivers to users now, but this mail was queued for a relay']
    assert house.routes == {"mx:a.example": 1}


async def test_a_reload_that_changes_the_ttl_changes_deadlines(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.config = replace(house.config, queue_ttl=HOUR)
        await house.runner.reconfigured()
        house.advance(2 * HOUR)
        await house.until(lambda: house.counters["scheduler.envelope.expired"] == 1)


async def seconds_until_retry(house: World) -> int:
    """How long the one envelope waits now; then it has been tried again."""
    await house.settled()
    wakes, tried = await house.spool.next_wake(), len(house.tried)
    assert wakes is not None
    wait = wakes - house.spool.clock.now()
    house.advance(wait)
    await house.until(lambda: len(house.tried) > tried)
    return round(wait / 1000)


@pytest.mark.reliability("6 reports")
async def test_mail_is_retried_when_its_action_says_so_also_after_a_reload(house: World) -> None:
    house.outcome = lambda claimed, route: LATER
    house.config = config_of(Relay(name="relay", hosts=(SMARTHOST,), retry=Waits((60_000, 300_000))))
    await put(house.spool)
    async with house.at_work():
        assert [await seconds_until_retry(house) for _ in range(3)] == [60, 300, 300]
        house.config = config_of(Relay(name="relay", hosts=(SMARTHOST,), retry=Waits((30_000,))))
        await house.runner.reconfigured()
        assert [await seconds_until_retry(house) for _ in range(2)] == [300, 30]


@pytest.mark.reliability("6 reports")
async def test_a_dead_destination_is_asked_as_rarely_as_its_action_says(house: World) -> None:
    house.outcome = lambda claimed, route: NO_ROUTE
    house.config = config_of(Relay(name="relay", hosts=(SMARTHOST,), retry=Squares(HOUR)))
    await put(house.spool)
    async with house.at_work():
        assert await seconds_until_retry(house) == 3600


async def test_an_action_without_mail_in_any_lane_costs_a_reload_nothing(house: World) -> None:
    async with house.at_work():
        await house.settled()
        house.config = config_of(*house.config.actions.values(), Relay(name="new"))
        await house.runner.reconfigured()
        await put(house.spool, Letter(lane=Lane("new", "a.example")))
        await house.until(lambda: house.routes["mx:a.example"] == 1)
