"""Files of large bodies that no row names: what a crash between file and commit leaves behind.

They are moved to ``orphan/``, never delivered and never deleted here: the client got no 250 and will send again, but whoever
repairs a damaged spool may want to look.

Guarantees: a body that a session is writing, or whose commit is under way, is no orphan.

Failure: one that cannot be moved is logged, and left for the next start.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from typing import Final

from spool.bodies import BodyFiles
from spool.instants import Instant
from spool.store import SQL

_log: Final = logging.getLogger(__name__)


class OrphanSweep:
    """One walk through the directories of large bodies, a directory a step."""

    def __init__(self, bodies: BodyFiles, connection: sqlite3.Connection) -> None:
        self._bodies = bodies
        self._connection = connection
        self._left = bodies.directories()
        self.moved = 0

    def step(self) -> bool:
        """Look through one directory; whether there are more."""
        if self._left:
            directory = self._left.pop()
            for name in sorted(os.listdir(directory)):
                if is_orphan(self._bodies, self._connection, name):
                    self._move(f"{directory}/{name}")
        return bool(self._left)

    def _move(self, path: str) -> None:
        try:
            move_orphan(self._bodies, path)
        except OSError as error:
            _log.warning("orphan body cannot be set aside", extra={"body": path, "reason": str(error)})
            return
        self.moved += 1


def is_orphan(bodies: BodyFiles, connection: sqlite3.Connection, name: str) -> bool:
    """Whether no row names this file, nor a session that writes it now."""
    # In this order: a body is unpublished until its row can be seen.
    if bodies.is_unpublished(name):
        return False
    return connection.execute(SQL["is_body_file"], (name,)).fetchone() is None


def move_orphan(bodies: BodyFiles, path: str) -> None:
    """Set the file aside; raises `OSError`."""
    target = bodies.orphan_dir
    os.makedirs(target, mode=0o700, exist_ok=True)
    bodies.ops.reached(Instant.BEFORE_ORPHAN)
    bodies.ops.rename(path, f"{target}/{os.path.basename(path)}")
    _log.warning("orphan body set aside", extra={"body": path, "folder": target})
