"""How a spool begins, ends, and begins again after an end that was none."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spool import lock, migrations
from spool.checkup import Checkup
from spool.clock import Clock
from spool.database import connect
from spool.errors import SpoolError, SpoolInUse, SpoolTooNew, SpoolUnavailable
from spool.instants import Instant
from spool.layout import Layout, layout
from spool.listing import QueueReader
from spool.opening import OpenSpool, close_spool, database_path, open_spool
from spool.writer import SpoolWriter
from tests.tools.faults import FaultyOps, files_in
from tests.tools.spooled import HOUR, HandClock, put, take

if TYPE_CHECKING:
    from sqlite_utils import Database

pytestmark = pytest.mark.anyio


def begin(spool_dir: Path | str, clock: Clock | None = None, ops: FaultyOps | None = None) -> OpenSpool:
    return open_spool(str(spool_dir), clock or HandClock(), ops or FaultyOps())


def as_after_a_kill(place: Layout, copy: Path) -> Layout:
    """A copy of a spool that is open, as a killed process would leave it."""
    shutil.copytree(place.spool_dir, layout(str(copy)).spool_dir, ignore=shutil.ignore_patterns("*-shm"))
    return layout(str(copy))


def test_a_new_spool_is_for_its_owner_alone(tmp_path: Path) -> None:
    close_spool(begin(tmp_path / "spool"))
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "spool").iterdir()}
    assert modes == {"lock": 0, "lock.readers": 0, "msg": 0, "state.db": 0}


def test_a_spool_has_a_name_of_its_own_for_ever(tmp_path: Path) -> None:
    names = []
    for folder in ("a", "a", "b"):
        spool = begin(tmp_path / folder)
        names.append(spool.instance)
        close_spool(spool)
    assert names[0] == names[1] != names[2]
    assert names[0].isalnum()
    assert names[0].islower()


def test_the_database_is_what_durability_rests_on(tmp_path: Path) -> None:
    close_spool(begin(tmp_path / "spool"))
    with closing(connect(database_path(str(tmp_path / "spool")))) as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum", "wal_autocheckpoint")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "auto_vacuum": 2,
        "wal_autocheckpoint": 0,
    }


def test_a_spool_of_a_later_version_is_left_as_it_is(tmp_path: Path) -> None:
    close_spool(begin(tmp_path))
    path = database_path(str(tmp_path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {migrations.VERSION + 1}")
    before = Path(path).read_bytes()
    with pytest.raises(SpoolTooNew, match=f"version {migrations.VERSION + 1}"):
        begin(tmp_path)
    assert Path(path).read_bytes() == before


NEXT = migrations.VERSION + 1


def add_colour(database: Database) -> None:
    database["message"].add_column("colour", str)  # type: ignore[union-attr]


def add_and_fail(database: Database) -> None:
    add_colour(database)
    raise RuntimeError("half way")


def test_an_older_spool_climbs_to_todays_version_once(tmp_path: Path) -> None:
    close_spool(begin(tmp_path))
    with closing(connect(database_path(str(tmp_path)))) as connection:
        for _ in range(2):
            migrations.migrate(connection, {NEXT: add_colour})
        columns = [row[1] for row in connection.execute("PRAGMA table_info(message)")]
        assert columns.count("colour") == 1
        assert migrations.version_of(connection, NEXT) == NEXT


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    close_spool(begin(tmp_path))
    with closing(connect(database_path(str(tmp_path)))) as connection:
        with pytest.raises(RuntimeError, match="half way"):
            migrations.migrate(connection, {NEXT: add_and_fail})
        columns = [row[1] for row in connection.execute("PRAGMA table_info(message)")]
        assert "colour" not in columns
        assert migrations.version_of(connection, NEXT) == migrations.VERSION


def test_an_everyday_start_does_not_import_sqlite_utils(tmp_path: Path) -> None:
    code = (
        "import sys; from spool.opening import *; from spool.clock import SystemClock; from spool.files import SystemOps;"
        f"close_spool(open_spool({str(tmp_path)!r}, SystemClock(), SystemOps())); print('sqlite_utils' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


async def test_after_an_unclean_stop_the_log_is_written_back_before_anything_is_accepted(
    place: Layout, tmp_path: Path
) -> None:
    spool = await SpoolWriter.open(place)
    name = await put(spool)
    copy = as_after_a_kill(place, tmp_path / "copy")
    await spool.aclose()
    assert "state.db-wal" in files_in(copy.spool_dir)
    ops = FaultyOps()
    after = await SpoolWriter.open(copy, ops=ops)
    assert ops.log.index(Instant.AFTER_RECOVERY) < ops.log.index("commit")
    assert [claimed.message.id for claimed in await take(after)] == [name]
    await after.aclose()


async def test_after_a_clean_stop_there_is_nothing_to_write_back(place: Layout) -> None:
    spool = await SpoolWriter.open(place)
    await put(spool)
    await spool.aclose()
    assert "state.db-wal" not in files_in(place.spool_dir)
    ops = FaultyOps()
    again = await SpoolWriter.open(place, ops=ops)
    assert Instant.BEFORE_RECOVERY not in ops.log
    await again.aclose()


async def test_a_log_that_another_program_keeps_from_being_written_back_stops_the_start(
    place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spool.database.PATIENCE", 0.05)
    spool = await SpoolWriter.open(place)
    await put(spool)
    copy = as_after_a_kill(place, tmp_path / "copy")
    await put(spool)
    await spool.aclose()
    with closing(sqlite3.connect(database_path(copy.spool_dir), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolUnavailable):
            await SpoolWriter.open(copy)
    await (await SpoolWriter.open(copy)).aclose()


def test_spool_time_goes_on_where_it_stopped(tmp_path: Path) -> None:
    clock = HandClock()
    spool = begin(tmp_path, clock)
    stopped_at = spool.store.clock.now()
    close_spool(spool)
    clock.advance(HOUR)
    spool = begin(tmp_path, clock)
    assert spool.store.clock.now() == stopped_at + HOUR
    close_spool(spool)


def test_spool_time_stands_still_over_a_boot_with_a_clock_of_1970(tmp_path: Path) -> None:
    spool = begin(tmp_path, HandClock())
    stopped_at = spool.store.clock.now()
    close_spool(spool)
    spool = begin(tmp_path, HandClock(boot_ms=1000, wall_s=0.0, boot="boot-2"))
    assert spool.store.clock.now() == stopped_at
    close_spool(spool)


def test_spool_time_counts_the_time_between_two_boots(tmp_path: Path) -> None:
    clock = HandClock()
    spool = begin(tmp_path, clock)
    stopped_at = spool.store.clock.now()
    close_spool(spool)
    spool = begin(tmp_path, HandClock(boot_ms=1000, wall_s=clock.wall_s + 3600, boot="boot-2"))
    assert spool.store.clock.now() == stopped_at + HOUR
    close_spool(spool)


def test_a_listing_of_the_stopped_spool_holds_a_start_up_until_it_ends(tmp_path: Path) -> None:
    close_spool(begin(tmp_path))
    reader = QueueReader.stopped(str(tmp_path))
    threading.Timer(0.2, reader.close).start()
    began = time.monotonic()
    close_spool(begin(tmp_path))
    assert time.monotonic() - began >= 0.15


def test_a_listing_that_does_not_end_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "READERS_PATIENCE", 0.1)
    close_spool(begin(tmp_path))
    with closing(QueueReader.stopped(str(tmp_path))), pytest.raises(SpoolInUse, match="being listed"):
        begin(tmp_path)
    close_spool(begin(tmp_path))


def test_a_lock_file_left_behind_locks_nobody_out(tmp_path: Path) -> None:
    close_spool(begin(tmp_path))
    (tmp_path / "lock").write_text("1\n")
    close_spool(begin(tmp_path))


def test_a_start_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is no database at all" * 500)
    for _ in range(2):
        with pytest.raises(SpoolError, match="not a database"):
            begin(tmp_path)
    with open(tmp_path / "lock", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_made_is_said_to_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SpoolUnavailable):
        begin(tmp_path / "spool")


def damage_a_page(path: str, number: int) -> None:
    with open(path, "r+b") as database:
        database.seek((number - 1) * 4096)
        database.write(b"\xff" * 4096)


def test_a_damaged_page_is_found_afterwards_and_said(tmp_path: Path) -> None:
    close_spool(begin(tmp_path))
    path = database_path(str(tmp_path))
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'attempt_message'").fetchone()[0]
    damage_a_page(path, root)
    checkup = Checkup(path)
    checkup.run()
    assert checkup.findings
    assert all("attempt" in finding or "malformed" in finding for finding in checkup.findings)


def test_a_sound_database_has_no_findings(tmp_path: Path) -> None:
    close_spool(begin(tmp_path))
    checkup = Checkup(database_path(str(tmp_path)))
    checkup.run()
    assert checkup.findings == []


async def test_the_tables_are_looked_through_after_an_unclean_stop_only(place: Layout, tmp_path: Path) -> None:
    spool = await SpoolWriter.open(place)
    copy = as_after_a_kill(place, tmp_path / "copy")
    assert spool._checkup is None
    await spool.aclose()
    after = await SpoolWriter.open(copy)
    assert after._checkup is not None
    await after.aclose()
    assert after.findings == ()
