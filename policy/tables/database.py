"""Tables in databases that makemap and newaliases write: one file, a key and a value a row.

The file is one of SQLite, which every Python brings; docs/decisions/0005-table-databases.md says why not Berkeley DB. It is
never written in place but replaced as a whole, so it is opened as one that cannot change, and opened again when another
file has taken its name.

Guarantees: every lookup is answered by one database, from before or after it was replaced. No lock is taken and nothing is
written beside it, so the daemon needs no more than to read it.

Failure: `TableUnavailable` when the file is gone, is none of ours, is damaged, or serves another use than it did.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias
from urllib.parse import quote

from policy.errors import TableUnavailable
from policy.quoting import quoted
from policy.tables.format import MAX_FAULTS, Fault, TableSyntaxError, any_entry
from policy.tables.patterns import Patterns
from policy.tables.service import Service
from policy.tables.table import Shape

#: What tells our databases from others' ("MSPT", see the `application_id` of SQLite), and the form of their tables.
APPLICATION_ID: Final = 0x4D535054
FORM: Final = 1

#: How a list is called in a database. As in OpenSMTPD, a mapping serves as the list of its keys too.
_LIST: Final = "list"

#: The index holds the few keys that stand for more than themselves, so that they are found without reading all.
_IS_PATTERN: Final = "instr(key, '*') OR instr(key, '/') OR instr(key, ':')"
_SCHEMA: Final = f"""
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = {FORM};
    CREATE TABLE about (shape TEXT NOT NULL) STRICT;
    CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX patterns ON entries (key) WHERE {_IS_PATTERN};
"""

#: Keys that are read at once.
_PAGE: Final = 1000

#: Device, inode, size and time of the last change: what tells one file from the next.
_Signature: TypeAlias = tuple[int, int, int, int]


def write_database(path: str, shape: Shape, entries: Iterable[tuple[str, str]]) -> None:
    """Fill the empty file ``path`` with ``entries``, whose keys are lower-case and differ; `sqlite3.Error`, `OSError`.

    Nothing is flushed to the disk, and nobody may read it yet: it is for the caller to put it in its place.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        connection.execute("BEGIN")
        connection.execute("INSERT INTO about VALUES (?)", (_LIST if shape is Shape.LIST else "mapping",))
        connection.executemany("INSERT INTO entries VALUES (?, ?)", sorted(entries))
        connection.execute("COMMIT")
    finally:
        connection.close()


class Database:
    """One file, open. Raises `TableUnavailable`, also from its construction."""

    def __init__(self, table: str, path: str) -> None:
        self._said = f"table {table}: {path}"
        self._lock = threading.Lock()
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            # A FIFO in its place would stop us for ever.
            raise TableUnavailable(f"{self._said}: not a regular file")
        self.signature = _signature(status)
        self._connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        weakref.finalize(self, self._connection.close)
        self.shape = self._shape()
        self.patterns = Patterns(self._pattern_keys, self.values if self.shape is Shape.LIST else self.keys)

    def find(self, key: str) -> str | None:
        """The value of a key, which is lower-case."""
        try:
            rows = self._rows("SELECT value FROM entries WHERE key = ?", key)
        except UnicodeEncodeError:
            return None
        return rows[0] if rows else None

    def keys(self) -> Iterator[str]:
        """All keys, sorted; those who want only some read no more."""
        keys = self._rows("SELECT key FROM entries ORDER BY key LIMIT ?", _PAGE)
        while keys:
            yield from keys
            keys = self._rows("SELECT key FROM entries WHERE key > ? ORDER BY key LIMIT ?", keys[-1], _PAGE)

    def values(self) -> list[str]:
        """All values, in the order of their keys."""
        return self._rows("SELECT value FROM entries ORDER BY key")

    def _pattern_keys(self) -> list[str]:
        return self._rows(f"SELECT key FROM entries WHERE {_IS_PATTERN}")  # noqa: S608  (a constant)

    def _shape(self) -> Shape:
        if (self._number("application_id"), self._number("user_version")) != (APPLICATION_ID, FORM):
            raise TableUnavailable(f'{self._said}: not a database of makemap: "makemap FILE" writes one')
        return Shape.LIST if self._rows("SELECT shape FROM about") == [_LIST] else Shape.EITHER

    def _number(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0])

    def _rows(self, statement: str, *parameters: str | int) -> list[str]:
        try:
            with self._lock:
                return [row[0] for row in self._connection.execute(statement, parameters)]
        except sqlite3.Error as error:
            raise TableUnavailable(f"{self._said}: {error}") from error


class DbTable:
    """A list or mapping in the database ``path``. ``load`` it before the first lookup."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._wanted = Shape.EITHER
        self._database: Database | None = None
        self._trouble = ""

    def __getstate__(self) -> dict[str, object]:
        # Another process opens it for itself.
        return {**vars(self), "_database": None}

    def __repr__(self) -> str:
        return f"<DbTable {self.name} {self.path}>"

    @property
    def written(self) -> str:
        """Its path."""
        return quoted(f"db:{self.path}")

    @property
    def shape(self) -> Shape:
        """What its entries are."""
        return self._current().shape

    @property
    def is_stale(self) -> bool:
        """Never: a database is opened in no time."""
        return False

    @property
    def trouble(self) -> str:
        """Why there was no database when it was looked for."""
        return self._trouble

    def refresh(self) -> None:
        """Take the present database."""
        with contextlib.suppress(TableUnavailable):
            self._current()

    def serving(self, shape: Shape, service: Service) -> DbTable:
        """This table: from now on a database of another shape is a wrong one. Raises `TableSyntaxError`."""
        if shape is not Shape.EITHER:
            self._wanted = shape
        if service.fault is not any_entry:
            database = self._current()
            pairs = zip(database.keys(), database.values(), strict=True)
            # An entry has no line here.
            faults = [Fault(0, fault) for key, value in pairs if (fault := service.fault(key, value))]
            if faults:
                raise TableSyntaxError(*faults[:MAX_FAULTS])
        return self

    def load(self) -> None:
        """Open the database for the first time."""
        self._current()

    def lookup(self, key: str) -> str | None:
        """The value of ``key``, or None."""
        return self._current().find(key.lower())

    def keys(self) -> Iterable[str]:
        """All keys."""
        return self._current().keys()

    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""
        return self._current().patterns

    def _current(self) -> Database:
        try:
            database = self._present()
        except TableUnavailable as error:
            self._trouble = str(error)
            raise
        self._trouble = ""
        return database

    def _present(self) -> Database:
        try:
            signature = _signature(os.stat(self.path))
            if self._database is None or self._database.signature != signature:
                self._database = self._open()
        except FileNotFoundError as error:
            hint = "makemap or newaliases writes it"
            raise TableUnavailable(f"table {self.name}: {self.path}: {error.strerror} ({hint})") from error
        except OSError as error:
            raise TableUnavailable(f"table {self.name}: {self.path}: {error.strerror}") from error
        return self._database

    def _open(self) -> Database:
        try:
            database = Database(self.name, self.path)
        except sqlite3.Error as error:
            raise TableUnavailable(f"table {self.name}: {self.path}: {error}") from error
        if not database.shape.serves(self._wanted):
            message = f"this is {database.shape.value} now, and the configuration needs {self._wanted.value}"
            raise TableUnavailable(f"table {self.name}: {self.path}: {message}")
        return database


def _signature(status: os.stat_result) -> _Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
