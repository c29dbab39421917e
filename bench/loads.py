"""Loads for a mail server in a machine: what is sent to it, and where it has to arrive."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.houses import ADDRESS, DOMAIN, PATIENCE, PORT, USERS, Place
from tests.peers.machine import Machine

#: Where the next hop listens.
SINK_PORT = 2526
REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Load:
    """Messages through sessions of ``smtp-source``."""

    messages: int
    size: int = 4096
    sessions: int = 20
    #: Whether a session sends one message after the other, or each message has its own.
    keeps: bool = True
    #: To how many users; a process of ``smtp-source`` for each if there are several.
    users: int = 1

    def run(self, machine: Machine, domain: str = DOMAIN) -> None:
        """Send all of them; returns with the last 250."""
        each, sessions = self.messages // self.users, max(1, self.sessions // self.users)
        processes = []
        for user in USERS[: self.users]:
            options = ["-s", str(sessions), "-m", str(each), "-l", str(self.size), "-f", "load@load.example"]
            words = ["smtp-source", *(["-d"] if self.keeps else []), *options, "-t", f"{user}@{domain}"]
            processes.append(subprocess.Popen(machine.enter([*words, f"{ADDRESS}:{PORT}"]), stderr=subprocess.PIPE))
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            if process.returncode:
                raise RuntimeError(f"smtp-source: {errors.decode()}")


def wait_arrived(place: Place, kind: str, load: Load) -> None:
    """Until every message is in its mailbox."""
    users = USERS[: load.users]

    def arrived() -> bool:
        if kind == "mbox":
            files = [place.mail / user for user in users]
            # Every message is longer than its content.
            return sum(file.stat().st_size for file in files if file.exists()) > load.messages * load.size
        folders = [place.homes / user / "Maildir/new" for user in users]
        return sum(_entries(folder) for folder in folders) >= load.messages

    _poll(arrived, f"{load.messages} messages in {kind}")


def _entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


@dataclass(slots=True)
class Sink:
    """``smtp-sink`` with its counter."""

    output: Path

    @property
    def count(self) -> int:
        """Messages so far."""
        octets = self.output.stat().st_size
        with self.output.open("rb") as file:
            file.seek(max(0, octets - 200))
            numbers = re.findall(rb"mesg=(\d+)", file.read())
        return int(numbers[-1]) if numbers else 0

    def wait(self, messages: int) -> None:
        """Until so many have come."""
        _poll(lambda: self.count >= messages, f"{messages} messages at the sink")


@contextmanager
def sink(place: Place, port: int = SINK_PORT, options: Sequence[str] = ()) -> Iterator[Sink]:
    """The next hop."""
    output = place.folder / f"sink{port}"
    with output.open("wb") as file:
        words = ["smtp-sink", "-u", "nobody", "-c", *options, f"{ADDRESS}:{port}", "1000"]
        process = subprocess.Popen(place.machine.enter(words), stdout=file, stderr=subprocess.DEVNULL)
        place.machine.wait_port(ADDRESS, port)
        try:
            yield Sink(output)
        finally:
            # Its parent is nsenter, which does not pass a signal on.
            place.machine.run(["pkill", "-TERM", "-f", f"smtp-sink .*:{port} "], check=False)
            process.wait()


def _poll(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.02)


def inside(machine: Machine, module: str, *arguments: str, environment: Sequence[str] = ()) -> list[float]:
    """What a module of this package prints when it runs in the machine: a list of numbers."""
    words = ["env", f"PYTHONPATH={REPOSITORY}", *environment, sys.executable, "-m", module, *arguments]
    done = subprocess.run(machine.enter(words), capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr}")
    found: list[float] = json.loads(done.stdout)
    return found
