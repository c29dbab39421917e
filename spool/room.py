"""Whether there is room for more mail: a look at the file system before a body is taken.

What is in the spool already still has to be settled, and every settlement writes a little; mail that would take the last
room for that is refused early. This is a hint: the write itself may still find the disk full.
"""

from __future__ import annotations

import errno
import time
from typing import Final

from spool.errors import SpoolFull, blame
from spool.files import Ops

#: Octets that are left free for outcomes of what is queued, and the part of a small file system that this may be.
FLOOR: Final = 16 * 1024 * 1024
FLOOR_PART: Final = 20
#: Files that are left free: the database has its own already, a few bodies may be on their way.
FILES_FLOOR: Final = 64
#: Seconds for which an answer holds; less than a fast network fills the floor in.
HOLDS: Final = 0.25


class RoomGauge:
    """How much is left below one folder."""

    def __init__(self, folder: str, ops: Ops) -> None:
        self._folder = folder
        self._ops = ops
        self._looked_at = float("-inf")
        self._complaint = ""

    def require(self) -> None:
        """Raise `SpoolFull` when too little is left."""
        now = time.monotonic()
        if now - self._looked_at >= HOLDS:
            self._looked_at = now
            self._complaint = self._look()
        if self._complaint:
            raise SpoolFull(errno.ENOSPC, self._complaint)

    def _look(self) -> str:
        try:
            space = self._ops.space(self._folder)
        except OSError as error:
            raise blame(error) from error
        if space.free < min(FLOOR, space.total // FLOOR_PART):
            return f"{space.free // 1024} KiB are left on the spool's file system"
        if space.free_files is not None and space.free_files < FILES_FLOOR:
            return f"{space.free_files} inodes are left on the spool's file system"
        return ""
