"""The processes of a daemon whose roles have one each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from control.separated.accounts import Role
from tests.tools.daemon import Daemon


def process_of(daemon: Daemon, role: Role) -> int:
    """The process with that role, or one of them."""
    return processes_of(daemon, role)[0]


def processes_of(daemon: Daemon, role: Role) -> list[int]:
    """All processes with that role."""
    assert daemon.process is not None
    names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in family(daemon.process.pid)}
    return [pid for pid, name in names.items() if name == f"smtpd: {role.value}\n"]


def family(pid: int) -> Iterator[int]:
    """A process, and all that were started by it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from family(int(child))
