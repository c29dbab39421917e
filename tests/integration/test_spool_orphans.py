"""Files of large bodies that no row names, and the chores of the spool's thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from spool import upkeep
from spool.bodies import SMALL_BODY, BodyFiles, BodyWriter
from spool.clock import SpoolClock, TimeMark
from spool.errors import SpoolUnavailable
from spool.ids import MessageId, new_message_id
from spool.instants import Instant
from spool.intake import accept
from spool.lane import Lane
from spool.listing import QueueReader
from spool.opening import OpenSpool, close_spool, last_mark, open_spool
from spool.orphans import OrphanSweep
from spool.store import Transaction
from spool.upkeep import Upkeep
from tests.tools.faults import FaultyOps, broken, files_in, sqlite_error
from tests.tools.spooled import DAY, HandClock, Letter, submission

LARGE = b"x" * (SMALL_BODY + 1)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ops() -> FaultyOps:
    return FaultyOps()


@pytest.fixture
def opened(tmp_path: Path, clock: HandClock, ops: FaultyOps) -> Iterator[OpenSpool]:
    spool = open_spool(str(tmp_path), clock, ops)
    yield spool
    close_spool(spool)


def sweep(opened: OpenSpool, spool_dir: Path) -> OrphanSweep:
    walk = OrphanSweep(opened.store.bodies, opened.store.connection)
    while walk.step():
        pass
    return walk


def write(bodies: BodyFiles) -> BodyWriter:
    writer = bodies.writer(new_message_id(1))
    writer.write(LARGE)
    return writer


def take_in(opened: OpenSpool, letter: Letter, name: MessageId | None = None) -> None:
    what = submission(opened.store.clock.now(), letter, name)
    (result,) = opened.store.run([lambda tx: accept(tx, what)]).results
    assert result is None


def leave_orphan(opened: OpenSpool) -> str:
    """What a process that was killed before its commit leaves behind."""
    name = new_message_id(1)
    Path(opened.store.bodies.path(name)).write_bytes(LARGE)
    return name


def test_a_file_that_no_row_names_is_moved_aside_and_kept(opened: OpenSpool, tmp_path: Path) -> None:
    name = leave_orphan(opened)
    assert sweep(opened, tmp_path).moved == 1
    assert (tmp_path / "orphan" / name).read_bytes() == LARGE
    assert files_in(str(tmp_path / "msg")) == []


def test_a_body_that_is_being_written_is_no_orphan(opened: OpenSpool, tmp_path: Path) -> None:
    writer = write(opened.store.bodies)
    assert sweep(opened, tmp_path).moved == 0
    writer.abandon()


def test_the_body_of_a_message_is_no_orphan(opened: OpenSpool, tmp_path: Path) -> None:
    writer = opened.store.bodies.writer(name := new_message_id(1))
    writer.write(LARGE)
    stored = writer.finish()
    take_in(opened, Letter(body=stored), name)
    opened.store.bodies.settle(name)
    assert sweep(opened, tmp_path).moved == 0
    assert files_in(str(tmp_path / "msg")) == [name]


def test_an_abandoned_body_leaves_nothing(opened: OpenSpool, tmp_path: Path) -> None:
    writer = write(opened.store.bodies)
    writer.abandon()
    writer.abandon()
    assert files_in(str(tmp_path / "msg")) == []


def test_two_sessions_cannot_write_one_body(opened: OpenSpool) -> None:
    writer = write(opened.store.bodies)
    with pytest.raises(SpoolUnavailable):
        opened.store.bodies.writer(writer.finish().name)  # type: ignore[arg-type]
    writer.abandon()


def test_a_body_handed_to_a_commit_cannot_be_taken_back(opened: OpenSpool, tmp_path: Path) -> None:
    writer = write(opened.store.bodies)
    name = writer.finish().name
    opened.store.bodies.hand_over(name)
    writer.abandon()
    assert files_in(str(tmp_path / "msg")) == [name]
    opened.store.bodies.discard(name)


def test_a_body_that_cannot_be_unlinked_is_swept_after_the_next_start(
    opened: OpenSpool, ops: FaultyOps, tmp_path: Path
) -> None:
    name = leave_orphan(opened)
    ops.spoil("unlink", broken)
    opened.store.bodies.remove(name)
    assert sweep(opened, tmp_path).moved == 1


# -- chores ---------------------------------------------------------------------------------------------------------


class Watch:
    """The chores, and a monotonic clock that jumps to each of them."""

    def __init__(self, opened: OpenSpool, spool_dir: Path) -> None:
        self.now = 0.0
        sweep = OrphanSweep(opened.store.bodies, opened.store.connection)
        self.chores = Upkeep(opened.store, sweep, lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.chores.due <= end:
            self.now = max(self.now, self.chores.due)
            self.chores.work()
        self.now = end


@pytest.fixture
def watch(opened: OpenSpool, tmp_path: Path) -> Watch:
    return Watch(opened, tmp_path)


def remember(opened: OpenSpool, attempts: int, at: int) -> None:
    def piece(tx: Transaction) -> None:
        for _ in range(attempts):
            tx.execute(
                "INSERT INTO attempt (message, ordinal, sender, recipient, destination, event, started, ended, route,"
                " outcome, code, status, text, remote, stage, dsn_passed_on)"
                " VALUES ('m', 1, '', '', '', 0, 0, ?, '', 0, 250, '', '', '', 0, 0)",
                (at,),
            )

    opened.store.run([piece])


def attempts(opened: OpenSpool) -> int:
    count: int = opened.store.connection.execute("SELECT count(*) FROM attempt").fetchone()[0]
    return count


def test_the_history_is_kept_seven_days(
    opened: OpenSpool, watch: Watch, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(opened, 2 * upkeep.PRUNE_STEP + 1, opened.store.clock.now())
    clock.advance(6 * DAY)
    remember(opened, 3, opened.store.clock.now())
    watch.pass_time(200)
    assert attempts(opened) == 2 * upkeep.PRUNE_STEP + 4
    clock.advance(DAY + 1)
    watch.pass_time(200)
    assert attempts(opened) == 3


@pytest.mark.reliability("3 time")
def test_a_boot_with_a_clock_a_year_ahead_costs_no_history_of_the_last_days(tmp_path: Path, ops: FaultyOps) -> None:
    clock = HandClock()
    opened = open_spool(str(tmp_path), clock, ops)
    remember(opened, 4, opened.store.clock.now())
    clock.advance(5 * DAY)
    close_spool(opened)
    opened = open_spool(str(tmp_path), HandClock(1000, clock.wall_s + 366 * DAY / 1000, "boot-2"), ops)
    Watch(opened, tmp_path).pass_time(200)
    assert attempts(opened) == 4
    close_spool(opened)


def test_the_history_has_a_bound_whatever_its_age(
    opened: OpenSpool, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "HISTORY_ROWS", 10)
    remember(opened, 25, opened.store.clock.now())
    watch.pass_time(200)
    assert attempts(opened) == 10


def test_a_lane_that_nothing_is_known_of_goes(opened: OpenSpool, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    take_in(opened, Letter(lane=Lane("relay", "kept.example")))

    def make_others(tx: Transaction) -> None:
        tx.lane_id(Lane("relay", "empty.example"))
        failing = tx.lane_id(Lane("relay", "failing.example"))
        paused = tx.lane_id(Lane("relay", "paused.example"))
        tx.execute("UPDATE lane SET failures = 1 WHERE id = ?", (failing,))
        tx.execute("UPDATE lane SET paused = 1 WHERE id = ?", (paused,))

    opened.store.run([make_others])
    watch.pass_time(200)
    rows = opened.store.connection.execute("SELECT key FROM lane ORDER BY key").fetchall()
    assert [key for (key,) in rows] == ["failing.example", "kept.example", "paused.example"]
    take_in(opened, Letter(lane=Lane("relay", "empty.example")))


def test_free_pages_are_given_back_but_for_a_reserve(
    opened: OpenSpool, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PAGES_KEPT", 20)
    for _ in range(40):
        take_in(opened, Letter(body=b"x" * 60_000))
    opened.store.run([lambda tx: tx.execute("DELETE FROM envelope"), lambda tx: tx.execute("DELETE FROM message")])
    # Some pages in each step, of which there are fifty a second.
    watch.pass_time(upkeep.PRUNE_EVERY + 1)
    free = opened.store.connection.execute("PRAGMA freelist_count").fetchone()[0]
    assert free <= 20


def test_a_time_mark_is_kept_every_minute(
    opened: OpenSpool, watch: Watch, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(DAY)
    watch.pass_time(upkeep.MARK_EVERY + 1)
    mark = last_mark(opened.store.connection)
    assert isinstance(mark, TimeMark)
    assert SpoolClock(clock, mark).now() == opened.store.clock.now() == mark.spool_ms


def test_the_log_is_written_back_when_its_file_is_long_whatever_was_estimated(
    opened: OpenSpool, ops: FaultyOps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WAL_KEPT", 500_000)
    opened.store.connection.execute("PRAGMA journal_size_limit = 500000")
    watch = Watch(opened, tmp_path)

    def written_back() -> int:
        watch.chores.wrote(0, 0)
        watch.pass_time(0)
        return ops.calls["after-checkpoint"]

    assert written_back() == 0
    for times in range(1, 6):
        for _ in range(10):
            take_in(opened, Letter(body=b"x" * 60_000))
        assert written_back() == times
        assert written_back() == times, "its file is as long until the next commit begins it anew"
        take_in(opened, Letter())
        assert written_back() == times


def test_the_log_is_written_back_when_it_has_grown(
    opened: OpenSpool, watch: Watch, ops: FaultyOps, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.chores.wrote(upkeep.CHECKPOINT_OCTETS, 1)
    watch.pass_time(0)
    assert ops.calls["after-checkpoint"] == 1


def test_an_orphan_that_cannot_be_moved_stops_no_other(opened: OpenSpool, ops: FaultyOps, tmp_path: Path) -> None:
    names = {leave_orphan(opened) for _ in range(3)}
    ops.spoil(Instant.BEFORE_ORPHAN, broken)
    assert sweep(opened, tmp_path).moved == 2
    assert len(names & set(files_in(str(tmp_path / "msg")))) == 1


def test_a_chore_that_fails_is_tried_again(opened: OpenSpool, watch: Watch, ops: FaultyOps, clock: HandClock) -> None:
    watch.pass_time(upkeep.MARK_EVERY - 1)
    clock.advance(50_000)
    ops.spoil("commit", lambda: sqlite_error("SQLITE_FULL"), times=2)
    watch.pass_time(2)
    assert last_mark(opened.store.connection) != opened.store.clock.mark()
    watch.pass_time(upkeep.TRY_AGAIN)
    assert last_mark(opened.store.connection) == opened.store.clock.mark()


def test_the_log_stays_small_under_endless_load_while_the_queue_is_listed(
    opened: OpenSpool, watch: Watch, clock: HandClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CHECKPOINT_OCTETS", 1 << 20)
    with closing(QueueReader.beside(str(tmp_path), SpoolClock(clock, None))) as reader:
        for _ in range(200):
            take_in(opened, Letter(body=b"x" * 40_000))
            watch.chores.wrote(40_000, 1)
            watch.pass_time(0)
            assert reader.page(limit=20).entries
    assert (tmp_path / "state.db-wal").stat().st_size < 3 << 20
