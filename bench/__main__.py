"""Print messages/s for each way through the spooler, the time of one ``sendmail``, and the daemon's memory.

Needs Postfix's ``smtp-source`` and ``smtp-sink``. Every figure is the median of `RUNS` runs; the load generators share the
machine with the daemon, so only figures of one run compare.
"""

from __future__ import annotations

import getpass
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.system import BIN, System, free_port

RUNS = 3
SESSIONS = 20
MESSAGES = 3000
SIZE = 4096
USER = getpass.getuser()
LOCAL = 'match for local action "in"\n'


@dataclass(frozen=True, slots=True)
class Figure:
    """One run of one measurement."""

    per_second: float
    cpu_ms: float
    resident_mib: float


def send(system: System, recipient: str, keep_alive: bool = True) -> None:
    """Push `MESSAGES` messages through `SESSIONS` sessions."""
    options = ["-s", str(SESSIONS), "-m", str(MESSAGES), "-l", str(SIZE), "-f", "bench@bench.example", "-t", recipient]
    command = ["smtp-source", *(["-d"] if keep_alive else []), *options, f"127.0.0.1:{system.port}"]
    subprocess.run(command, check=True, capture_output=True)


def accept_held(keep_alive: bool) -> Figure:
    """Accept only: delivery is paused."""
    with System('action "in" maildir "/Maildir"\n' + LOCAL, paused="mda") as system:
        return _timed(system, lambda: send(system, f"{USER}@localhost", keep_alive), lambda: None)


def deliver_locally(action: str) -> Figure:
    """Accept and deliver to one local mailbox, until the queue is empty."""
    with System(f'action "in" {action}\n' + LOCAL) as system:
        return _timed(system, lambda: send(system, f"{USER}@localhost"), system.wait_empty)


def relay() -> Figure:
    """Accept and relay to a sink, until the queue is empty."""
    port = free_port()
    unprivileged = ["-u", "nobody"] if os.geteuid() == 0 else []
    sink = subprocess.Popen(["smtp-sink", *unprivileged, f"127.0.0.1:{port}", "1000"])
    try:
        out = f'action "out" relay host "smtp://127.0.0.1:{port}"\nmatch for any action "out"\n'
        with System(out) as system:
            return _timed(system, lambda: send(system, "x@remote.example"), system.wait_empty)
    finally:
        sink.terminate()
        sink.wait()


def _timed(system: System, load: Callable[[], None], finish: Callable[[], None]) -> Figure:
    before, started = system.cpu_seconds(), time.monotonic()
    load()
    finish()
    elapsed = time.monotonic() - started
    cpu = (system.cpu_seconds() - before) * 1000 / MESSAGES
    return Figure(MESSAGES / elapsed, cpu, system.resident_mib(peak=True))


def sendmail_ms() -> float:
    """One ``sendmail`` for a small message, whole process, median of 40, in milliseconds."""
    with System('action "in" maildir "/Maildir"\n' + LOCAL) as system:
        times = []
        for _ in range(40):
            started = time.monotonic()
            environment = {**os.environ, "SMTPD_ROOT": str(system.root)}
            message = b"Subject: bench\n\nhello\n"
            subprocess.run([BIN / "sendmail", USER], input=message, check=True, env=environment)
            times.append((time.monotonic() - started) * 1000)
        return statistics.median(times)


def idle_mib() -> float:
    """Resident memory of a daemon that has done nothing yet, in MiB."""
    with System('action "in" maildir "/Maildir"\n' + LOCAL) as system:
        return system.resident_mib()


def fsyncs_per_second() -> float:
    """What this disk does, now: 4 KiB appended and fsynced, one after the other."""
    with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:
        started = time.monotonic()
        for _ in range(300):
            os.write(file.fileno(), b"x" * 4096)
            os.fsync(file.fileno())
        return 300 / (time.monotonic() - started)


MEASUREMENTS: tuple[tuple[str, Callable[[], Figure]], ...] = (
    (f"accept, held, {SESSIONS} kept-alive sessions", lambda: accept_held(keep_alive=True)),
    ("accept, held, one message a session", lambda: accept_held(keep_alive=False)),
    ("accept to relayed at a sink", relay),
    ("accept to Maildir, one user", lambda: deliver_locally('maildir "/Maildir"')),
    ("accept to mbox, one user", lambda: deliver_locally("mbox")),
)


def main() -> None:
    """Run everything and print a table."""
    lacking = [tool for tool in ("smtp-source", "smtp-sink") if shutil.which(tool) is None]
    if lacking:
        sys.exit(f"bench: {' and '.join(lacking)} not found: install Postfix's package")
    machine = f"{os.cpu_count()} cores, {fsyncs_per_second():.0f} fsync/s"
    print(f"{MESSAGES} messages of {SIZE} octets, medians of {RUNS} runs; {machine}")
    for name, measure in MEASUREMENTS:
        figures = [measure() for _ in range(RUNS)]
        rates = sorted(figure.per_second for figure in figures)
        cpu = statistics.median(figure.cpu_ms for figure in figures)
        peak = max(figure.resident_mib for figure in figures)
        spread = f"({rates[0]:.0f} to {rates[-1]:.0f})"
        rate = statistics.median(rates)
        print(f"{name:46} {rate:7.0f} messages/s {spread:16} {cpu:6.2f} ms CPU each, peak {peak:.0f} MiB", flush=True)
    print(f"{'sendmail, one small message':46} {sendmail_ms():7.0f} ms")
    print(f"{'memory of the idle daemon':46} {idle_mib():7.0f} MiB")


if __name__ == "__main__":
    main()
