"""The synchronous spool: one connection, transactions of many pieces of work, and what holds when one of them fails.

A piece of work is a function of a `Transaction`; `Store.run` does a batch of them under one commit. The pieces themselves
are in `spool.intake`, `spool.claims`, `spool.outcomes`, `spool.selected` and `spool.lanes`.

Guarantees: a piece that fails takes nothing of its batch with it. Lanes know when they have something due, and a message
goes with its last envelope, in the transaction that made it so. A file is unlinked only after the commit that forgot it.

Failure: `Store.run` answers `SpoolFull`, `SpoolUnavailable` or a piece's own error in place of its result, and raises
`SpoolLost`, after which nothing must be asked of this store.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from spool.bodies import BodyFiles
from spool.clock import SpoolClock
from spool.database import blame_database
from spool.errors import SpoolFull, SpoolLost, SpoolUnavailable
from spool.instants import Instant
from spool.lane import Lane
from spool.room import Reserve
from spool.rows import Row
from spool.statements import load

_log: Final = logging.getLogger(__name__)
SQL: Final = load("queries.sql")

#: Lanes whose ids are remembered; more are looked up again.
LANES_REMEMBERED: Final = 10_000
#: Milliseconds after the last mark of time from which on every transaction takes one along.
MARK_AFTER: Final = 60_000


class Transaction:
    """The open transaction, as a piece of work sees it."""

    __slots__ = (
        "_lane_ids",
        "bodies",
        "clock",
        "connection",
        "execute",
        "lanes",
        "made_due",
        "marked",
        "messages",
        "now",
    )

    def __init__(self, store: Store) -> None:
        self.connection = store.connection
        self.execute = store.connection.execute
        self.bodies = store.bodies
        self.clock = store.clock
        #: Spool time, the same for all of it.
        self.now = store.clock.now()
        #: Lanes of which an envelope came, went or changed.
        self.lanes: set[int] = set()
        #: Messages of which an envelope went.
        self.messages: set[int] = set()
        #: Whether the scheduler has something new to look at.
        self.made_due = False
        #: Whether this moment is kept.
        self.marked = False
        self._lane_ids = store.lane_ids

    def mark(self) -> None:
        """Keep this moment, for spool time to go on from."""
        mark = self.clock.mark()
        self.execute(SQL["set_time_mark"], (mark.boot_id, mark.boottime_ms, mark.wall, mark.spool_ms))
        self.marked = True

    def lane_id(self, lane: Lane) -> int:
        """The id of a lane, made when there is none."""
        known = self._lane_ids.get(lane)
        if known is None:
            row: Row | None = self.execute(SQL["find_lane"], (lane.action, lane.key)).fetchone()
            known = row[0] if row else self.execute(SQL["insert_lane"], (lane.action, lane.key)).lastrowid
            assert known is not None
            if len(self._lane_ids) >= LANES_REMEMBERED:
                self._lane_ids.clear()
            self._lane_ids[lane] = known
        return known

    def forget_lane_ids(self) -> None:
        """Something was undone: lanes made since may not be there."""
        self._lane_ids.clear()

    def finish(self) -> list[str]:
        """Bring lanes and messages in line with their envelopes; the files of messages that went."""
        if self.lanes:
            self.execute(SQL["refresh_lanes"], (json.dumps(list(self.lanes)),))
        if not self.messages:
            return []
        rows = self.execute(SQL["drop_finished"], (json.dumps(list(self.messages)),)).fetchall()
        return [file for (file,) in rows if file]


Piece: TypeAlias = Callable[[Transaction], object]


@dataclass(frozen=True, slots=True)
class Done:
    """What a batch came to: a result or an error for each piece, in order."""

    results: list[object]
    #: Whether something may be due now that was not.
    made_due: bool


class Store:
    """See the module. Belongs to one thread."""

    def __init__(self, connection: sqlite3.Connection, bodies: BodyFiles, clock: SpoolClock, reserve: Reserve) -> None:
        self.connection = connection
        self.bodies = bodies
        self.clock = clock
        self.reserve = reserve
        self.ops = bodies.ops
        self.lane_ids: dict[Lane, int] = {}
        #: The last moment that is kept.
        self._marked_at = clock.now()

    def run(self, pieces: Sequence[Piece], outcomes: int = 0) -> Done:
        """Do all of ``pieces``, of which the first ``outcomes`` settle what is in flight, and commit once.

        The first try takes no precautions, because nearly always nothing fails. When something does, all is undone and
        done again with a savepoint round each piece; when the disk is full, each piece gets a commit of its own, and
        outcomes the room that is held in reserve.
        """
        try:
            return self._attempt(pieces, _all_or_nothing)
        except SpoolLost:
            raise
        except SpoolUnavailable as error:
            return Done([error] * len(pieces), made_due=False)
        except SpoolFull:
            return self._one_by_one(pieces, outcomes)
        except Exception as error:
            if len(pieces) == 1:
                return Done([error], made_due=False)
        try:
            return self._attempt(pieces, _each_in_a_savepoint)
        except SpoolFull:
            return self._one_by_one(pieces, outcomes)
        except SpoolUnavailable as error:
            return Done([error] * len(pieces), made_due=False)

    def read(self, piece: Callable[[sqlite3.Connection], object]) -> object:
        """A result, or an error in its place, outside of any transaction; raises `SpoolLost`."""
        try:
            return piece(self.connection)
        except sqlite3.Error as error:
            blamed = blame_database(error)
            if isinstance(blamed, SpoolLost):
                raise blamed from error
            return blamed or error
        except Exception as error:
            return error

    def _one_by_one(self, pieces: Sequence[Piece], outcomes: int) -> Done:
        results: list[object] = []
        made_due = False
        for number, piece in enumerate(pieces):
            done = self._alone(piece)
            if number < outcomes and isinstance(done.results[0], SpoolFull) and self.reserve.release():
                _log.error("disk full: the reserve is given up for outcomes")
                done = self._alone(piece)
            results += done.results
            made_due = made_due or done.made_due
        return Done(results, made_due)

    def _alone(self, piece: Piece) -> Done:
        try:
            return self._attempt([piece], _all_or_nothing)
        except SpoolLost:
            raise
        except Exception as error:
            return Done([error], made_due=False)

    def _attempt(self, pieces: Sequence[Piece], way: Callable[[Transaction, Sequence[Piece]], list[object]]) -> Done:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            transaction = Transaction(self)
            results = way(transaction, pieces)
            forgotten = transaction.finish()
            # After a suspend the chore that does it is late: what is written now must not be the future after a crash.
            if transaction.now - self._marked_at > MARK_AFTER and not transaction.marked:
                transaction.mark()
            self.ops.reached(Instant.BEFORE_COMMIT)
            self.ops.commit(self.connection)
        except BaseException as error:
            self._roll_back()
            blamed = blame_database(error) if isinstance(error, sqlite3.Error) else None
            if blamed is not None:
                raise blamed from error
            raise
        if transaction.marked:
            self._marked_at = transaction.now
        self.ops.reached(Instant.AFTER_COMMIT)
        for file in forgotten:
            self.bodies.remove(file)
        return Done(results, transaction.made_due)

    def _roll_back(self) -> None:
        self.lane_ids.clear()
        if not self.connection.in_transaction:
            return
        try:
            self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise SpoolLost(f"a transaction can be neither committed nor undone: {error}") from error


def _all_or_nothing(transaction: Transaction, pieces: Sequence[Piece]) -> list[object]:
    return [piece(transaction) for piece in pieces]


def _each_in_a_savepoint(transaction: Transaction, pieces: Sequence[Piece]) -> list[object]:
    results: list[object] = []
    for piece in pieces:
        transaction.execute("SAVEPOINT piece")
        try:
            results.append(piece(transaction))
        except Exception as error:
            if isinstance(error, sqlite3.Error) and (blamed := blame_database(error)) is not None:
                raise blamed from error
            transaction.execute("ROLLBACK TO piece")
            transaction.forget_lane_ids()
            results.append(error)
        transaction.execute("RELEASE piece")
    return results
