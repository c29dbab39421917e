"""A copy of a spool, made while it is used."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from spool.backup import Backup, BackupError, BackupStopped, Copied
from spool.bodies import SMALL_BODY
from spool.ids import new_message_id
from spool.layout import Layout, layout
from spool.listing import QueueReader
from spool.seal import Sealing
from spool.writer import SpoolWriter
from tests.tools.faults import FaultyOps, broken, full
from tests.tools.kept import assert_whole, look
from tests.tools.scorecard import Cases
from tests.tools.spool_child import body_of
from tests.tools.spooled import DONE, Letter, put, record, submission, take

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("9 moving house")]


@pytest.fixture
def place(tmp_path: Path) -> Layout:
    return layout(str(tmp_path / "house"))


@pytest.fixture
async def spool(place: Layout) -> AsyncIterator[SpoolWriter]:
    spool = await SpoolWriter.open(place)
    yield spool
    await spool.aclose()


async def put_named(spool: SpoolWriter, large: bool) -> str:
    """A message whose body says its name."""
    name = new_message_id(0)
    content = body_of(name, large)
    if not large:
        await spool.accept(submission(spool.clock.now(), Letter(body=content), name))
        return name
    writer = await spool.new_body(name)
    writer.write(content)
    await spool.accept(submission(spool.clock.now(), Letter(body=writer.finish()), name))
    return name


def beside(place: Layout, spool: SpoolWriter) -> QueueReader:
    return QueueReader.beside(place.spool_dir, spool.clock, spool.bodies)


async def back_up(place: Layout, spool: SpoolWriter, target: Path) -> Copied:
    with closing(beside(place, spool)) as reader, reader.backup() as backup:
        return await anyio.to_thread.run_sync(backup.make, str(target))


def installed(copy: Path, root: Path) -> Path:
    """The copy where a daemon with that root looks for its spool."""
    where = Path(layout(str(root)).spool_dir)
    where.parent.mkdir(parents=True)
    copy.rename(where)
    return root


async def test_the_copy_is_a_spool_with_every_message_and_body(
    tmp_path: Path, place: Layout, spool: SpoolWriter
) -> None:
    names = {await put_named(spool, large) for large in (False, True, False, True)}
    copied = await back_up(place, spool, tmp_path / "copy")
    octets = sum(len(body_of(name, large)) for name, large in zip(sorted(names), (False, True) * 2, strict=True))
    assert (copied.messages, copied.envelopes, copied.octets, copied.findings) == (4, 4, octets, [])
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["msg", "state.db"]
    found = await look(installed(tmp_path / "copy", tmp_path / "new"))
    assert set(found.mail) == names
    assert_whole(found)


async def test_what_comes_and_goes_while_it_is_copied_leaves_a_whole_copy(
    tmp_path: Path, place: Layout, spool: SpoolWriter, cases: Cases, thorough: bool
) -> None:
    for number in range(300):
        await put_named(spool, number % 3 == 0)
    stop = anyio.Event()

    async def live() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await put_named(spool, number % 2 == 0)
            for claimed in (await take(spool))[:3]:
                await record(spool, claimed, DONE)
            await spool.unclaim(await take(spool))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        for number in range(20 if thorough else 4):
            copied = await back_up(place, spool, tmp_path / f"copy{number}")
            cases.tried()
            found = await look(installed(tmp_path / f"copy{number}", tmp_path / f"new{number}"))
            assert_whole(found)
            if copied.findings or len(found.mail) != copied.messages:
                cases.failed(f"copy {number}: {copied.findings}, {len(found.mail)} of {copied.messages}")
        stop.set()


async def test_a_message_that_leaves_after_the_instant_of_the_copy_is_left_out(
    tmp_path: Path, place: Layout, spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_named(spool, large=True)
    (claimed,) = await take(spool)
    kept = await put_named(spool, large=True)
    copied_database, let_go = threading.Event(), threading.Event()
    real = Backup._copy_database

    def then_wait(backup: Backup, path: str) -> None:
        real(backup, path)
        copied_database.set()
        let_go.wait()

    monkeypatch.setattr(Backup, "_copy_database", then_wait)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(back_up, place, spool, tmp_path / "copy")
        await anyio.to_thread.run_sync(copied_database.wait)
        await record(spool, claimed, DONE)
        let_go.set()
    found = await look(installed(tmp_path / "copy", tmp_path / "new"))
    assert set(found.mail) == {kept}
    assert_whole(found)


async def test_the_writer_does_not_wait_for_the_copy(
    tmp_path: Path, place: Layout, spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(50):
        await put_named(spool, large=False)
    monkeypatch.setattr("spool.backup.PAGES", 1)
    steps: list[int] = []
    stands, let_go = threading.Event(), threading.Event()
    real = Backup._require_wanted

    def stand(backup: Backup) -> None:
        real(backup)
        steps.append(1)
        if len(steps) == 2:
            stands.set()
            let_go.wait()

    monkeypatch.setattr(Backup, "_require_wanted", stand)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(back_up, place, spool, tmp_path / "copy")
        await anyio.to_thread.run_sync(stands.wait)
        with anyio.fail_after(10):
            later = await put_named(spool, large=False)
        let_go.set()
    found = await look(installed(tmp_path / "copy", tmp_path / "new"))
    assert len(found.mail) == 50
    assert later not in found.mail


async def test_a_copy_that_fails_anywhere_leaves_nothing_behind(
    tmp_path: Path, place: Layout, spool: SpoolWriter, cases: Cases, thorough: bool
) -> None:
    await put_named(spool, large=True)
    before = {entry.name for entry in os.scandir(tmp_path)}
    for operation in ("fsync", "fsync_directory", "create"):
        nth = 0
        while True:
            nth += 1 if thorough or operation != "fsync_directory" else 20
            ops = FaultyOps()
            ops.spoil(operation, full if operation == "create" else broken, nth)
            with closing(beside(place, spool)) as reader, reader.backup() as made:
                backup = Backup(place.spool_dir, made._source, Sealing(), ops)
                try:
                    await anyio.to_thread.run_sync(backup.make, str(tmp_path / f"{operation}{nth}"))
                except BackupError:
                    cases.tried()
                else:
                    break
            left = {entry.name for entry in os.scandir(tmp_path)} - before
            # The last fsync is that of the folder above: the name is there, and the copy whole.
            if left and left != {f"{operation}{nth}"}:
                cases.failed(f"{operation} {nth}: {left} is left")
            before |= left
        before.add(f"{operation}{nth}")


async def test_a_body_on_another_file_system_is_copied(
    tmp_path: Path, place: Layout, spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await put_named(spool, large=True)

    def elsewhere(source: str, target: str, *, follow_symlinks: bool) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", elsewhere)
    await back_up(place, spool, tmp_path / "copy")
    (body,) = (path for path in (tmp_path / "copy" / "msg").rglob("*") if path.is_file())
    assert body.stat().st_nlink == 1
    assert body.read_bytes() == body_of(name, large=True)
    assert body.stat().st_mode & 0o777 == 0o600


async def test_damage_of_the_spool_is_said_and_the_rest_is_copied(
    tmp_path: Path, place: Layout, spool: SpoolWriter
) -> None:
    bad = await put_named(spool, large=True)
    good = await put_named(spool, large=True)
    os.truncate(spool.bodies.path(bad), SMALL_BODY)
    copied = await back_up(place, spool, tmp_path / "copy")
    (finding,) = copied.findings
    assert finding.subject.startswith(bad)
    assert set((await look(installed(tmp_path / "copy", tmp_path / "new"))).mail) == {good}


async def test_the_drop_goes_along(tmp_path: Path, place: Layout, spool: SpoolWriter) -> None:
    os.makedirs(f"{place.drop_dir}/folder")
    os.close(os.open(f"{place.drop_dir}/0123", os.O_CREAT | os.O_WRONLY, 0o600))
    copied = await back_up(place, spool, tmp_path / "copy")
    assert copied.drops == 1
    assert os.listdir(tmp_path / "copy/drop") == ["0123"]


async def test_a_directory_that_is_there_is_not_touched(tmp_path: Path, place: Layout, spool: SpoolWriter) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(BackupError, match="is there already"):
        await back_up(place, spool, tmp_path / "copy")
    with pytest.raises(BackupError, match="No such file"):
        await back_up(place, spool, tmp_path / "nowhere" / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


async def test_a_copy_that_nobody_waits_for_is_given_up(tmp_path: Path, place: Layout, spool: SpoolWriter) -> None:
    await put(spool)
    with closing(beside(place, spool)) as reader, reader.backup() as backup:
        backup.stop()
        with pytest.raises(BackupStopped):
            backup.make(str(tmp_path / "copy"))
    assert [entry.name for entry in os.scandir(tmp_path)] == ["house"]


async def test_an_older_spool_is_not_copied_by_a_program_that_cannot_look_it_through(tmp_path: Path) -> None:
    place = layout(str(tmp_path / "old"))
    await (await SpoolWriter.open(place)).aclose()
    with closing(sqlite3.connect(f"{place.spool_dir}/state.db")) as connection:
        connection.execute("PRAGMA user_version = 1")
    reading = closing(QueueReader.stopped(place.spool_dir))
    with reading as reader, reader.backup() as backup, pytest.raises(BackupError, match="start smtpd on it first"):
        backup.make(str(tmp_path / "copy"))
