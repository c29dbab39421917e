"""A queue of a million costs nothing to have: neither time where mail passes, nor memory, nor room once it has gone.

What is bounded is the work: instructions of SQLite's virtual machine, which no load of the machine changes. The thorough
form has a million envelopes, for one dead destination and for a hundred thousand, and notes the times that were measured.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from spool import database, opening
from spool.clock import SystemClock
from spool.database import WAL_KEPT
from spool.files import SystemOps
from spool.filter import Filter, Trait
from spool.lane import ClaimOrder, Lane, LaneWish
from spool.layout import layout
from spool.listing import PAGE, QueueReader
from spool.opening import close_spool, open_spool
from spool.orphans import OrphanSweep
from spool.selected import LOOK
from spool.selection import EVERYTHING, Selection
from spool.tally import WINDOW
from spool.upkeep import CHECKPOINT_OCTETS, PAGES_KEPT, Upkeep
from spool.writer import SpoolWriter
from tests.tools.daemon import BIN, Daemon
from tests.tools.million import Multitude, build
from tests.tools.scorecard import Cases
from tests.tools.spooled import DAY, LATER, Letter, put, record

#: A million takes its time to be made, and to be removed.
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.anyio,
    pytest.mark.reliability("8 a million"),
    pytest.mark.xdist_group("million"),
]

LIVE = Lane("live", "live.example")
#: Instructions between two looks of the meter.
GRAIN = 50
#: Lines of a listing that are read.
MOST_LINES = 200_000
#: What SQLite may spend on an envelope that it looks at, with everything beside it.
INSTRUCTIONS_EACH = 1_000
CONFIGURATION = """
listen on "127.0.0.1" port $port
action "out" relay
match from any for any action "out"
"""


@dataclass
class Meter:
    """Instructions that a connection has worked off."""

    instructions: int = 0

    def tick(self) -> int:
        self.instructions += GRAIN
        return 0

    def attach(self, connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(self.tick, GRAIN)

    @contextmanager
    def most(self, bound: int, what: str) -> Iterator[None]:
        """Inside, no more than ``bound`` instructions are spent."""
        before = self.instructions
        yield
        assert self.instructions - before <= bound, what


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, thorough: bool) -> Iterator[Callable[[int], Path]]:
    """The folder of a spool with so many destinations per thousand envelopes, 0 for a single one; not to be changed."""
    envelopes = 1_000_000 if thorough else 20_000
    made: dict[int, Path] = {}

    def folder(destinations: int) -> Path:
        if destinations not in made:
            made[destinations] = tmp_path_factory.mktemp("million")
            build(made[destinations], Multitude(envelopes, max(1, destinations * envelopes // 1000)))
        return made[destinations]

    yield folder
    for path in made.values():
        shutil.rmtree(path)


@pytest.fixture(params=[0, 100], ids=["one destination", "many destinations"])
def root(request: pytest.FixtureRequest, built: Callable[[int], Path], tmp_path: Path) -> Iterator[Path]:
    """A copy of such a spool."""
    copy = tmp_path / "full"
    shutil.copytree(built(request.param), copy)
    yield copy
    shutil.rmtree(copy)


@pytest.fixture
def size(thorough: bool) -> int:
    return 1_000_000 if thorough else 20_000


def connection_of(spool: SpoolWriter) -> sqlite3.Connection:
    return spool._committer._store.connection


# -- nothing that mail waits for grows --------------------------------------------------------------------------------


def test_a_start_reads_the_same_few_rows_whatever_waits(
    root: Path, tmp_path: Path, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter()
    connect = database.connect

    def metered(path: str) -> sqlite3.Connection:
        connection = connect(path)
        meter.attach(connection)
        return connection

    monkeypatch.setattr(opening, "connect", metered)
    for folder in (tmp_path / "empty", root):
        for _ in range(2):
            spent, started = meter.instructions, time.monotonic()
            spool = open_spool(layout(str(folder)).spool_dir, SystemClock(), SystemOps())
            took = time.monotonic() - started
            spent = meter.instructions - spent
            # Left as a crash leaves it.
            spool.store.connection.close()
            spool.lock.release()
    assert spent <= 5_000
    cases.tried()
    cases.note(f"opened after a crash in {took * 1000:.0f} ms")


async def test_the_work_for_one_message_does_not_grow(root: Path, cases: Cases) -> None:
    spool = await SpoolWriter.open(layout(str(root)))
    meter = Meter()
    meter.attach(connection_of(spool))
    try:
        for _ in range(2):
            with meter.most(3_000, "accept"):
                await put(spool, Letter(lane=LIVE))
            wishes = [LaneWish(action, failing, 16) for action in ("live", "out") for failing in (False, True)]
            with meter.most(5_000, "looking for lanes"):
                pages = await spool.due_lanes(spool.clock.now(), wishes)
                await spool.next_wake(spool.clock.now())
                assert await spool.lane_actions() == ["live", "out"]
            (live,) = pages[0]
            with meter.most(3_000, "claim"):
                (claimed,) = await spool.claim([ClaimOrder(live.id, 10)])
            with meter.most(3_000, "record"):
                await record(spool, claimed, LATER, spool.clock.now() + DAY)
            dead = pages[3][0]
            with meter.most(20_000, "claim of ten that fail"):
                failing = await spool.claim([ClaimOrder(dead.id, 10)])
            with meter.most(20_000, "ten outcomes"):
                for one in failing:
                    await record(spool, one, LATER, spool.clock.now() + DAY)
            assert len(failing) == 10
            cases.tried(6)
    finally:
        await spool.aclose()


# -- what the operator asks -------------------------------------------------------------------------------------------


async def test_a_listing_comes_in_pages_and_keeps_no_old_state_of_the_tables(
    root: Path, size: int, cases: Cases
) -> None:
    spool = await SpoolWriter.open(layout(str(root)))
    try:
        with closing(QueueReader.beside(layout(str(root)).spool_dir, spool.clock)) as reader:
            meter = Meter()
            meter.attach(reader._connection)
            started = time.monotonic()
            entries = reader.entries()
            with meter.most(PAGE * INSTRUCTIONS_EACH, "the first entry"):
                next(entries)
            cases.note(f"first of {size} entries after {(time.monotonic() - started) * 1000:.0f} ms")
            # Its reader has gone for a coffee.
            for _ in range(20):
                await put(spool, Letter(lane=LIVE))
            busy, frames, written = connection_of(spool).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            assert (busy, written) == (0, frames)
            with meter.most((PAGE + 1) * INSTRUCTIONS_EACH, "the next page"):
                for _ in range(PAGE):
                    next(entries)
            cases.tried(2)
    finally:
        await spool.aclose()


def test_everything_is_counted_in_bounded_looks(root: Path, size: int, cases: Cases) -> None:
    destinations = {0: 1, 100: size // 10}[100 if "many" in os.environ["PYTEST_CURRENT_TEST"] else 0]
    with closing(QueueReader.stopped(layout(str(root)).spool_dir)) as reader:
        started = time.monotonic()
        by_domain = reader.tally(EVERYTHING, Trait.DOMAIN)
        took = time.monotonic() - started
        assert (by_domain.total, len(by_domain.by_value), by_domain.others) == (size, destinations, 0)
        cases.note(f"{size} envelopes counted by {destinations} domains in {took * 1000:.0f} ms")
        meter = Meter()
        meter.attach(reader._connection)
        for wanted in (Filter(), Filter(sender="list7@example.org", error="refused", action="out", older=DAY // 2)):
            for trait in (None, *Trait):
                before = meter.instructions
                reader.tally(Selection(filter=wanted), trait)
                assert (meter.instructions - before) / (size / WINDOW) <= WINDOW * 200
                cases.tried()
        started = time.monotonic()
        assert reader.counts().messages == size
        lanes = reader.lanes()
        assert sum(reader.waiting(lanes[0].id, lanes[-1].id).values()) > 0
        cases.note(f"figures and the first lanes in {(time.monotonic() - started) * 1000:.0f} ms")


@dataclass
class Accepts:
    """Messages that come one after the other while something else goes on."""

    spool: SpoolWriter
    wal: str
    #: Seconds each.
    times: list[float]
    longest_log: int = 0

    async def run(self) -> None:
        while True:
            started = time.monotonic()
            await put(self.spool, Letter(lane=LIVE))
            self.times.append(time.monotonic() - started)
            self.longest_log = max(self.longest_log, os.stat(self.wal).st_size)
            await asyncio.sleep(0.002)

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return sorted(self.times)[int(len(self.times) * 0.99)] * 1000


async def test_a_removal_by_filter_lets_mail_pass_and_gives_the_room_back(
    root: Path, size: int, cases: Cases, thorough: bool
) -> None:
    places = layout(str(root))
    before = os.stat(f"{places.spool_dir}/state.db").st_size
    spool = await SpoolWriter.open(places)
    meter = Meter()
    meter.attach(connection_of(spool))
    accepts = Accepts(spool, f"{places.spool_dir}/state.db-wal", [])
    # A whole million takes minutes, and is removed once.
    all_of_it = not thorough or "one" in os.environ["PYTEST_CURRENT_TEST"]
    wanted, expected = (Filter(action="out"), size) if all_of_it else (Filter(sender="list7@example.org"), size // 50)
    started = time.monotonic()
    sender = asyncio.create_task(accepts.run())
    try:
        assert await spool.remove(Selection(filter=wanted)) == expected
    finally:
        sender.cancel()
    took = time.monotonic() - started
    assert meter.instructions <= expected * 1_500 + size * 60 + len(accepts.times) * 3_000
    assert accepts.longest_log <= WAL_KEPT + 2 * CHECKPOINT_OCTETS
    cases.tried(expected)
    cases.note(
        f"{expected} of {size} removed in {took:.0f} s, accepts meanwhile p99 {accepts.p99:.0f} ms, log at most "
        f"{accepts.longest_log >> 20} MiB"
    )
    await spool.aclose()
    give_back(root)
    after = os.stat(f"{places.spool_dir}/state.db").st_size
    cases.note(f"the file shrank from {before >> 20} to {after >> 20} MiB")
    # A few that lie far apart leave whole pages to nobody.
    assert after < before / (2 if thorough else 1) or not all_of_it


def give_back(root: Path) -> None:
    """Let a spool that nobody asks for anything do its chores until there is nothing to give back."""
    opened = open_spool(layout(str(root)).spool_dir, SystemClock(), SystemOps())
    now = 0.0
    chores = Upkeep(opened.store, OrphanSweep(opened.store.bodies, opened.store.connection), lambda: now)
    steps = 0
    free = pages(opened.store.connection)
    while pages(opened.store.connection) > PAGES_KEPT:
        now = max(now, chores.due)
        chores.work()
        steps += 1
    assert steps <= free / 10 + 1_000, "many pages in a step"
    close_spool(opened)


def pages(connection: sqlite3.Connection) -> int:
    """Free ones."""
    count: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return count


async def test_a_few_among_many_are_found_in_small_looks(root: Path, size: int, cases: Cases) -> None:
    spool = await SpoolWriter.open(layout(str(root)))
    try:
        await put(spool, Letter(("bob@rare.example",), lane=LIVE))
        meter = Meter()
        meter.attach(connection_of(spool))
        started = time.monotonic()
        with meter.most((size + LOOK) * 60, "looking for one"):
            assert await spool.hold(Selection(filter=Filter(domain="rare.example"))) == 1
        cases.tried()
        cases.note(f"one of {size} held in {(time.monotonic() - started) * 1000:.0f} ms")
    finally:
        await spool.aclose()


# -- the daemon -------------------------------------------------------------------------------------------------------


def test_a_daemon_grows_little_and_answers_at_once(root: Path, tmp_path: Path, size: int, cases: Cases) -> None:
    kib: dict[Path, int] = {}
    for folder in (tmp_path / "none", root):
        (folder / "etc").mkdir(parents=True)
        # Nobody answers there: every destination is dead at once.
        (folder / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        started = time.monotonic()
        with Daemon(folder, CONFIGURATION) as daemon:
            ready = time.monotonic() - started
            first, lines = first_line(daemon, "show", "queue")
            for words in (["show", "lanes"], ["show", "stats"], ["show", "queue", "--by", "domain"]):
                answered, _ = first_line(daemon, *words)
                cases.note(f"{folder.name}: {' '.join(words)}: first line after {answered * 1000:.0f} ms")
            kib[folder] = peak_kib(daemon)
            cases.note(f"{folder.name}: ready after {ready * 1000:.0f} ms, first line after {first * 1000:.0f} ms")
            # What it tries now would take its time to end in peace.
            daemon.kill()
        cases.tried(4)
    grown = (kib[root] - kib[tmp_path / "none"]) >> 10
    cases.note(f"peak memory of the daemon grew by {grown} MiB")
    assert lines == min(size, MOST_LINES)
    assert grown < 64


def first_line(daemon: Daemon, *words: str) -> tuple[float, int]:
    """Seconds until ``smtpctl`` printed its first line, and how many there were."""
    started = time.monotonic()
    command = [str(BIN / "smtpctl"), "--root", str(daemon.root), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = int(bool(process.stdout.readline()))
        took = time.monotonic() - started
        lines += sum(1 for _ in islice(process.stdout, MOST_LINES - lines))
        process.stdout.close()
    assert process.returncode == 0
    return took, lines


def peak_kib(daemon: Daemon) -> int:
    """The most that was resident."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
