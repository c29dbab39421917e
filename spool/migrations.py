"""Schema versions: how a new spool gets its tables, and an older one those of today.

Guarantees: each version is reached in one transaction, its number included. A spool of a later version is left untouched.

Failure: `SpoolTooNew`.

SQLite's ``user_version`` says which version a file has. A new spool is made as today's ``schema.sql`` says; an older one
climbs the `STEPS` above its version, through sqlite-utils, which is imported only then: it costs 120 ms and 16 MB.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

from spool.errors import SpoolTooNew
from spool.statements import load

if TYPE_CHECKING:
    from sqlite_utils import Database

Step: TypeAlias = "Callable[[Database], None]"


#: Where the header of a database has its ``user_version`` (SQLite, file format 1.3).
_VERSION_AT: Final = 60
#: Read at once: the process that makes a spool may not be able to read our files by then.
_SCHEMA: Final = load("schema.sql")


def _sealed_bodies(database: Database) -> None:
    """Rows say how their bodies are sealed; those that are there lie open."""
    database.execute("ALTER TABLE message ADD COLUMN compression TEXT NOT NULL DEFAULT ''")
    database.execute("ALTER TABLE message ADD COLUMN key_id TEXT")
    database.execute("ALTER TABLE message ADD COLUMN salt BLOB")
    database.execute("CREATE INDEX message_key ON message (key_id) WHERE key_id IS NOT NULL")


def _warnings_by_time(database: Database) -> None:
    """Delay notices are found by the time at which they are owed, whatever lane they wait in."""
    database.execute("DROP INDEX envelope_warning")
    database.execute("CREATE INDEX envelope_warning ON envelope (warn_at) WHERE state = 0 AND warn_at IS NOT NULL")


#: What leads from the version before to this one.
STEPS: Final[Mapping[int, Step]] = {2: _sealed_bodies, 3: _warnings_by_time}
#: The version of the tables that this program works with.
VERSION: Final = max(STEPS, default=1)


def version_of(connection: sqlite3.Connection, newest: int = VERSION) -> int:
    """The version of a spool, 0 for a new one; raises `SpoolTooNew`."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > newest:
        raise SpoolTooNew(f"this spool has version {found}; this program knows versions up to {newest}")
    return found


def read_climb(path: str) -> None:
    """Read the code that leads this database upwards, if it may need that: the process that climbs may have no way to it.

    What the file says may be behind its log, but never ahead of it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return  # a new spool has nothing to climb; whatever else is wrong, its opening will tell
    with os.fdopen(descriptor, "rb") as file:
        file.seek(_VERSION_AT)
        found = int.from_bytes(file.read(4), "big")
    if found != VERSION:
        import_module("sqlite_utils.migrations")


def create(connection: sqlite3.Connection) -> None:
    """Make the tables of a new spool."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.values():
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def migrate(connection: sqlite3.Connection, steps: Mapping[int, Step] = STEPS) -> None:
    """Lead an older spool through the steps above its version; does nothing when there are none."""
    found = version_of(connection, max(steps, default=VERSION))
    missing = {version: step for version, step in sorted(steps.items()) if version > found}
    if not missing:
        return
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    climb = Migrations("mailspool")
    for version, step in missing.items():
        climb(name=f"version {version}")(_with_number(version, step))
    climb.apply(Database(connection, execute_plugins=False))


def _with_number(version: int, step: Step) -> Step:
    def climbed(database: Database) -> None:
        step(database)
        database.execute(f"PRAGMA user_version = {version}")

    return climbed
