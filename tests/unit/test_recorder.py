"""Outcomes that the spool refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import anyio
import pytest

from scheduler.limits import ROOM, Traffic
from scheduler.pool import Pool
from scheduler.recorder import Ended, Recorder
from scheduler.targets import Targets
from spool.door import SpoolDoor
from spool.errors import SpoolUnavailable
from spool.ids import EnvelopeId
from spool.lane import DueLane, LaneVerdict
from spool.message import Claimed
from spool.outcome import Damaged
from spool.settlement import Settlement, settle
from tests.tools.in_flight import Claim, attempt, claimed, config_of
from tests.tools.spooled import DONE, RELAY

pytestmark = pytest.mark.anyio


@dataclass
class PickySpool:
    """Refuses to record some envelopes, and is away for a while."""

    refused: set[str] = field(default_factory=set)
    away: int = 0
    recorded: list[str] = field(default_factory=list)
    aside: dict[str, str] = field(default_factory=dict)
    returned: list[str] = field(default_factory=list)

    async def record(self, settlements: Sequence[Settlement], lanes: Sequence[LaneVerdict] = ()) -> None:
        names = [str(settlement.attempt.envelope) for settlement in settlements]
        if self.away:
            self.away -= 1
            raise SpoolUnavailable(5, "locked by another")
        if self.refused & set(names):
            raise ValueError("a mistake of ours")
        self.recorded += names

    async def set_aside(self, envelope: EnvelopeId, reason: str, *, was_sent: bool = False) -> None:
        self.aside[envelope] = reason

    async def unclaim(self, claimed: Sequence[Claimed]) -> None:
        self.returned += [one.envelope.id for one in claimed]


class Desk:
    """A recorder, and a pool with three envelopes in hand."""

    def __init__(self) -> None:
        self.spool = PickySpool()
        self.told: list[Ended] = []
        self.recorder = Recorder(cast(SpoolDoor, self.spool), self.told.append)
        self.pool = Pool(ROOM[Traffic.RELAY], Targets(config_of))
        self.pool.serve(["relay"])
        self.pool.see(DueLane(1, RELAY, 0, 0))
        (order,) = self.pool.orders()
        self.items = [claimed(Claim(number)) for number in (1, 2, 3)]
        self.pool.take(order, self.items)

    def put_all(self) -> list[str]:
        """All three are delivered; their names."""
        while (job := self.pool.next_job()) is not None:
            self.pool.session_ended(job)
            (item,) = job.batch.items
            done = settle(item, replace(attempt(DONE), envelope=item.envelope.id), 0, ())
            self.recorder.put(Ended(self.pool, job.lane, [job.batch], [done], load=job.load))
        return [item.envelope.id for item in self.items]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_what_ended_together_is_recorded_together(desk: Desk) -> None:
    names = desk.put_all()
    await desk.recorder.flush()
    assert desk.spool.recorded == names
    assert len(desk.told) == 3
    assert (desk.pool.in_flight, desk.pool.lane(1)) == (0, None)


async def test_a_refused_outcome_is_set_aside_and_the_others_are_recorded(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    names = desk.put_all()
    desk.spool.refused = {names[1]}
    await desk.recorder.flush()
    assert desk.spool.recorded == [names[0], names[2]]
    assert desk.spool.aside == {names[1]: f"outcome not recorded: {DONE.reply}"}
    assert f"the outcome of {names[1]} cannot be recorded" in caplog.text
    assert desk.pool.in_flight == 0


async def test_an_unavailable_spool_is_asked_until_it_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.recorder.PAUSE", 0.01)
    names = desk.put_all()
    desk.spool.away = 3
    await desk.recorder.flush()
    assert desk.spool.recorded == names
    assert desk.recorder.trouble == ""


async def test_while_the_spool_is_unavailable_the_recorder_says_why(desk: Desk) -> None:
    desk.put_all()
    desk.spool.away = 1000
    async with anyio.create_task_group() as group:
        group.start_soon(desk.recorder.run)
        with anyio.fail_after(5):
            await desk.recorder.idle()
        assert "locked by another" in desk.recorder.trouble
        with anyio.move_on_after(0.02) as waited:
            await desk.recorder.ready()
        assert waited.cancelled_caught
        group.cancel_scope.cancel()


async def test_what_was_never_tried_goes_back(desk: Desk) -> None:
    lane = desk.pool.lane(1)
    assert lane is not None
    batches = desk.pool.withdraw(lane)
    desk.recorder.put(Ended(desk.pool, lane, batches, returned=desk.items))
    await desk.recorder.flush()
    assert desk.spool.returned == [item.envelope.id for item in desk.items]
    assert desk.pool.in_flight == 0


async def test_what_is_damaged_is_set_aside(desk: Desk) -> None:
    lane = desk.pool.lane(1)
    assert lane is not None
    damaged = Damaged(desk.items[0].envelope.id, "short")
    desk.recorder.put(Ended(desk.pool, lane, desk.pool.withdraw(lane), damaged=[damaged]))
    await desk.recorder.flush()
    assert desk.spool.aside == {damaged.envelope: "short"}
