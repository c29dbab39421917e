"""The power goes at any moment: what was acknowledged is there and whole, whatever became of what was not fsynced.

All that a process does to its spool is recorded once; then a beginning of the record is replayed on a disk that keeps what
was fsynced and, of the rest, nothing, all, or some of it, and the next start looks at what is left.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest

from tests.tools.kept import Told, assert_kept, look
from tests.tools.power import Disk, Event, Said, record
from tests.tools.scorecard import Cases

pytestmark = [
    pytest.mark.reliability("1 power loss"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
#: Power cuts of each life, and when many are asked for; different moments and different luck.
CUTS, MANY_CUTS = 40, 1200


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: only the recorded fsyncs count."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="mailspool-power-", dir=parent))
    yield path
    shutil.rmtree(path)


def life(folder: Path, *arguments: str) -> list[Event]:
    command = [sys.executable, "-m", "tests.tools.spool_child", str(folder), "live", *(arguments or ("never", "1"))]
    return record(command, folder, folder.with_suffix(".trace"), ROOT)


def told_by(lines: Sequence[str]) -> Told:
    told = Told()
    for line in lines:
        told.add(line)
    return told


async def cut(disk: Disk, place: Path, seed: int, before: Told) -> str:
    """What is wrong after one power cut; empty when nothing is."""
    disk.after_a_cut(place, seed)
    told = told_by(disk.said)
    told.add_all(before)
    try:
        assert_kept(told, await look(place), deaths=2 if before.words else 1)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(place)
    return ""


async def cut_often(disk: Disk, events: Sequence[Event], place: Path, cuts: int, before: Told) -> list[str]:
    """Cut the power so many times, at moments spread over all events; what was wrong."""
    rng = random.Random(cuts)
    moments = sorted(rng.randrange(len(events) + 1) for _ in range(cuts))
    wrong, at = [], 0
    for seed, moment in enumerate(moments):
        for event in events[at:moment]:
            disk.replay(event)
        at = moment
        if trouble := await cut(disk, place, seed, before):
            wrong.append(f"event {moment} of {len(events)}, luck {seed}: {trouble}")
    return wrong


def test_a_power_cut_in_the_life_of_a_new_spool_loses_nothing(memory: Path, thorough: bool, cases: Cases) -> None:
    events = life(memory / "spool")
    cuts = MANY_CUTS if thorough else CUTS
    wrong = anyio.run(cut_often, Disk(memory / "spool"), events, memory / "after", cuts, Told())
    cases.tried(cuts)
    for one in wrong:
        cases.failed(one)


def test_a_power_cut_in_the_recovery_and_life_after_a_crash_loses_nothing(
    memory: Path, thorough: bool, cases: Cases
) -> None:
    before = told_by([event.line for event in life(memory / "spool", "after-commit", "14") if isinstance(event, Said)])
    disk = Disk.holding(memory / "spool")
    events = life(memory / "spool")
    cuts = MANY_CUTS if thorough else CUTS
    wrong = anyio.run(cut_often, disk, events, memory / "after", cuts, before)
    cases.tried(cuts)
    for one in wrong:
        cases.failed(one)


def test_whatever_a_cut_leaves_of_a_spool_that_is_being_made_can_be_opened(
    memory: Path, thorough: bool, cases: Cases
) -> None:
    events = life(memory / "spool")
    beginning = events[: events.index(Said("opened")) + 1]
    disk = Disk(memory / "spool")
    for number, event in enumerate(beginning):
        disk.replay(event)
        for luck in range(number % 4, 16 if thorough else 4, 1 if thorough else 4):
            cases.tried()
            if wrong := anyio.run(cut, disk, memory / "after", luck, Told()):
                cases.failed(f"event {number}, luck {luck}: {wrong}")


def test_a_disk_that_lies_about_fsync_is_found_out(memory: Path) -> None:
    events = life(memory / "spool")
    wrong = anyio.run(cut_often, Disk(memory / "spool", honest=False), events, memory / "after", 12, Told())
    assert wrong
