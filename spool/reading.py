"""Rows by their ids, and the reason for each that cannot be read, so that one spoilt row costs nobody else anything.

Failure: `sqlite3.Error` when it is the database that cannot be read, not a row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from spool.database import is_unreadable
from spool.rows import Row


@dataclass(frozen=True, slots=True)
class Rows:
    """What was found under which id. An id in neither has no row."""

    whole: dict[int, Row]
    spoilt: dict[int, str]


def read_rows(connection: sqlite3.Connection, query: str, ids: Sequence[int]) -> Rows:
    """The rows that ``query`` finds for a list of ids, given as JSON; its first column is the id."""
    try:
        return Rows({row[0]: row for row in connection.execute(query, (json.dumps(ids),))}, {})
    except sqlite3.OperationalError as error:
        if not is_unreadable(error):
            raise
        if len(ids) == 1:
            return Rows({}, {ids[0]: str(error)})
    found = Rows({}, {})
    for one in ids:
        alone = read_rows(connection, query, [one])
        found.whole.update(alone.whole)
        found.spoilt.update(alone.spoilt)
    return found
