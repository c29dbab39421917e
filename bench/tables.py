"""Print what a table of a million aliases costs, as a file and as a database: ``python -m bench.tables``."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from control.table_build import build
from policy.tables.database import DbTable
from policy.tables.file import FileTable
from policy.tables.kinds import StoredTable
from policy.tables.table import Shape

ENTRIES: Final = 1_000_000
LOOKUPS: Final = 20_000


def main() -> None:
    """The command."""
    keys = [f"User{random.randrange(ENTRIES)}" for _ in range(LOOKUPS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "aliases"
        rows = [(f"user{number}", f"someone{number}@host{number % 1000}.example.org") for number in range(ENTRIES)]
        path.write_text("".join(f"{key}: {value}\n" for key, value in rows))
        # Old enough for its time to be trusted.
        os.utime(path, (1, 1))
        began = time.perf_counter()
        build(f"{path}.db", Shape.MAPPING, rows)
        built = time.perf_counter() - began
        del rows
        print(f"{ENTRIES} aliases, {path.stat().st_size >> 20} MiB as a file")
        _tell("file", FileTable("t", str(path)), keys)
        _tell("db", DbTable("t", f"{path}.db"), keys)
        print(f"db: written in {built:.1f} s, {Path(f'{path}.db').stat().st_size >> 20} MiB")


def _tell(kind: str, table: StoredTable, keys: Sequence[str]) -> None:
    before, began = _resident(), time.perf_counter()
    table.load()
    loaded = time.perf_counter() - began
    times = []
    for key in keys:
        began = time.perf_counter()
        table.lookup(key)
        times.append((time.perf_counter() - began) * 1e6)
    worst = statistics.quantiles(times, n=100)[98]
    print(
        f"{kind}: loaded in {loaded:.2f} s, {(_resident() - before) >> 20} MiB kept; "
        f"a lookup takes {statistics.median(times):.1f} us, {worst:.1f} us in one of a hundred"
    )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
