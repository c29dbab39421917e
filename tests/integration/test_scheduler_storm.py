"""Routes that come and go, a disk that fills, an operator who pauses: still each envelope ends once."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from policy.route import Route
from scheduler.limits import Traffic
from spool.ids import EnvelopeId
from spool.lane import Lane
from spool.layout import layout
from spool.message import Claimed
from spool.outcome import Delivered, Failed, Outcome
from spool.selection import EVERYTHING
from tests.tools.in_flight import NO_ROUTE
from tests.tools.scheduling import PACE, FullDisk, World, by_mx, world
from tests.tools.spooled import DONE, HOUR, LATER, NEVER, Letter, put

pytestmark = pytest.mark.anyio

MESSAGES = 100
MOODS: tuple[Outcome, ...] = (DONE, LATER, NO_ROUTE, NO_ROUTE, NEVER)


class Weather:
    """Deliveries with a will of their own, and what they saw."""

    def __init__(self, house: World, disk: FullDisk, seed: int) -> None:
        self.house = house
        self.disk = disk
        self.chance = random.Random(seed)
        self.ended: dict[EnvelopeId, Outcome] = {}
        self.tried_after_their_end: list[EnvelopeId] = []
        self.is_calm = False

    def outcome(self, claimed: Claimed, route: Route) -> Outcome:
        name = claimed.envelope.id
        if name in self.ended:
            self.tried_after_their_end.append(name)
        found: Outcome = DONE if self.is_calm else self.chance.choice(MOODS)
        if isinstance(found, Delivered | Failed):
            self.ended[name] = found
        return found

    async def rage(self) -> None:
        """Thirty turns of bad luck."""
        deeds = (self._fill_disk, self._pause, self._hold, self._send, self._pass_time, self._schedule)
        for _ in range(30):
            await self.chance.choice(deeds)()
            await anyio.sleep(self.chance.random() * 0.01)

    async def calm(self) -> None:
        """All is well again, and time passes until nothing waits."""
        self.is_calm = True
        while await self.house.spool.next_wake() is not None:
            self.house.advance(HOUR)
            await self.house.settled()

    async def _fill_disk(self) -> None:
        self.disk.is_full = True
        await anyio.sleep(0.02)
        self.disk.is_full = False

    async def _pause(self) -> None:
        await self.house.runner.pause(Traffic.RELAY)
        await anyio.sleep(0.01)
        await self.house.runner.resume(Traffic.RELAY)

    async def _hold(self) -> None:
        async with self.house.runner.standstill():
            await self.house.spool.hold(EVERYTHING)
        await self.house.spool.release(EVERYTHING)

    async def _send(self) -> None:
        for _ in range(MESSAGES // 10):
            await put(self.house.spool, self.letter())

    async def _pass_time(self) -> None:
        self.house.advance(self.chance.choice([1_000, 20_000, HOUR]))

    async def _schedule(self) -> None:
        await self.house.spool.schedule(EVERYTHING)

    def letter(self) -> Letter:
        """One for any of the ways."""
        number = self.chance.randrange(12)
        if number < 3:
            return Letter(to=("a@example.org", "b@example.org"))
        if number < 5:
            return Letter(to=("ann@box.example.net",), lane=Lane("local", "ann"), user="ann")
        return by_mx(f"d{number}.example")


@pytest.mark.parametrize("seed", range(3))
async def test_in_any_weather_every_envelope_ends_once(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.recorder.PAUSE", PACE.tick)
    monkeypatch.setattr("scheduler.runner.PAUSE", PACE.tick)
    disk = FullDisk()
    async with world(layout(str(tmp_path)), ops=disk) as house:
        weather = Weather(house, disk, seed)
        house.outcome = weather.outcome
        for _ in range(MESSAGES):
            await put(house.spool, weather.letter())
        async with house.at_work():
            await weather.rage()
            await weather.calm()
        accepted = {item.envelope.id for item in house.tried}
        assert weather.ended.keys() == accepted
        assert weather.tried_after_their_end == []
        assert len(accepted) > MESSAGES
        assert house.counters["scheduler.envelope.inflight"] == 0
        assert house.counters["scheduler.delivery.damaged"] == 0
