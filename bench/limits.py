"""What the machine itself can do in this hour."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

#: Seconds for each.
LONG = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Of cores there are so many; the rest is done so often a second."""

    cores: int
    #: 4 KiB appended to a file and fsynced.
    fsyncs: float
    #: Created, written, fsynced, renamed, its directory fsynced.
    files: float
    #: A 4 KiB row committed by itself: WAL, ``synchronous=FULL``.
    commits: float
    #: 4 KiB rows, a hundred a commit.
    rows: float


def limits_of(folder: Path) -> Limits:
    """Measured in ``folder``."""
    return Limits(os.cpu_count() or 1, _fsyncs(folder), _files(folder), _commits(folder, 1), _commits(folder, 100))


def _fsyncs(folder: Path) -> float:
    with (folder / "appended").open("wb", buffering=0) as file:
        done, started = 0, time.monotonic()
        while time.monotonic() - started < LONG:
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            done += 1
        return done / (time.monotonic() - started)


def _files(folder: Path) -> float:
    directory = os.open(folder, os.O_RDONLY)
    done, started = 0, time.monotonic()
    while time.monotonic() - started < LONG:
        with (folder / "new").open("wb", buffering=0) as file:
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
        os.rename(folder / "new", folder / f"file{done}")
        os.fsync(directory)
        done += 1
    os.close(directory)
    return done / (time.monotonic() - started)


def _commits(folder: Path, each: int) -> float:
    connection = sqlite3.connect(folder / f"database{each}", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE body (id INTEGER PRIMARY KEY, octets BLOB)")
    done, started = 0, time.monotonic()
    while time.monotonic() - started < LONG:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO body (octets) VALUES (?)", [(b"x" * 4096,)] * each)
        connection.execute("COMMIT")
        done += each
    elapsed = time.monotonic() - started
    connection.close()
    return done / elapsed
