"""Spools of earlier versions, as they were kept (`tests.tools.sample_spool`), in the hands of this one."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from spool import migrations
from spool.layout import Layout, layout
from spool.listing import QueueReader
from spool.writer import SpoolWriter
from tests.tools.climb_child import STEPS
from tests.tools.sample_spool import mail_of
from tests.tools.scorecard import Cases
from tests.tools.spooled import HandClock

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("9 moving house")]

ROOT = Path(__file__).parents[2]
KEPT = sorted((ROOT / "tests" / "spools").glob("version-*"))


def unpacked(kept: Path, folder: Path) -> Layout:
    """A copy of a spool that was kept."""
    place = layout(str(folder))
    with tarfile.open(kept / "spool.tar.gz") as archive:
        archive.extractall(Path(place.spool_dir).parent, filter="tar")
    (Path(place.spool_dir).parent / "spool").rename(place.spool_dir)
    return place


def version_of(place: Layout) -> int:
    with closing(sqlite3.connect(f"{place.spool_dir}/state.db")) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return found


async def mail_in(place: Layout) -> list[dict[str, object]]:
    spool = await SpoolWriter.open(place, HandClock())
    with closing(QueueReader.beside(place.spool_dir, spool.clock, spool.bodies)) as reader:
        with reader.inspection() as inspection:
            wrong = [finding for finding in inspection.findings() if finding]
        mail = mail_of(reader)
    await spool.aclose()
    assert wrong == []
    return mail


def test_a_spool_of_every_version_before_this_one_was_kept() -> None:
    names = {kept.name for kept in KEPT}
    assert names >= {f"version-{number}" for number in range(1, migrations.VERSION)}


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
async def test_a_spool_of_an_earlier_version_opens_climbs_and_keeps_all_its_mail(tmp_path: Path, kept: Path) -> None:
    place = unpacked(kept, tmp_path)
    assert version_of(place) == int(kept.name.removeprefix("version-"))
    assert await mail_in(place) == json.loads((kept / "mail.json").read_text())
    assert version_of(place) == migrations.VERSION


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
async def test_a_climb_that_is_cut_off_anywhere_begins_again(
    tmp_path: Path, kept: Path, cases: Cases, thorough: bool
) -> None:
    wanted = json.loads((kept / "mail.json").read_text())
    target = max(STEPS)
    ended = False
    nth = 0
    while not ended:
        # All of them; a few that fall everywhere in it when there is little time.
        nth += 1 if thorough else 7
        place = unpacked(kept, tmp_path / str(nth))
        ended = climb(place, nth) == 0
        cases.tried()
        with closing(sqlite3.connect(f"{place.spool_dir}/state.db")) as connection:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(envelope)")}
        if ("some_day" in columns) is not (version_of(place) == target):
            cases.failed(f"killed before statement {nth}: a version that is half reached")
        if climb(place, 0) != 0 or version_of(place) != target:
            cases.failed(f"killed before statement {nth}: it does not climb again")
        lower(place)
        if await mail_in(place) != wanted:
            cases.failed(f"killed before statement {nth}: its mail is not what it was")


def climb(place: Layout, nth: int) -> int:
    command = [sys.executable, "-m", "tests.tools.climb_child", f"{place.spool_dir}/state.db", str(nth)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode in (0, -signal.SIGKILL), child.stderr
    return child.returncode


def lower(place: Layout) -> None:
    """The version that comes after today's was only played: today's program would not touch it."""
    with closing(sqlite3.connect(f"{place.spool_dir}/state.db")) as connection:
        connection.execute(f"PRAGMA user_version = {migrations.VERSION}")
