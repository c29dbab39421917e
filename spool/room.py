"""Room on the disk: new mail is refused before there is none, and what is queued can be settled when there is none.

Every outcome writes a little. So mail that would take the last room is refused early (`RoomGauge`), a hint only, since other
programs fill disks too; and a file that nobody needs is given up when an outcome finds no room (`Reserve`).
"""

from __future__ import annotations

import os
import time
from typing import Final

from spool.errors import blame
from spool.files import Ops, Space

#: Octets of the reserve: thousands of outcomes; on a small file system the same part of it as the floor.
RESERVE: Final = 4 * 1024 * 1024
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

    def complaint(self) -> str:
        """What is wrong when too little is left, or empty; raises `SpoolUnavailable` when nobody can tell."""
        now = time.monotonic()
        if now - self._looked_at >= HOLDS:
            self._looked_at = now
            self._complaint = self._look()
        return self._complaint

    def _look(self) -> str:
        try:
            space = self._ops.space(self._folder)
        except OSError as error:
            raise blame(error) from error
        if space.free < _part_of(space, FLOOR):
            return f"{space.free // 1024} KiB are left on the spool's file system"
        if space.free_files is not None and space.free_files < FILES_FLOOR:
            return f"{space.free_files} inodes are left on the spool's file system"
        return ""


class Reserve:
    """A file of the spool that holds room, and nothing else."""

    def __init__(self, folder: str, ops: Ops) -> None:
        self._folder = folder
        self._path = f"{folder}/reserve"
        self._ops = ops

    def refill(self) -> None:
        """Have the file again, when there is room enough for it above the floor; raises `OSError`."""
        space = self._ops.space(self._folder)
        size = _part_of(space, RESERVE)
        if os.path.exists(self._path) or space.free < _part_of(space, FLOOR) + size:
            return
        descriptor = self._ops.create(self._path)
        try:
            self._ops.allocate(descriptor, size)
        except OSError:
            self._ops.unlink(self._path)
            raise
        finally:
            os.close(descriptor)

    def release(self) -> bool:
        """Give it up; whether there was anything to give."""
        try:
            self._ops.unlink(self._path)
        except OSError:
            return False
        return True


def _part_of(space: Space, octets: int) -> int:
    return min(octets, space.total // FLOOR_PART)
