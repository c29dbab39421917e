"""Errors of the kernel for a process that runs: strace attaches to it, and the n-th call of a kind fails."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.daemon import wait_for

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@dataclass(frozen=True)
class Fault:
    """The ``nth`` such call of each thread fails with ``error``; 0 stands for every one."""

    call: str
    error: str
    nth: int = 0
    #: Whether all that come after it fail too.
    lasts: bool = False
    #: Whether only the process's first thread is meant, in which asyncio runs.
    loop_only: bool = False

    def options(self) -> list[str]:
        """What strace is told."""
        when = f":when={self.nth}{'+' if self.lasts else ''}" if self.nth else ""
        threads = [] if self.loop_only else ["-f"]
        return [*threads, "-e", f"trace={self.call}", "-e", f"inject={self.call}:error={self.error}{when}"]


@contextmanager
def injected(process: subprocess.Popen[bytes], fault: Fault, trace: Path) -> Iterator[None]:
    """While this lasts the process meets the fault; every such call is in ``trace``, with the paths of its files.

    A process that ends of it should end in here.
    """
    command = ["strace", "-q", "-y", "-o", str(trace), *fault.options(), "-p", str(process.pid)]

    def threads() -> list[Path]:
        every = Path(f"/proc/{process.pid}/task")
        return [every / str(process.pid)] if fault.loop_only else list(every.iterdir())

    def is_traced() -> bool:
        try:
            return all("TracerPid:\t0\n" not in (thread / "status").read_text() for thread in threads())
        except FileNotFoundError:
            return process.poll() is not None

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        try:
            wait_for(lambda: is_traced() or process.poll() is not None, "strace to be there")
            yield
        finally:
            _end(tracer)


def _end(tracer: subprocess.Popen[bytes]) -> None:
    """Let go of the process. A tracer that is told to while the process exits can wait for ever."""
    tracer.terminate()
    try:
        tracer.wait(5)
    except subprocess.TimeoutExpired:
        tracer.kill()


def met(trace: Path) -> str:
    """The call that failed; empty when none did."""
    return next((line for line in trace.read_text().splitlines() if "INJECTED" in line), "")
