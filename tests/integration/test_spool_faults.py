"""What callers are told when the disk is full, locked or broken, and what of it is kept."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from spool import room
from spool.bodies import SMALL_BODY, BodyWriter
from spool.errors import SpoolFull, SpoolLost, SpoolUnavailable
from spool.files import Space
from spool.ids import new_message_id
from spool.instants import Instant
from spool.layout import Layout, layout
from spool.message import Submission
from spool.opening import database_path
from spool.writer import SpoolWriter
from tests.tools.faults import FaultyOps, broken, files_in, full, sqlite_error
from tests.tools.spooled import DONE, HandClock, Letter, put, settlement, submission, take

pytestmark = pytest.mark.anyio

LARGE = b"x" * (3 * SMALL_BODY)


@pytest.fixture
def ops() -> FaultyOps:
    return FaultyOps()


@pytest.fixture
async def spool(place: Layout, clock: HandClock, ops: FaultyOps) -> AsyncIterator[SpoolWriter]:
    writer = await SpoolWriter.open(place, clock, ops)
    yield writer
    await writer.aclose()


async def large(spool: SpoolWriter) -> tuple[BodyWriter, Submission]:
    name = new_message_id(1)
    writer = await spool.new_body(name)
    writer.write(LARGE)
    return writer, submission(spool.clock.now(), Letter(body=writer.finish()), name)


async def survivors(place: Layout) -> set[str]:
    """What is in the spool after a restart."""
    spool = await SpoolWriter.open(place)
    found = await take(spool)
    await spool.aclose()
    return {claimed.message.id for claimed in found}


# -- full ---------------------------------------------------------------------------------------------------------------


async def test_a_full_disk_at_the_commit_keeps_nothing_and_stops_nothing(spool: SpoolWriter, ops: FaultyOps) -> None:
    ops.spoil("commit", lambda: sqlite_error("SQLITE_FULL"), times=2)
    with pytest.raises(SpoolFull):
        await put(spool)
    name = await put(spool)
    assert [claimed.message.id for claimed in await take(spool)] == [name]
    assert not spool.lost.is_set()


async def test_a_full_disk_while_a_body_is_written_is_said_to_its_writer(
    spool: SpoolWriter, ops: FaultyOps, place: Layout
) -> None:
    writer = await spool.new_body(new_message_id(1))
    ops.spoil("write", full)
    with pytest.raises(SpoolFull):
        writer.write(LARGE)
    writer.abandon()
    assert files_in(f"{place.spool_dir}/msg") == []


async def test_without_inodes_there_is_no_body(spool: SpoolWriter, ops: FaultyOps) -> None:
    ops.spoil("create", full)
    name = new_message_id(1)
    with pytest.raises(SpoolFull):
        await spool.new_body(name)
    (await spool.new_body(name)).abandon()


@pytest.mark.parametrize(
    "space",
    [Space(room.FLOOR - 1, 1 << 40, None), Space(1 << 40, 1 << 41, room.FILES_FLOOR - 1), Space(99, 2000, None)],
)
async def test_new_mail_is_refused_before_the_disk_is_full(spool: SpoolWriter, ops: FaultyOps, space: Space) -> None:
    ops.free = space
    with pytest.raises(SpoolFull):
        await put(spool)
    with pytest.raises(SpoolFull):
        await spool.new_body(new_message_id(1))


async def test_outcomes_are_written_in_the_room_that_new_mail_is_kept_from(spool: SpoolWriter, ops: FaultyOps) -> None:
    await put(spool)
    (claimed,) = await take(spool)
    ops.free = Space(0, 1 << 40, 0)
    await spool.record([settlement(spool, claimed, DONE)])
    assert await spool.next_wake() is None


async def test_a_small_file_system_is_filled_almost_to_its_end(spool: SpoolWriter, ops: FaultyOps) -> None:
    ops.free = Space(1_000_000, 16_000_000, None)
    await put(spool)


async def test_a_body_refused_with_its_message_leaves_no_file(
    spool: SpoolWriter, ops: FaultyOps, place: Layout
) -> None:
    _, what = await large(spool)
    ops.spoil("commit", lambda: sqlite_error("SQLITE_FULL"), times=2)
    with pytest.raises(SpoolFull):
        await spool.accept(what)
    assert files_in(f"{place.spool_dir}/msg") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Layout]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(where)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    yield layout(str(where))
    subprocess.run(["umount", "-l", str(where)], check=True)


async def fill(spool: SpoolWriter) -> set[str]:
    """Accept until there is no room; what was acknowledged."""
    acknowledged: set[str] = set()
    try:
        while True:
            acknowledged.add(await put(spool, Letter(body=b"y" * 30_000)))
    except SpoolFull:
        return acknowledged


def fill_with_something_else(place: Layout) -> None:
    with open(f"{place.spool_dir}/other", "wb", buffering=0) as other, suppress(OSError):
        while other.write(b"z" * 4096):
            pass


def enlarge(place: Layout) -> None:
    subprocess.run(["mount", "-o", "remount,size=32m", place.root], check=True)


@pytest.mark.root
async def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(small_disk: Layout) -> None:
    spool = await SpoolWriter.open(small_disk, ops=FaultyOps())
    acknowledged = await fill(spool)
    assert len(acknowledged) > 20
    assert not spool.lost.is_set()
    await spool.aclose()
    enlarge(small_disk)
    assert await survivors(small_disk) == acknowledged


@pytest.mark.root
async def test_on_a_disk_that_is_really_full_outcomes_find_the_room_held_for_them(small_disk: Layout) -> None:
    spool = await SpoolWriter.open(small_disk)
    delivered, waiting = await put(spool), await put(spool)
    await spool.remember("upkeep", "has had its turn")
    assert "reserve" in files_in(small_disk.spool_dir)
    claimed = {one.message.id: one for one in await take(spool)}
    fill_with_something_else(small_disk)
    await spool.record([settlement(spool, claimed[delivered], DONE)])
    assert "reserve" not in files_in(small_disk.spool_dir)
    await spool.aclose()
    enlarge(small_disk)
    assert await survivors(small_disk) == {waiting}


@pytest.mark.root
async def test_a_body_that_is_really_too_large_for_the_disk_is_refused_and_gone(small_disk: Layout) -> None:
    spool = await SpoolWriter.open(small_disk, ops=FaultyOps())
    writer = await spool.new_body(new_message_id(1))
    with pytest.raises(SpoolFull):
        writer.write(b"x" * (4 << 20))
    writer.abandon()
    await put(spool)
    await spool.aclose()


async def test_the_limit_of_a_files_size_is_a_full_disk(spool: SpoolWriter) -> None:
    writer = await spool.new_body(new_message_id(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(LARGE), before[1]))
    try:
        with pytest.raises(SpoolFull):
            writer.write(LARGE + b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.abandon()


# -- unavailable ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["SQLITE_READONLY", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN"])
async def test_a_database_that_cannot_be_written_now_keeps_nothing(
    spool: SpoolWriter, ops: FaultyOps, code: str
) -> None:
    ops.spoil("commit", lambda: sqlite_error(code))
    with pytest.raises(SpoolUnavailable):
        await put(spool)
    await put(spool)
    assert len(await take(spool)) == 1


async def test_a_database_that_another_program_has_locked_is_unavailable(
    place: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spool.database.PATIENCE", 0.05)
    spool = await SpoolWriter.open(place)
    with closing(sqlite3.connect(database_path(place.spool_dir), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolUnavailable, match="locked"):
            await put(spool)
        other.execute("ROLLBACK")
    name = await put(spool)
    await spool.aclose()
    assert await survivors(place) == {name}


async def test_a_body_that_cannot_be_made_is_unavailable(spool: SpoolWriter, ops: FaultyOps) -> None:
    ops.spoil("create", broken)
    with pytest.raises(SpoolUnavailable):
        await spool.new_body(new_message_id(1))


# -- lost -----------------------------------------------------------------------------------------------------------------


LOST = ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB"]


@pytest.mark.parametrize("code", LOST)
async def test_after_a_write_that_may_be_lost_nothing_is_acknowledged(
    place: Layout, clock: HandClock, ops: FaultyOps, code: str
) -> None:
    spool = await SpoolWriter.open(place, clock, ops)
    name = await put(spool)
    ops.spoil("commit", lambda: sqlite_error(code))
    with pytest.raises(SpoolLost):
        await put(spool)
    with anyio.fail_after(1):
        await spool.lost.wait()
    commits = ops.calls["commit"]
    for attempt in (lambda: put(spool), lambda: take(spool), lambda: spool.new_body(new_message_id(1))):
        with pytest.raises(SpoolLost):
            await attempt()
    await spool.aclose()
    assert ops.calls["commit"] == commits, "not even the end is written down"
    assert name in await survivors(place)


async def test_all_that_wait_when_the_spool_is_lost_are_told(spool: SpoolWriter, ops: FaultyOps) -> None:
    ops.spoil("commit", lambda: sqlite_error("SQLITE_IOERR_FSYNC"))
    told: list[Exception] = []

    async def session() -> None:
        try:
            await put(spool)
        except SpoolLost as error:
            told.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(session)
    assert len(told) == 20


@pytest.mark.parametrize("operation", ["fsync", "fsync_directory"])
async def test_a_body_that_may_not_be_on_disk_stops_everything(
    spool: SpoolWriter, ops: FaultyOps, place: Layout, operation: str
) -> None:
    _, what = await large(spool)
    ops.spoil(operation, broken)
    before = ops.calls[operation]
    with pytest.raises(SpoolLost):
        await spool.accept(what)
    assert ops.calls[operation] == before + 1, "there is no second try"
    assert spool.lost.is_set()


async def test_a_lost_spool_recovers_at_the_next_start(place: Layout, clock: HandClock, ops: FaultyOps) -> None:
    spool = await SpoolWriter.open(place, clock, ops)
    await put(spool)
    ops.spoil("commit", lambda: sqlite_error("SQLITE_IOERR_FSYNC"))
    with pytest.raises(SpoolLost):
        await put(spool)
    await spool.aclose()
    second = FaultyOps()
    again = await SpoolWriter.open(place, clock, second)
    assert Instant.AFTER_RECOVERY in second.log
    await again.aclose()


async def test_a_checkpoint_that_fails_stops_everything(place: Layout, ops: FaultyOps) -> None:
    spool = await SpoolWriter.open(place, ops=ops)
    ops.spoil(Instant.BEFORE_CHECKPOINT, lambda: sqlite_error("SQLITE_IOERR_WRITE"))
    spool._committer._upkeep.wrote(1 << 30, 1)
    await put(spool)
    with anyio.fail_after(5):
        await spool.lost.wait()
    await spool.aclose()


# -- order ----------------------------------------------------------------------------------------------------------------


async def test_a_large_body_and_its_name_are_on_disk_before_the_commit_that_names_it(
    spool: SpoolWriter, ops: FaultyOps
) -> None:
    _, what = await large(spool)
    ops.log.clear()
    await spool.accept(what)
    steps = [step for step in ops.log if step != "create"]  # the reserve is made whenever there is time
    assert steps == [
        "fsync",
        Instant.BODIES_SYNCED,
        "fsync_directory",
        Instant.BODIES_PUBLISHED,
        Instant.BEFORE_COMMIT,
        "commit",
        Instant.AFTER_COMMIT,
    ]


async def test_the_file_goes_after_the_commit_that_forgets_it(spool: SpoolWriter, ops: FaultyOps) -> None:
    _, what = await large(spool)
    await spool.accept(what)
    (claimed,) = await take(spool)
    ops.log.clear()
    await spool.record([settlement(spool, claimed, DONE)])
    steps = [step for step in ops.log if step != "create"]
    assert steps == [Instant.BEFORE_COMMIT, "commit", Instant.AFTER_COMMIT, Instant.BEFORE_UNLINK, "unlink"]


async def test_a_body_that_was_not_written_here_is_refused(spool: SpoolWriter) -> None:
    writer, what = await large(spool)
    writer.abandon()
    with pytest.raises(ValueError, match="no body"):
        await spool.accept(what)


async def test_a_submission_that_contradicts_itself_is_refused(spool: SpoolWriter) -> None:
    what = submission(spool.clock.now())
    with pytest.raises(ValueError, match="octets"):
        await spool.accept(replace(what, body=b"another"))
    with pytest.raises(ValueError, match="nowhere to go"):
        await spool.accept(replace(what, envelopes=()))


Fault = Callable[[], Exception]
OPERATIONS: dict[str, Fault] = {
    "create": full,
    "write": full,
    "fsync": broken,
    "fsync_directory": broken,
    "commit": lambda: sqlite_error("SQLITE_FULL"),
    "unlink": broken,
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_whatever_call_fails_what_was_acknowledged_is_there_and_whole(
    place: Layout, clock: HandClock, operation: str
) -> None:
    """The n-th call of one kind fails, for n = 1, 2, 3 ... until a whole run meets no failure."""
    nth = 0
    failed = True
    while failed:
        nth += 1
        here = layout(f"{place.root}/{nth}")
        ops = FaultyOps()
        ops.spoil(operation, OPERATIONS[operation], nth)
        acknowledged, settled = await busy(here, clock, ops)
        failed = ops.calls[operation] >= nth
        found = await survivors(here)
        assert acknowledged - settled <= found, f"{operation} {nth}"
        assert found <= acknowledged | settled, f"{operation} {nth}: more than was acknowledged"
    assert nth > 1


async def busy(place: Layout, clock: HandClock, ops: FaultyOps) -> tuple[set[str], set[str]]:
    """Some life of a spool: what was acknowledged, and what was delivered and may be gone."""
    acknowledged: set[str] = set()
    settled: set[str] = set()
    try:
        spool = await SpoolWriter.open(place, clock, ops)
    except (SpoolLost, SpoolUnavailable, SpoolFull):
        return acknowledged, settled
    for _ in range(2):
        try:
            acknowledged.add(await put(spool))
            _, what = await large(spool)
            await spool.accept(what)
            acknowledged.add(what.message.id)
            (claimed, *others) = await take(spool, 3)
            settled.add(claimed.message.id)
            await spool.record([settlement(spool, claimed, DONE)])
            await spool.unclaim(others)
        except (SpoolLost, SpoolUnavailable, SpoolFull):
            continue
    with suppress(SpoolLost, SpoolUnavailable, SpoolFull):
        await spool.aclose()
    return acknowledged, settled
