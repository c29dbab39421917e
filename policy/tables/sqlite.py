"""Tables in SQLite databases of others: a file says which database, and how to ask it for each use of a table.

The file has lines ``dbpath /path`` and ``query_USE SELECT ...``, with one ``?`` (or ``$1``) for the key; ``fetch_USE SELECT
...`` gives all keys where a use wants them. Columns of a row are joined with a colon, so that ``SELECT login, password`` and
``SELECT uid, gid, home`` give what a file would have; rows of targets and senders are joined with a comma.

Guarantees: the database is opened to be read only; a question takes no more than `QUERY_SECONDS`, and waits no
more than that for somebody who writes. A database that was replaced is opened again.

Failure: `TableSyntaxError` from `load` alone; `TableUnavailable` for everything that SQLite says later.

table-sqlite(5) of OpenSMTPD.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from policy.errors import TableUnavailable
from policy.quoting import quoted
from policy.suggestion import did_you_mean
from policy.tables.format import Fault, TableSyntaxError
from policy.tables.patterns import Patterns
from policy.tables.service import ALIAS, ANY, MAILADDRMAP, REGEX, RELAYHOST, SERVICES, SOURCE, Service
from policy.tables.table import Shape

#: A question by an index takes microseconds, and everybody waits for it.
QUERY_SECONDS: Final = 0.25
#: Steps of SQLite's machine between two looks at the clock; some 0.1 ms.
_STEPS: Final = 10_000
MAX_FILE_OCTETS: Final = 1 << 20

#: The number of the parameter, as PostgreSQL and OpenSMTPD's other tables write it.
_NUMBERED: Final = re.compile(r"\$1\b")
_WORDS: Final = frozenset(
    f"{kind}_{service.asked}" for kind in ("query", "fetch") for service in SERVICES if service is not REGEX
)
#: Uses that take every key at once.
_FETCHED: Final = (SOURCE, RELAYHOST)
#: Uses whose value is a list, so that several rows make one.
_JOINED: Final = (ALIAS, MAILADDRMAP)


@dataclass(frozen=True, slots=True)
class Queries:
    """What the file says."""

    dbpath: str
    statements: Mapping[str, str]


def parse_queries(text: str) -> Queries:
    """Read the file. Raises `TableSyntaxError`."""
    found: dict[str, str] = {}
    faults = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        word, *rest = line.split(None, 1)
        fault = _line_fault(word, rest[0] if rest else "", found)
        if fault:
            faults.append(Fault(number, fault))
        else:
            found[word] = _NUMBERED.sub("?1", rest[0])
    if not faults and "dbpath" not in found:
        faults.append(Fault(1, 'expected a line "dbpath /path"'))
    if faults:
        raise TableSyntaxError(*faults)
    return Queries(found.pop("dbpath"), found)


def _line_fault(word: str, rest: str, found: Mapping[str, str]) -> str | None:
    if word != "dbpath" and word not in _WORDS:
        near = did_you_mean(word, _WORDS)
        return f'unknown word "{word}"{near if near.endswith("?") else ": expected dbpath, query_USE or fetch_USE"}'
    if word in found:
        return f'"{word}" stands here twice'
    if not rest:
        return f'nothing behind "{word}"'
    if word == "dbpath" and not rest.startswith("/"):
        return f'expected an absolute path, found "{rest}"'
    return None


class SqliteDatabase:
    """The database, opened at the first question, and again when another file has its name."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._deadline = 0.0
        #: Why the last question had no answer.
        self.trouble = ""

    def __reduce__(self) -> tuple[type[SqliteDatabase], tuple[str]]:
        # Another process opens it for itself.
        return SqliteDatabase, (self._path,)

    def rows(self, statement: str, *parameters: str) -> list[str]:
        """Each row of the answer, its columns joined. Raises `TableUnavailable`, whose text does not name the table."""
        try:
            found = self._rows(statement, *parameters)
        except TableUnavailable as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return found

    def _rows(self, statement: str, *parameters: str) -> list[str]:
        try:
            with self._lock:
                connection = self._current()
                self._deadline = time.monotonic() + QUERY_SECONDS
                return [
                    ":".join("" if column is None else str(column) for column in row)
                    for row in connection.execute(statement, parameters)
                ]
        except OSError as error:
            raise TableUnavailable(f"{self._path}: {error.strerror}") from error
        except UnicodeEncodeError:
            return []
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise TableUnavailable(f"{self._path}: {error}") from error

    def _current(self) -> sqlite3.Connection:
        status = os.stat(self._path)
        if self._connection is None or self._file != (status.st_dev, status.st_ino):
            self._connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self._path))}?mode=ro",
                timeout=QUERY_SECONDS,
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            weakref.finalize(self, self._connection.close)
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.set_progress_handler(self._is_too_late, _STEPS)
            self._file = status.st_dev, status.st_ino
        return self._connection

    def _is_too_late(self) -> bool:
        return time.monotonic() > self._deadline


class SqliteTable:
    """The table that the file ``path`` describes, for one use. ``load`` it before the first lookup.

    ``root`` stands before the path of the database.
    """

    def __init__(self, name: str, path: str, root: str = "") -> None:
        self.name = name
        self.path = path
        self._root = root
        self._service = ANY
        self._queries = Queries("", {})
        self._database = SqliteDatabase("")

    def __repr__(self) -> str:
        return f"<SqliteTable {self.name} {self.path} {self._service.name}>"

    @property
    def written(self) -> str:
        """The path of its file."""
        return quoted(f"sqlite:{self.path}")

    @property
    def dbpath(self) -> str:
        """Where its database is; empty before `load`."""
        return self._queries.dbpath

    @property
    def shape(self) -> Shape:
        """Whatever its queries make of it."""
        return Shape.EITHER

    @property
    def is_stale(self) -> bool:
        """Never: every lookup asks the database."""
        return False

    @property
    def trouble(self) -> str:
        """Why the last question had no answer."""
        return f"table {self.name}: {self._database.trouble}" if self._database.trouble else ""

    def refresh(self) -> None:
        """Ask the database something, to see whether it answers."""
        with contextlib.suppress(TableUnavailable):
            self._rows("SELECT 1")

    def load(self) -> None:
        """Read the file, and try its statements. Raises `TableSyntaxError`, or `TableUnavailable`."""
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                text = file.read(MAX_FILE_OCTETS).decode(errors="surrogateescape")
        except OSError as error:
            raise TableUnavailable(f"table {self.name}: {self.path}: {error.strerror}") from error
        queries = parse_queries(text)
        self._queries = Queries(self._root + queries.dbpath, queries.statements)
        self._database = SqliteDatabase(self._queries.dbpath)
        for word, statement in self._queries.statements.items():
            # It is compiled and not run.
            self._rows(f"EXPLAIN {statement}", *([""] if word.startswith("query") else []))

    def serving(self, _shape: Shape, service: Service) -> SqliteTable:
        """The same database for that use. Raises `TableSyntaxError` when the file does not say how to ask for it."""
        if service is REGEX:
            raise TableSyntaxError(Fault(1, "regular expressions cannot be kept in SQLite: expected a file, or a list"))
        word = f"{'fetch' if service in _FETCHED and _shape is not Shape.MAPPING else 'query'}_{service.asked}"
        if service is not ANY and word not in self._queries.statements:
            raise TableSyntaxError(Fault(1, f'there is no line "{word}", which the configuration needs'))
        table = SqliteTable(self.name, self.path, self._root)
        table._service, table._queries, table._database = service, self._queries, self._database
        return table

    def lookup(self, key: str) -> str | None:
        """What the query of its use says about ``key``, or None."""
        statement = self._queries.statements.get(f"query_{self._service.asked}")
        if statement is None:
            raise TableUnavailable(f"table {self.name}: {self.path} has no query for this use")
        rows = self._rows(statement, key.lower())
        if self._service in _JOINED:
            return ", ".join(rows) if rows else None
        return rows[0] if rows else None

    def keys(self) -> Iterable[str]:
        """All keys, where the file says how to have them; else none."""
        statement = self._queries.statements.get(f"fetch_{self._service.asked}")
        return self._rows(statement) if statement else ()

    def patterns(self) -> Patterns:
        """None: it is for the query to know what stands for more than itself."""
        return Patterns()

    def _rows(self, statement: str, *parameters: str) -> list[str]:
        try:
            return self._database.rows(statement, *parameters)
        except TableUnavailable as error:
            raise TableUnavailable(f"table {self.name}: {error}") from error
