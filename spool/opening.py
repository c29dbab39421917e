"""How a spool is opened and closed: folders, the lock, the tables, and what an unclean stop leaves to do.

Guarantees: one process has the spool open for writing (a lock that the kernel drops with the process). After an unclean
stop every page of the WAL is written and fsynced again before anything is accepted, because the kernel may call pages
clean that never reached the disk. Leases of earlier starts are void.

Failure: `SpoolInUse`, `SpoolTooNew`, `SpoolFull`, `SpoolUnavailable`, `SpoolLost`, or `SpoolError` with the reason.
"""

from __future__ import annotations

import base64
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from spool import migrations
from spool.bodies import BodyFiles
from spool.claims import recover
from spool.clock import Clock, SpoolClock, TimeMark
from spool.database import blame_database, connect
from spool.errors import SpoolError, SpoolFull, SpoolUnavailable, blame
from spool.files import Ops
from spool.instants import Instant
from spool.lock import SpoolLock
from spool.room import Reserve
from spool.store import SQL, Store, Transaction

_log: Final = logging.getLogger(__name__)

#: Random octets of a spool's own name.
INSTANCE_OCTETS: Final = 10


@dataclass(frozen=True, slots=True)
class OpenSpool:
    """A spool that is ours to write."""

    store: Store
    lock: SpoolLock
    #: The spool's own name.
    instance: str
    #: Whether the stop before this start was clean.
    was_clean: bool


def database_path(spool_dir: str) -> str:
    """Where the database lies."""
    return f"{spool_dir}/state.db"


def open_spool(spool_dir: str, clock: Clock, ops: Ops) -> OpenSpool:
    """Take the spool in that folder, made when there is none."""
    with _spool_errors():
        os.makedirs(spool_dir, mode=0o711, exist_ok=True)
        lock = SpoolLock.acquire(spool_dir)
        try:
            return _open(spool_dir, lock, clock, ops)
        except BaseException:
            lock.release()
            raise


def close_spool(spool: OpenSpool) -> None:
    """Leave everything in the database file itself, and say that the stop was clean.

    On a full disk the log stays, with all that was acknowledged in it, for the next start to write back.
    """
    connection = spool.store.connection
    try:
        with _spool_errors(), closing(connection):
            spool.store.ops.reached(Instant.BEFORE_CLOSE)
            _commit(spool.store, _end)
            spool.store.ops.reached(Instant.MARKED_CLEAN)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except SpoolFull as error:
        _log.error("disk full: the log of the database stays for the next start", extra={"reason": str(error)})
    finally:
        spool.lock.release()


def abandon_spool(spool: OpenSpool) -> None:
    """Let go of a spool that was lost: nothing is written any more, and the next start finds an unclean stop."""
    spool.store.connection.close()
    spool.lock.release()


def _open(spool_dir: str, lock: SpoolLock, clock: Clock, ops: Ops) -> OpenSpool:
    bodies = BodyFiles(spool_dir, ops)
    bodies.prepare()
    path = database_path(spool_dir)
    if not os.path.exists(path):
        os.close(ops.create(path))
    # Also when the names are not new: whoever made them may have died before this.
    ops.fsync_directory(spool_dir)
    # A folder above that we may not read was made by somebody else, before us.
    with suppress(PermissionError):
        ops.fsync_directory(os.path.dirname(spool_dir))
    _look_at_version(path)
    connection = connect(path)
    try:
        reserve = Reserve(spool_dir, ops)
        was_clean = _make_ready(connection, reserve, ops)
        store = Store(connection, bodies, SpoolClock(clock, last_mark(connection), last_record(connection)), reserve)
        _commit(store, _begin)
        instance = read_fact(connection, "instance")
        return OpenSpool(store, lock, instance, was_clean)
    except BaseException:
        connection.close()
        raise


def _look_at_version(path: str) -> None:
    """Before the first connection that could write: a later version's spool stays as it is."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            migrations.version_of(connection)
        except sqlite3.OperationalError as error:
            # The very first transaction, before there was a WAL, was cut off: whoever may write undoes it.
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise


def _make_ready(connection: sqlite3.Connection, reserve: Reserve, ops: Ops) -> bool:
    """Have today's tables, and nothing in the WAL that another process wrote. Whether the last stop was clean."""
    if migrations.version_of(connection) == 0:
        migrations.create(connection)
        ops.reached(Instant.TABLES_MADE)
        return True
    was_clean = read_fact(connection, "clean") == "1"
    if not was_clean:
        ops.reached(Instant.BEFORE_RECOVERY)
        _rewrite_wal(connection, reserve)
        ops.reached(Instant.AFTER_RECOVERY)
    migrations.migrate(connection)
    return was_clean


def _rewrite_wal(connection: sqlite3.Connection, reserve: Reserve) -> None:
    try:
        _, frames, written = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if not isinstance(blame_database(error), SpoolFull) or not reserve.release():
            raise
        _, frames, written = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if frames != written:
        raise SpoolUnavailable("another program reads the database: its log cannot be written back")


def _begin(tx: Transaction) -> None:
    start = int(read_fact(tx.connection, "start") or 0) + 1
    if start == 1:
        write_fact(tx, "instance", base64.b32hexencode(os.urandom(INSTANCE_OCTETS)).decode().lower())
    write_fact(tx, "start", str(start))
    write_fact(tx, "clean", "0")
    recover(tx)
    tx.mark()


def _end(tx: Transaction) -> None:
    write_fact(tx, "clean", "1")
    tx.mark()


def _commit(store: Store, piece: Callable[[Transaction], None]) -> None:
    (result,) = store.run([piece]).results
    if isinstance(result, Exception):
        raise result


def last_mark(connection: sqlite3.Connection) -> TimeMark | None:
    """The moment that was kept last; None in a new spool."""
    row = connection.execute(SQL["get_time_mark"]).fetchone()
    return TimeMark(*row) if row else None


def last_record(connection: sqlite3.Connection) -> int:
    """The latest spool time in the history, which the last mark may not have seen; 0 without a history."""
    row = connection.execute(SQL["last_ended"]).fetchone()
    return int(row[0]) if row else 0


def write_fact(tx: Transaction, name: str, value: str) -> None:
    """Keep a small fact; an empty one is forgotten."""
    if value:
        tx.execute(SQL["set_fact"], (name, value))
    else:
        tx.execute(SQL["forget_fact"], (name,))


def read_fact(connection: sqlite3.Connection, name: str) -> str:
    """A small fact that is kept; empty when it is not."""
    row = connection.execute(SQL["get_fact"], (name,)).fetchone()
    return row[0] if row else ""


@contextmanager
def _spool_errors() -> Iterator[None]:
    try:
        yield
    except SpoolError:
        raise
    except sqlite3.Error as error:
        raise blame_database(error) or SpoolError(str(error)) from error
    except OSError as error:
        raise blame(error) from error
