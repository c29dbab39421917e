"""The n-th call to the kernel fails, or the process dies in it, for n over all of a life's calls: nothing is lost.

A life accepts, claims, delivers, bounces, writes its log back and stops, in a spool that a crash left behind, so that
recovery is part of it. strace makes a call fail, whether it is ours or SQLite's.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from tests.tools.kept import Told, assert_kept, look
from tests.tools.scorecard import Cases

pytestmark = [
    pytest.mark.reliability("1 n-th call"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.timeout(1200),
]

ROOT = Path(__file__).parents[2]
#: What ends a process whose writes may be lost, and one whose spool cannot be opened now.
LOST = 75
#: Calls of one kind that are tried; a life makes hundreds of some kinds, and then they are evenly spread.
TRIED, MANY_TRIED = 1, 60
FAULTS = {
    "write": ("error=EIO", "error=ENOSPC", "signal=KILL"),
    "pwrite64": ("error=EIO", "error=ENOSPC", "signal=KILL"),
    "fsync": ("error=EIO", "signal=KILL"),
    "fdatasync": ("error=EIO", "signal=KILL"),
    "ftruncate": ("error=EIO", "signal=KILL"),
    "unlink": ("error=EIO", "signal=KILL"),
}


class Life:
    """A spool that a crash left behind, and lives in copies of it."""

    def __init__(self, folder: Path) -> None:
        self._start = folder / "start"
        self._place = folder / "spool"
        self._trace = folder / "trace"
        self._before = Told()
        self._run(self._start, ["after-commit", "10"], [], self._before)

    def calls(self, call: str) -> int:
        """How often a life makes this call: strace counts them for each thread."""
        self._live(call, "error=EIO:when=65535", Told())
        return max(Counter(line.split()[0] for line in self._trace.read_text().splitlines()).values())

    def trouble(self, call: str, fault: str, nth: int) -> str:
        """What is wrong after a life in which the ``nth`` such call met its fault; empty when nothing is."""
        told = Told()
        status = self._live(call, f"{fault}:when={nth}", told)
        told.add_all(self._before)
        if status not in (0, LOST, -signal.SIGKILL, 128 + signal.SIGKILL):
            return f"it ended with {status}"
        is_killed = status in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if not is_killed if "signal" in fault else "INJECTED" not in self._trace.read_text():
            return "it was not met"
        try:
            assert_kept(told, anyio.run(look, self._place), deaths=2)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _live(self, call: str, fault: str, told: Told) -> int:
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self._start, self._place)
        strace = ["strace", "-f", "-qq", "-o", str(self._trace), "-e", f"trace={call}", "-e", f"inject={call}:{fault}"]
        return self._run(self._place, ["never", "1"], strace, told)

    def _run(self, place: Path, how: list[str], under: list[str], told: Told) -> int:
        command = [*under, sys.executable, "-m", "tests.tools.spool_child", str(place), "live", *how]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        for line in done.stdout.splitlines():
            told.add(line)
        return done.returncode


@pytest.mark.parametrize(("call", "fault"), [(call, fault) for call, faults in FAULTS.items() for fault in faults])
def test_whatever_becomes_of_the_nth_call_what_was_acknowledged_is_kept(
    tmp_path: Path, thorough: bool, cases: Cases, call: str, fault: str
) -> None:
    life = Life(tmp_path)
    calls = life.calls(call)
    step = max(1, calls // (MANY_TRIED if thorough else TRIED))
    for nth in range(1 if thorough else step, calls + 1, step):
        cases.tried()
        if trouble := life.trouble(call, fault, nth):
            cases.failed(f"{call} number {nth} of {calls}, {fault}: {trouble}")
