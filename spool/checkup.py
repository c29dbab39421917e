"""A look through the database's structure after an unclean stop, in a thread and on a connection of its own.

Bodies are left out: each carries a checksum and is checked when it is sent. It rests as long as it works: mail flows.

Guarantees: it only reads. `Checkup.end` stops it within one of SQLite's steps.

Failure: what it finds goes to the log and to ``findings``, for people; nothing is refused because of it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import closing, suppress
from typing import Final

_log: Final = logging.getLogger(__name__)

TABLES: Final = (
    "meta",
    "time_mark",
    "lane",
    "message",
    "recipient",
    "envelope",
    "report",
    "intent",
    "attempt",
    "drop_seen",
)
#: What SQLite answers when nothing is wrong.
_SOUND: Final = "ok"
#: Findings of one table that are kept; a broken page can make thousands.
FINDINGS: Final = 20


class Checkup(threading.Thread):
    """Checks the tables of the database at ``path``, once."""

    def __init__(self, path: str) -> None:
        super().__init__(name="spool-checkup", daemon=True)
        self._path = path
        self._enough = threading.Event()
        self._connection: sqlite3.Connection | None = None
        #: What is wrong, in SQLite's words; empty when nothing is.
        self.findings: list[str] = []

    def run(self) -> None:
        """All tables, one after the other."""
        try:
            with closing(
                sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, check_same_thread=False)
            ) as connection:
                self._connection = connection
                for table in TABLES:
                    began = time.monotonic()
                    self._check(connection, table)
                    if self._enough.wait(time.monotonic() - began):
                        return
        except sqlite3.Error as error:
            if not self._enough.is_set():
                self._report(f"the database cannot be checked: {error}")

    def end(self) -> None:
        """Stop, if it still runs; from any thread."""
        self._enough.set()
        if self._connection is not None:
            # It may have come to its end by itself.
            with suppress(sqlite3.ProgrammingError):
                self._connection.interrupt()
        self.join()

    def _check(self, connection: sqlite3.Connection, table: str) -> None:
        for (finding,) in connection.execute(f"PRAGMA quick_check({table})").fetchmany(FINDINGS):
            if finding != _SOUND:
                self._report(f"{table}: {finding}")

    def _report(self, finding: str) -> None:
        self.findings.append(finding)
        _log.critical("the spool's database is damaged", extra={"reason": finding})
