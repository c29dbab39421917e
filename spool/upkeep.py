"""Chores of the spool's thread, each in small steps between two transactions: time marks, checkpoints, pruning, orphans.

Guarantees: no chore works longer than some milliseconds at a time, whatever the size of the spool, and all get their turn
under endless load. The history never holds less than it should while there is room for it.

Failure: a chore that fails is logged and tried again later; only `SpoolLost` goes further.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spool.database import PAGE_SIZE, WAL_KEPT, blame_database
from spool.errors import SpoolLost
from spool.instants import Instant
from spool.orphans import OrphanSweep
from spool.store import SQL, Piece, Store, Transaction

_log: Final = logging.getLogger(__name__)

#: Milliseconds that the history keeps an attempt, and the name of a drop file.
HISTORY_KEPT: Final = 7 * 24 * 3600 * 1000
#: Attempts in the history, whatever their age: about a gigabyte, so that it cannot take the room that mail needs.
HISTORY_ROWS: Final = 3_000_000
#: Rows that one step of pruning looks at.
PRUNE_STEP: Final = 500
#: Octets of the log after which it is written back to the database file.
CHECKPOINT_OCTETS: Final = 16 * 1024 * 1024
#: What an envelope writes into the log beside its body: the pages of its rows and of their indexes.
ENVELOPE_OCTETS: Final = 16 * 1024
#: What any other row that came, went or changed writes into it, when its neighbours do the same in one commit.
CHANGE_OCTETS: Final = 512
#: Seconds after which a log that has anything in it is written back: a start after a crash then has little to do.
CHECKPOINT_EVERY: Final = 30.0
#: Pages that stay free in the file for the next messages, and pages given back in one step.
PAGES_KEPT: Final = 2_000
VACUUM_STEP: Final = 100
#: Seconds between time marks: how far spool time can fall back when the machine crashes.
MARK_EVERY: Final = 60.0
#: Seconds between looks for what can be pruned, and between two steps while there is more.
PRUNE_EVERY: Final = 60.0
STEP_PAUSE: Final = 0.02
#: Seconds between looks whether the reserve is there.
RESERVE_EVERY: Final = 60.0
#: Seconds until a chore that failed is tried again.
TRY_AGAIN: Final = 60.0


@dataclass(slots=True)
class _Chore:
    """``work`` does a step and says in how many seconds the next one is wanted; None: never."""

    name: str
    work: Callable[[], float | None]
    due: float


class Upkeep:
    """The chores and when they are due; belongs to the spool's thread."""

    def __init__(self, store: Store, sweep: OrphanSweep, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self.monotonic = monotonic
        self._sweep = sweep
        self._logged = 0
        self._changes = store.connection.total_changes
        self._wal = store.connection.execute("PRAGMA database_list").fetchone()[2] + "-wal"
        #: Octets of its file from which it is written back whatever was estimated.
        self._wal_bound = WAL_KEPT
        self._lane_cursor = 0
        now = self.monotonic()
        self._checkpoint = _Chore("checkpoint", self._write_back, float("inf"))
        self._chores = [
            self._checkpoint,
            _Chore("time mark", self._mark, now + MARK_EVERY),
            _Chore("reserve", self._refill_reserve, now),
            _Chore("orphans", self._sweep_orphans, now + STEP_PAUSE),
            _Chore("prune history", self._prune_history, now + PRUNE_EVERY),
            _Chore("prune lanes", self._prune_lanes, now + PRUNE_EVERY),
            _Chore("vacuum", self._vacuum, now + PRUNE_EVERY),
        ]
        #: When the next chore is due, by the monotonic clock.
        self.due = min(chore.due for chore in self._chores)

    def wrote(self, octets: int, envelopes: int) -> None:
        """A commit with that much in it has grown the log.

        SQLite tells nobody how long its log is, but when it writes it back. So this is estimated, and where the estimate
        is too low, the file grows beyond what it keeps.
        """
        changes = self._store.connection.total_changes
        self._logged += octets + max(envelopes * ENVELOPE_OCTETS, (changes - self._changes) * CHANGE_OCTETS)
        self._changes = changes
        now = self.monotonic()
        wanted = now if self._logged >= CHECKPOINT_OCTETS or self._has_long_file() else now + CHECKPOINT_EVERY
        if wanted < self._checkpoint.due:
            self._checkpoint.due = wanted
            self.due = min(self.due, wanted)

    def work(self) -> None:
        """Do a step of every chore that is due; raises `SpoolLost`."""
        now = self.monotonic()
        for chore in self._chores:
            if chore.due <= now:
                chore.due = float("inf")
                pause = self._try(chore)
                chore.due = min(chore.due, self.monotonic() + pause)
        self.due = min(chore.due for chore in self._chores)

    def _try(self, chore: _Chore) -> float:
        try:
            pause = chore.work()
        except SpoolLost:
            raise
        except Exception as error:
            if isinstance(error, sqlite3.Error) and isinstance(blamed := blame_database(error), SpoolLost):
                raise blamed from error
            _log.warning("upkeep failed", extra={"chore": chore.name, "reason": str(error)})
            return TRY_AGAIN
        return float("inf") if pause is None else pause

    def _run(self, piece: Piece) -> object:
        (result,) = self._store.run([piece]).results
        if isinstance(result, Exception):
            raise result
        self.wrote(0, 1)
        return result

    def _write_back(self) -> None:
        self._store.ops.reached(Instant.BEFORE_CHECKPOINT)
        self._store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._store.ops.reached(Instant.AFTER_CHECKPOINT)
        self._logged = 0
        # The next commit begins the log anew and cuts its file, unless somebody still reads an old state of the tables.
        self._wal_bound = max(WAL_KEPT, self._wal_octets() + CHECKPOINT_OCTETS)

    def _has_long_file(self) -> bool:
        octets = self._wal_octets()
        if octets <= WAL_KEPT:
            self._wal_bound = WAL_KEPT
        return octets > self._wal_bound

    def _wal_octets(self) -> int:
        try:
            return os.stat(self._wal).st_size
        except OSError:
            return 0

    def _mark(self) -> float:
        self._run(Transaction.mark)
        return MARK_EVERY

    def _refill_reserve(self) -> float:
        self._store.reserve.refill()
        return RESERVE_EVERY

    def _sweep_orphans(self) -> float | None:
        return STEP_PAUSE if self._sweep.step() else None

    def _prune_history(self) -> float:
        def prune(tx: Transaction) -> int:
            before = tx.now - HISTORY_KEPT
            attempts = tx.execute(SQL["prune_attempts"], (PRUNE_STEP, before, HISTORY_ROWS)).rowcount
            return attempts + tx.execute(SQL["prune_drops"], (PRUNE_STEP, before)).rowcount

        return STEP_PAUSE if self._run(prune) else PRUNE_EVERY

    def _prune_lanes(self) -> float:
        rows = self._store.connection.execute(SQL["lane_ids"], (self._lane_cursor, PRUNE_STEP)).fetchall()
        ids = [lane for (lane,) in rows]
        if ids:
            self._run(lambda tx: tx.execute(SQL["prune_lanes"], (json.dumps(ids),)).rowcount)
            self._store.lane_ids.clear()
        more = len(ids) == PRUNE_STEP
        self._lane_cursor = ids[-1] if more else 0
        return STEP_PAUSE if more else PRUNE_EVERY

    def _vacuum(self) -> float:
        connection = self._store.connection
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        if free <= PAGES_KEPT:
            return PRUNE_EVERY

        def give_back(tx: Transaction) -> None:
            # Python takes no second step of a statement without columns, so each of these gives back one page.
            for _ in range(min(VACUUM_STEP, free - PAGES_KEPT)):
                tx.execute("PRAGMA incremental_vacuum(1)")

        self._run(give_back)
        self.wrote(2 * VACUUM_STEP * PAGE_SIZE, 0)
        return STEP_PAUSE
