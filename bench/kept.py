"""The figures of a bench in a file, row by row, so that rows measured one by one make one table.

*Guarantees*: a row that is measured again replaces the one before; the others stay, each with its machine's limits.
*Failure*: a file that holds something else raises `msgspec.DecodeError`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.limits import Limits
from bench.rows import ROWS
from bench.table import Runs


@dataclass(frozen=True, slots=True)
class Kept:
    """A row with what it depends on."""

    #: When it was measured, as ISO 8601 has it.
    at: str
    machine: Limits
    runs: Runs


def read(path: Path) -> dict[str, Kept]:
    """What the file holds, in the order of the table; nothing without it. Another kind of file ends the program."""
    if not path.exists():
        return {}
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=dict[str, Kept])
    except msgspec.MsgspecError as error:
        raise SystemExit(
            f"bench: {path} is not what is kept here ({error}): move it away, or name another with --json"
        ) from None
    return {row.key: rows[row.key] for row in ROWS if row.key in rows}


def add(path: Path, new: Kept) -> None:
    """Put a row into the file."""
    rows = {**read(path), new.runs.key: new}
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f"{path.name}.new")
    whole.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    os.replace(whole, path)
