"""Processes that die while they hold a spool: what they were promised is there, whole, and once.

Each test starts a process of its own, ends it, and looks at the spool as the next start finds it. The instants are those of
``docs/durability.md``.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from spool.errors import SpoolInUse
from spool.instants import Instant
from spool.layout import layout
from spool.writer import SpoolWriter
from tests.tools.faults import files_in
from tests.tools.kept import Told, assert_kept, assert_whole, look
from tests.tools.spool_child import SEALS

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("1 instants")]

ROOT = Path(__file__).parents[2]
STRACE = shutil.which("strace")


def start(root: Path, *arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*under, sys.executable, "-m", "tests.tools.spool_child", str(root), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(root: Path, *arguments: str, under: tuple[str, ...] = ()) -> tuple[Told, int]:
    """Let a process live to its end; what it said, and how it ended."""
    child = start(root, *arguments, under=under)
    output, errors = child.communicate(timeout=60)
    told = Told()
    for line in output.splitlines():
        told.add(line)
    assert child.returncode in (0, 75, -signal.SIGKILL, 128 + signal.SIGKILL), errors
    return told, child.returncode


async def test_killed_at_any_moment_twenty_sessions_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(4711)
    acknowledged: set[str] = set()
    for _ in range(6):
        child = start(tmp_path, "accept", "20")
        assert child.stdout is not None
        assert child.stdout.readline() == "opened\n"
        await anyio.sleep(rng.uniform(0.02, 0.4))
        child.kill()
        output, _ = child.communicate(timeout=30)
        acknowledged |= {line.split()[1] for line in output.splitlines() if line.startswith("accepted ")}
        found = await look(tmp_path)
        assert acknowledged - set(found.mail) == set(), "acknowledged and lost"
        assert_whole(found)
    assert len(acknowledged) > 100


LIVES = [
    Instant.BODY_CREATED,
    Instant.BODIES_SYNCED,
    Instant.BODIES_PUBLISHED,
    Instant.BEFORE_COMMIT,
    Instant.AFTER_COMMIT,
    Instant.BEFORE_UNLINK,
    Instant.BEFORE_CHECKPOINT,
    Instant.AFTER_CHECKPOINT,
    Instant.TABLES_MADE,
    Instant.BEFORE_CLOSE,
    Instant.MARKED_CLEAN,
]
#: How often an instant is passed before the process dies there: beginnings, and the midst of a life.
NTH = {Instant.BEFORE_COMMIT: (1, 4, 6, 7, 9), Instant.AFTER_COMMIT: (1, 4, 6, 7, 9)}


@pytest.mark.parametrize(("instant", "nth"), [(instant, nth) for instant in LIVES for nth in NTH.get(instant, (1,))])
async def test_killed_at_an_instant_the_spool_keeps_its_contract(tmp_path: Path, instant: Instant, nth: int) -> None:
    told, status = run(tmp_path, "live", instant, str(nth))
    assert status == -signal.SIGKILL, "it did not come to that instant"
    assert_kept(told, await look(tmp_path))


@pytest.mark.reliability("7 at rest")
@pytest.mark.parametrize(
    "instant",
    [
        Instant.BODY_CREATED,
        Instant.BODIES_PUBLISHED,
        Instant.BEFORE_COMMIT,
        Instant.AFTER_COMMIT,
        Instant.BEFORE_UNLINK,
    ],
)
async def test_killed_with_sealed_bodies_the_spool_keeps_its_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instant: Instant
) -> None:
    monkeypatch.setenv(SEALS, "1")
    told, status = run(tmp_path, "live", instant, "1" if instant not in NTH else "4")
    assert status == -signal.SIGKILL, "it did not come to that instant"
    assert_kept(told, await look(tmp_path))


@pytest.mark.parametrize("instant", [Instant.BEFORE_RECOVERY, Instant.AFTER_RECOVERY])
async def test_killed_while_it_recovers_the_spool_recovers_again(tmp_path: Path, instant: Instant) -> None:
    told, _ = run(tmp_path, "live", Instant.AFTER_COMMIT, "6")
    nothing, status = run(tmp_path, "live", instant, "1")
    assert (status, nothing.words) == (-signal.SIGKILL, {})
    assert_kept(told, await look(tmp_path))


async def test_killed_while_it_moves_an_orphan_the_orphan_is_moved_later(tmp_path: Path) -> None:
    run(tmp_path, "live", Instant.BODIES_PUBLISHED, "1")
    spool_dir = layout(str(tmp_path)).spool_dir
    (orphan,) = files_in(f"{spool_dir}/msg")
    _, status = run(tmp_path, "live", Instant.BEFORE_ORPHAN, "1")
    assert status == -signal.SIGKILL
    assert orphan in files_in(f"{spool_dir}/msg")
    _, status = run(tmp_path, "live", Instant.BEFORE_ORPHAN, "99")
    assert status == 0
    assert files_in(f"{spool_dir}/orphan") == [orphan]


async def test_a_second_process_is_told_who_has_the_spool_and_harms_nobody(tmp_path: Path) -> None:
    child = start(tmp_path, "accept", "2")
    assert child.stdout is not None
    assert child.stdout.readline() == "opened\n"
    with pytest.raises(SpoolInUse, match=f"process {child.pid}$"):
        await SpoolWriter.open(layout(str(tmp_path)))
    assert child.stdout.readline().startswith("accepted ")
    child.kill()
    child.communicate(timeout=30)


def injected(call: str, what: str, when: int) -> tuple[str, ...]:
    assert STRACE is not None
    return (STRACE, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={when}")


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize(("call", "when"), [("fdatasync", 8), ("fdatasync", 15), ("pwrite64", 123), ("pwrite64", 234)])
async def test_killed_within_a_commit_the_spool_keeps_its_contract(tmp_path: Path, call: str, when: int) -> None:
    """The numbers fall into the midst of a life in a spool that is there already."""
    before, _ = run(tmp_path, "live", "never", "1")
    told, _ = run(tmp_path, "live", "never", "1", under=injected(call, "signal=KILL", when))
    assert (told["opened"], told["closed"]) == ({""}, set()), "it was killed too early, or not at all"
    told.add_all(before)
    assert_kept(told, await look(tmp_path))


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize(("call", "when"), [("fdatasync", 12), ("pwrite64", 200), ("fsync", 9)])
async def test_after_a_failed_write_nothing_more_is_acknowledged(tmp_path: Path, call: str, when: int) -> None:
    before, _ = run(tmp_path, "live", "never", "1")
    told, status = run(tmp_path, "live", "never", "1", under=injected(call, "error=EIO", when))
    assert told["opened"] == {""}, "it failed before the time"
    assert (status, told["lost"]) == (75, {""}), "the process went on as if nothing had happened"
    told.add_all(before)
    assert_kept(told, await look(tmp_path))
