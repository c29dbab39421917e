"""Mail that leaves one spool in an archive and comes into another; archives that nobody should take."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from contextlib import closing
from itertools import groupby
from pathlib import Path

import msgspec
import pytest

from control.importing import CannotTake, House
from control.protocol import ImportedRow, LeftRow
from policy.config import Config
from spool.archive import BLOCK, Archive, ArchiveError, Found, Header, Moved, Writer
from spool.entry import QueueEntry
from spool.layout import Layout, layout
from spool.listing import QueueReader
from spool.writer import SpoolWriter
from tests.tools.configured import Configured
from tests.tools.faults import FaultyOps, sqlite_error
from tests.tools.sample_spool import fill, mail_of
from tests.tools.scorecard import Cases
from tests.tools.spooled import DAY, HandClock

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("9 moving house")]

Change = Callable[[Moved], Moved]


@pytest.fixture
async def archive(tmp_path: Path) -> Path:
    """One of everything."""
    await fill(layout(str(tmp_path / "old")), HandClock())
    return await packed(tmp_path)


async def packed(tmp_path: Path, change: Change = lambda moved: moved, name: str = "mail.tar") -> Path:
    """An archive of everything in the old house."""
    old = layout(str(tmp_path / "old"))
    clock = HandClock()
    # As long as it took to fill it.
    clock.advance(1000)
    spool = await SpoolWriter.open(old, clock)
    with closing(QueueReader.beside(old.spool_dir, spool.clock, spool.bodies)) as reader:
        packed = io.BytesIO()
        writer = Writer(packed.write, Header(name=os.urandom(16).hex(), made=1.7e9))
        entries = [entry for entry in reader.entries() if isinstance(entry, QueueEntry)]
        for message, group in groupby(entries, lambda entry: entry.message):
            leaving = reader.pack(message, [entry.ordinal for entry in group])
            writer.add(change(leaving.moved), leaving.body.chunks())
        writer.end()
    await spool.aclose()
    return written(tmp_path / name, packed.getvalue())


def read(path: Path) -> bytes:
    return path.read_bytes()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def moved_in(tmp_path: Path, archive: Path, house: str = "new") -> list[dict[str, object]]:
    """The mail of a house after it has taken an archive."""
    place = layout(str(tmp_path / house))
    spool = await SpoolWriter.open(place, HandClock())
    try:
        await take(archive, spool, config(tmp_path))
    finally:
        await spool.aclose()
    return mail_in(place)


def mail_in(place: Layout) -> list[dict[str, object]]:
    with closing(QueueReader.stopped(place.spool_dir)) as reader:
        return mail_of(reader)


def config(tmp_path: Path) -> Config:
    text = 'action "other" maildir\nmatch for local action "other"\n'
    return Configured(tmp_path / "configuration").load(text)


async def take(path: Path, spool: SpoolWriter, settings: Config) -> list[LeftRow | ImportedRow]:
    return [row async for row in House(spool, settings).take(str(path))]


def comparable(mail: list[dict[str, object]]) -> list[dict[str, object]]:
    """Whether a lane is paused, and what its route did, belongs to the house."""
    kept = [{**one, "lane": one["lane"][:2]} for one in mail]  # type: ignore[index]
    return sorted(kept, key=lambda one: str(one["id"]))


async def test_everything_that_an_envelope_is_moves_along(tmp_path: Path, archive: Path) -> None:
    assert comparable(await moved_in(tmp_path, archive)) == comparable(mail_in(layout(str(tmp_path / "old"))))


async def test_an_import_that_is_cut_off_goes_on(tmp_path: Path, archive: Path, cases: Cases) -> None:
    wanted = comparable(mail_in(layout(str(tmp_path / "old"))))
    for nth in range(2, 9):
        cases.tried()
        place = layout(str(tmp_path / f"new{nth}"))
        ops = FaultyOps()
        ops.spoil("commit", lambda: sqlite_error("SQLITE_FULL"), nth, times=2)
        spool = await SpoolWriter.open(place, HandClock(), ops)
        try:
            await take(archive, spool, config(tmp_path))
        except CannotTake:
            pass
        else:
            cases.failed(f"commit {nth} failed, and nobody says so")
        await spool.aclose()
        if comparable(await moved_in(tmp_path, archive, f"new{nth}")) != wanted:
            cases.failed(f"after commit {nth} failed, the second import does not make it whole")


async def test_times_are_those_of_the_wall_in_a_house_whose_own_time_is_another(tmp_path: Path, archive: Path) -> None:
    place = layout(str(tmp_path / "new"))
    clock = HandClock(wall_s=1_600_000_000.0)
    await (await SpoolWriter.open(place, clock)).aclose()
    # Its clock was set right meanwhile, while it ran; its own time knows nothing of that.
    clock.wall_s = 1_700_000_000.0 + DAY / 1000
    spool = await SpoolWriter.open(place, clock)
    await take(archive, spool, config(tmp_path))
    with closing(QueueReader.beside(place.spool_dir, spool.clock, spool.bodies)) as reader:
        entries = [entry for entry in reader.entries() if isinstance(entry, QueueEntry)]
        ages = {(spool.clock.now() - entry.arrived) // 1000 for entry in entries}
        left = {entry.recipient.local: (entry.deadline - spool.clock.now()) // 1000 for entry in entries}
    await spool.aclose()
    assert ages <= {86_399, 86_400}
    assert left["held"] == 3 * 86_400


async def test_an_octet_that_was_altered_anywhere_is_found_before_anything_is_taken(
    tmp_path: Path, archive: Path, cases: Cases, thorough: bool
) -> None:
    content = read(archive)
    place = layout(str(tmp_path / "new"))
    spool = await SpoolWriter.open(place, HandClock())
    settings = config(tmp_path)
    for at in range(0, len(content), 97 if thorough else 1999):
        altered = bytearray(content)
        altered[at] ^= 0x20
        cases.tried()
        await refused(cases, f"octet {at}", spool, settings, written(tmp_path / "altered", bytes(altered)))
    for length in range(0, len(content), 101 if thorough else 2003):
        cases.tried()
        await refused(cases, f"{length} octets", spool, settings, written(tmp_path / "cut", content[:length]))
    cases.tried()
    await refused(cases, "more", spool, settings, written(tmp_path / "more", content + bytes(BLOCK)))
    await spool.aclose()
    assert mail_in(place) == []


async def refused(cases: Cases, what: str, spool: SpoolWriter, settings: Config, path: Path) -> None:
    try:
        await take(path, spool, settings)
    except ArchiveError as error:
        if f"{path}: at octet " not in str(error):
            cases.failed(f"{what}: where is not said: {error}")
    else:
        cases.failed(f"{what}: it was taken")


def made_by_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, link
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        member("../../etc/passwd", size=3),
        member("/etc/passwd", size=3),
        member("mailspool-archive.json", tarfile.SYMTYPE, link="/etc/passwd"),
        member("mailspool-archive.json", tarfile.LNKTYPE, link="end.json"),
        member("mailspool-archive.json", tarfile.DIRTYPE),
        member("mailspool-archive.json", tarfile.FIFOTYPE),
        member("x" * 300),
    ],
    ids=lambda wrong: f"{wrong.name[:24]}-{wrong.type.decode()}",
)
def test_a_member_that_is_no_plain_file_of_ours_is_refused(tmp_path: Path, wrong: tarfile.TarInfo) -> None:
    path = made_by_tar(tmp_path / "hostile.tar", wrong)
    with path.open("rb") as file, pytest.raises(ArchiveError, match="at octet 0: "):
        Archive(file)
    assert [entry.name for entry in os.scandir(tmp_path)] == ["hostile.tar"]


def test_a_description_of_giant_size_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "giant.tar").open("wb") as file:
        wrote = io.BytesIO()
        Writer(wrote.write, Header(name="0" * 32, made=0.0))
        block = bytearray(wrote.getvalue()[:BLOCK])
        block[124:135] = b"77777777777"
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block)
        file.write(block)
        file.truncate(1 << 33)
    with (
        (tmp_path / "giant.tar").open("rb") as file,
        pytest.raises(ArchiveError, match="more than the 33554432 allowed"),
    ):
        Archive(file)


def replaced(**changes: object) -> Change:
    return lambda moved: msgspec.structs.replace(moved, **changes)


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        (replaced(id="../../../../etc/pas"), "at octet 1024: "),
        (replaced(sender_local="a\r\nRCPT TO:<b"), "sender_local"),
        (replaced(last_ordinal=0), "last_ordinal"),
        (replaced(envelopes=[]), "envelopes"),
        (replaced(recipients=[]), "names a recipient that is not there"),
        (replaced(sha256="0" * 64), "is not the one that was exported"),
        (replaced(size=7), "body"),
        (replaced(arrived=-1.0), "arrived"),
    ],
)
async def test_a_description_that_no_spool_could_have_given_is_refused(
    tmp_path: Path, archive: Path, change: Change, trouble: str
) -> None:
    path = await packed(tmp_path, change, "hostile.tar")
    with path.open("rb") as file, pytest.raises(ArchiveError, match=trouble):
        Archive(file).check()
    assert not (tmp_path / "etc").exists()


async def test_an_archive_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    wrote = io.BytesIO()
    Writer(wrote.write, Header(name="0" * 32, made=0.0, version=2)).end()
    path = written(tmp_path / "later.tar", wrote.getvalue())
    with path.open("rb") as file, pytest.raises(ArchiveError, match="version 2; this program knows version 1"):
        Archive(file)


async def test_a_body_that_changes_after_the_check_is_not_taken(tmp_path: Path, archive: Path) -> None:
    with archive.open("rb") as file:
        whole = Archive(file)
        whole.check()
        found = next(whole.messages())
        with archive.open("r+b") as other:
            os.pwrite(other.fileno(), b"X", found.place)
        with pytest.raises(ArchiveError, match="is not the one that was exported"):
            b"".join(whole.body(Found(found.moved, found.place)))
