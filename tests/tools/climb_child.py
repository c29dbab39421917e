"""A process that leads an older spool to today's tables, and to those of a version still to come; to be killed.

``python -m tests.tools.climb_child DATABASE NTH`` dies before the NTH statement of the climb; 0 lets it live.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from spool import migrations
from spool.database import connect

if TYPE_CHECKING:
    from sqlite_utils import Database


def one_more(database: Database) -> None:
    """What a later version may want: columns and an index."""
    database.execute("ALTER TABLE envelope ADD COLUMN some_day INTEGER NOT NULL DEFAULT 7")
    database.execute("ALTER TABLE message ADD COLUMN some_day TEXT NOT NULL DEFAULT ''")
    database.execute("CREATE INDEX envelope_some_day ON envelope (some_day)")


STEPS = {**migrations.STEPS, migrations.VERSION + 1: one_more}


def main(path: str, nth: int) -> None:
    left = nth
    connection = connect(path)

    def count(statement: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.set_trace_callback(count)
    migrations.migrate(connection, STEPS)
    connection.set_trace_callback(None)
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
