"""The connection to ``state.db``: how it is opened, what is set and asserted on it, and whose fault its errors are.

Guarantees: a connection from `connect` writes through a WAL with ``synchronous=FULL`` and keeps foreign keys; anything else
is an error here, not a surprise after a power cut.

Failure: `blame_database` names the spool's error for one of SQLite's.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from spool.errors import SpoolError, SpoolFull, SpoolLost, SpoolUnavailable

#: STRICT tables and UPDATE ... FROM; Debian 12 has 3.40.
OLDEST_SQLITE: Final = (3, 37, 0)
#: Octets of a page, fixed when the spool is made.
PAGE_SIZE: Final = 4096
#: Seconds that a commit waits for another program that has the database locked, before the client is told to come back.
PATIENCE: Final = 2.0
#: Prepared statements that are kept: all of queries.sql.
PREPARED: Final = 256
#: Octets of pages kept in memory; a queue of a million must not make the process grow.
PAGE_CACHE: Final = 8 * 1024 * 1024
#: Octets that the WAL file keeps after a checkpoint has emptied it.
WAL_KEPT: Final = 32 * 1024 * 1024

_FULL: Final = frozenset({sqlite3.SQLITE_FULL})
_LOST: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)


def connect(path: str) -> sqlite3.Connection:
    """The one connection that writes. It is handed from the thread that opens it to the one that uses it."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise SpoolError(f"SQLite {sqlite3.sqlite_version} is too old")
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=PREPARED
    )
    try:
        _configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    if not connection.execute("PRAGMA schema_version").fetchone()[0]:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    settings = {
        "synchronous": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
        "cache_size": -(PAGE_CACHE // 1024),
        "journal_size_limit": WAL_KEPT,
        # A sort of many rows must not need room on a full disk.
        "temp_store": 2,
    }
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}")
    # Deleted mail is wiped where that costs no extra write.
    connection.execute("PRAGMA secure_delete = FAST")
    wrong = [name for name, value in settings.items() if connection.execute(f"PRAGMA {name}").fetchone()[0] != value]
    if mode != "wal" or wrong:
        raise SpoolError(f"SQLite refused journal_mode=WAL or {', '.join(wrong) or 'nothing else'}")


def blame_database(error: sqlite3.Error) -> SpoolError | None:
    """The spool's error, or None when only the statement at hand was wrong."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & 0xFF
    text = f"{error} ({error.sqlite_errorname})"
    if primary in _FULL:
        return SpoolFull(errno.ENOSPC, text)
    if primary in _LOST:
        return SpoolLost(text)
    return SpoolUnavailable(errno.EIO, text) if primary in _UNAVAILABLE else None


def is_unreadable(error: sqlite3.Error) -> bool:
    """Whether a row was found but its text is no text: Python's own complaint, without a code of SQLite's."""
    return getattr(error, "sqlite_errorcode", None) is None
