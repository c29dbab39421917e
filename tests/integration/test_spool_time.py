"""Time that jumps, stands still and begins in 1970: nothing expires early, nothing waits for ever."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scheduler.retry import JITTER, LOCAL_RETRY, MAX_WAIT, Timetable
from spool.clock import MAX_GAP, MAX_UNMARKED, SpoolClock, TimeMark
from spool.ids import EnvelopeId
from spool.layout import layout
from spool.message import Claimed
from spool.outcome import Attempt
from spool.settlement import settle
from spool.state import Event, Kind
from spool.store import MARK_AFTER
from spool.writer import SpoolWriter
from tests.tools.scorecard import Cases
from tests.tools.spooled import DAY, HOUR, LATER, HandClock, Letter, put, take

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("3 time")]

YEAR = 365 * DAY
TTL = 4 * DAY
WARN = (4 * HOUR, DAY)
#: A wait is stretched by the jitter at most; a machine may then be asleep for a day.
STEP = 6 * HOUR
LONGEST = round(MAX_WAIT * (1 + JITTER)) + DAY


@dataclass
class Waiting:
    """What is known of an envelope for which every attempt fails."""

    #: When it was accepted, in true time.
    accepted: int
    #: When it was last tried, in the time that the machine was on.
    tried: int
    warned: int = 0


@dataclass
class Life:
    """A machine with a spool, for which time goes as the test says; ``true`` is what has really passed, in milliseconds."""

    folder: Path
    chance: random.Random
    clock: HandClock = field(default_factory=HandClock)
    true: int = 0
    #: What of that the machine was on, asleep or awake.
    on: int = 0
    #: What boots with a wrong clock may have added to spool time.
    gained: int = 0
    seen: int = 0
    crashes: int = 0
    has_crashed: bool = False
    waiting: dict[EnvelopeId, Waiting] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SpoolWriter]:
        """A daemon's spool, which is left as it stands when the daemon ends."""
        spool = await SpoolWriter.open(layout(str(self.folder / f"{self.crashes}")), self.clock)
        try:
            self.look(spool)
            yield spool
            self.look(spool)
            if self.chance.random() < 0.5:
                self.story.append("a crash")
                shutil.copytree(self.folder / f"{self.crashes}", self.folder / f"{self.crashes + 1}")
                self.crashes += 1
                self.has_crashed = True
        finally:
            await spool.aclose()

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(f"{what}, after {', '.join(self.story)}")

    def look(self, spool: SpoolWriter) -> None:
        now = spool.clock.now()
        # Of what was not recorded, a crash of the machine may cost what has passed since the last mark.
        lost = MARK_AFTER if self.has_crashed else 0
        self.must(now >= self.seen - lost, f"spool time went back by {(self.seen - now) / 1000:.3f} s")
        self.seen = now
        self.has_crashed = False

    # -- what happens to the clocks -----------------------------------------------------------------------------------

    def pass_time(self, milliseconds: int, *, wall: bool = True) -> None:
        self.true += milliseconds
        self.on += milliseconds
        self.clock.boot_ms += milliseconds
        if wall:
            self.clock.wall_s += milliseconds / 1000

    def jump(self) -> None:
        step = self.chance.choice([-YEAR, -HOUR, HOUR, YEAR])
        self.story.append(f"a jump of {step // HOUR} h")
        self.clock.wall_s += step / 1000

    def go_on(self) -> None:
        self.pass_time(self.chance.choice([60_000, HOUR]))

    def sleep(self) -> None:
        # The wall clock is read from the RTC at resume; it may be wrong.
        asleep = self.chance.choice([HOUR, DAY])
        self.story.append(f"{asleep // HOUR} h asleep")
        self.pass_time(asleep, wall=self.chance.random() < 0.7)

    def reboot(self) -> None:
        off = self.chance.choice([60_000, HOUR, 2 * DAY])
        self.true += off
        error = self.chance.choice([0, 0, -HOUR, HOUR, -YEAR, YEAR])
        before = self.clock.wall_s
        wall = 0.0 if self.chance.random() < 0.2 else before + (off + error) / 1000
        self.story.append(f"{off // 60_000} min off, then {wall - before:+.0f} s on the clock")
        # After a crash, what the clock said at the last mark may be older than its last jump.
        counted = MAX_GAP if self.has_crashed else max(0, min(int((wall - before) * 1000), MAX_GAP))
        self.gained += max(0, counted - off)
        self.clock.boot, self.clock.boot_ms, self.clock.wall_s = f"boot-{self.true}", 30_000, wall

    # -- what the daemon does -----------------------------------------------------------------------------------------

    async def accept(self, spool: SpoolWriter) -> None:
        name = await put(spool, Letter(ttl=TTL, warn_after=WARN[0]))
        self.waiting[EnvelopeId(f"{name}.1")] = Waiting(self.true, self.on)

    async def attempt_all(self, spool: SpoolWriter) -> None:
        """Try what is due, and fail."""
        for one in await take(spool):
            if one.envelope.kind.is_report:
                await spool.unclaim([one])
            else:
                await self.attempt(spool, one, spool.clock.now())

    async def attempt(self, spool: SpoolWriter, one: Claimed, now: int) -> None:
        due = Timetable(self.chance.random).next_try(one, LOCAL_RETRY, now)
        self.must(now < due <= now + LONGEST, "a next try that is too far away")
        done = settle(one, Attempt(one.envelope.id, now, now, "route", LATER), due, WARN)
        known = self.waiting[one.envelope.id]
        age = self.true - known.accepted + self.gained
        self.must(self.on - known.tried <= LONGEST, f"a try after {(self.on - known.tried) / HOUR:.1f} h")
        known.tried = self.on
        if done.report is Kind.DELAYED:
            self.must(age >= WARN[known.warned], "an early delay notice")
            known.warned += 1
        if done.event is Event.EXPIRED:
            self.must(age >= TTL, f"an expiry after {(self.true - known.accepted) / HOUR:.1f} h")
            del self.waiting[one.envelope.id]
        await spool.record([done])


async def run(life: Life) -> None:
    """A dozen daemons, one after the other; then time behaves, and everything ends by its deadline and one more wait."""
    for _ in range(12):
        async with life.running() as spool:
            await life.accept(spool)
            for _ in range(4):
                life.chance.choice([life.jump, life.sleep, life.go_on])()
                life.look(spool)
                await life.attempt_all(spool)
        if life.chance.random() < 0.7:
            life.reboot()
    async with life.running() as spool:
        for _ in range((TTL + 2 * LONGEST) // STEP):
            life.pass_time(STEP)
            await life.attempt_all(spool)
    life.must(not life.waiting, f"{len(life.waiting)} wait for ever")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where nothing waits for a disk: time is what is tried here."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


async def test_whatever_clocks_do_nothing_expires_early_and_nothing_waits_for_ever(
    memory: Path, cases: Cases, thorough: bool
) -> None:
    for seed in range(100 if thorough else 3):
        life = Life(memory / f"{seed}", random.Random(seed))
        await run(life)
        cases.tried(len(life.story))
        for wrong in life.wrong:
            cases.failed(f"seed {seed}: {wrong}")
        shutil.rmtree(life.folder)


# -- single rules -----------------------------------------------------------------------------------------------------


def marked(clock: HandClock) -> TimeMark:
    return SpoolClock(clock, None).mark()


def test_a_boot_with_a_clock_years_ahead_counts_as_a_day_off() -> None:
    mark = marked(HandClock())
    later = HandClock(boot_ms=1000, wall_s=mark.wall + YEAR / 1000, boot="boot-2")
    assert SpoolClock(later, mark).now() == mark.spool_ms + MAX_GAP


def test_spool_time_is_never_before_what_the_history_has_after_the_last_mark() -> None:
    mark = marked(HandClock())
    later = HandClock(boot_ms=1000, wall_s=0.0, boot="boot-2")
    assert SpoolClock(later, mark, mark.spool_ms + 59_000).now() == mark.spool_ms + 59_000


def test_a_time_in_the_history_that_cannot_be_moves_spool_time_by_minutes_at_most() -> None:
    mark = marked(HandClock())
    later = HandClock(boot_ms=1000, wall_s=mark.wall, boot="boot-2")
    assert SpoolClock(later, mark, mark.spool_ms + YEAR).now() == mark.spool_ms + MAX_UNMARKED


@pytest.mark.parametrize("wall", [0.0, 1_700_000_000.0 + 1e8], ids=["1970", "years ahead"])
def test_what_was_before_a_boot_is_told_by_the_clock_of_then(wall: float) -> None:
    mark = marked(HandClock())
    spool = SpoolClock(HandClock(boot_ms=1000, wall_s=wall, boot="boot-2"), mark)
    assert spool.wall_at(mark.spool_ms - HOUR) == mark.wall - 3600
    assert spool.wall_at(spool.now() + HOUR) == wall + 3600
