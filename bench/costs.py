"""What the processes of a machine cost, but for the load generators."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.machine import Machine

#: Seconds between two looks of a `Watch`: to look takes some milliseconds of a core.
PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Costs:
    """Of all processes of a machine but the load generators."""

    #: Seconds by the names of the processes, those that have ended included where somebody waited for them.
    cpu: dict[str, float]
    #: Memory that is theirs, with their part of what they share, in MiB.
    pss: float
    processes: int


#: What is not the server.
_OTHERS = ("sleep", "smtp-source", "smtp-sink", "nsenter", "unshare")


def costs_in(machine: Machine) -> Costs:
    """What everything that runs there has cost until now."""
    cpu: dict[str, float] = {}
    pss, processes = 0, 0
    for pid in _processes(machine):
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            # It ended meanwhile, or has ended and nobody has waited for it.
            continue
        if name in _OTHERS:
            continue
        cpu[name] = cpu.get(name, 0.0) + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        pss += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        processes += 1
    return Costs(cpu, pss / 1024, processes)


def _processes(machine: Machine) -> Iterator[int]:
    namespace = os.readlink(machine.path("/proc/1/ns/pid"))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "ns/pid") == namespace:
                    yield int(entry.name)
            except OSError:
                continue


class Watch:
    """Looks at the memory again and again while it is open. It costs the servers time: not for where speed counts."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        #: MiB.
        self.highest = 0.0
        #: How many they were then.
        self.processes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            costs = costs_in(self._machine)
            if costs.pss > self.highest:
                self.highest, self.processes = costs.pss, costs.processes
            self._over.wait(PAUSE)
