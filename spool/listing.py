"""The queue as people see it: listings, a message, an envelope, its history, counts.

A `QueueReader` works beside the daemon that writes, and on the files of a stopped one, for root and the spool's owner.

Guarantees: nothing is changed. Memory does not grow with the queue: everything long comes in pages, each a short look of
its own, so that a slow reader holds nobody up; what comes or goes meanwhile may be seen or not. An envelope that cannot be
read is a `CorruptEntry` among the others.

Failure: `UnknownEnvelope`; `SpoolInUse` and `SpoolForbidden` when a stopped spool is opened that is not stopped or not
ours; `SpoolError` when the database itself cannot be read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Final

from spool import lanes as lane_table
from spool import outcomes
from spool.backup import Backup
from spool.bodies import Body, BodyFiles
from spool.claims import find_body
from spool.clock import SpoolClock, SystemClock
from spool.database import is_unreadable
from spool.entry import CorruptEntry, Counts, Entry, Page, PastAttempt, read_entry, read_past
from spool.errors import SpoolError, SpoolForbidden, UnknownEnvelope
from spool.files import SystemOps
from spool.filter import Trait
from spool.ids import EnvelopeId, MessageId
from spool.inspection import Inspection
from spool.lane import Lane, LaneStatus
from spool.lock import SpoolLock
from spool.message import Message
from spool.migrations import version_of
from spool.moving import Leaving, Packer
from spool.opening import database_path, last_mark, last_record
from spool.reading import read_rows
from spool.report import ReportLine
from spool.rows import STATES, CorruptRow, Row, read_message
from spool.seal import Sealing
from spool.selected import AFTER_ALL, Range, find_message, resolve
from spool.selection import EVERYTHING, Selection
from spool.sieve import Sieve
from spool.store import SQL
from spool.tally import Tally, count_window

#: Envelopes in a page: some milliseconds of work, half a megabyte.
PAGE: Final = 500
#: Damaged envelopes that are counted: beyond that nobody wants to know how many exactly.
DAMAGED_COUNTED: Final = 1_000
#: Attempts that are shown of one message: a bound on what a loop can leave behind.
ATTEMPTS_SHOWN: Final = 10_000
#: KiB of pages that a reader keeps in memory.
_CACHE: Final = 2048
#: Seconds that a reader waits while the writer has the database for itself, which is at start and stop.
_PATIENCE: Final = 5.0


class QueueReader:
    """See the module. May be used from several threads, one call at a time."""

    def __init__(
        self,
        spool_dir: str,
        clock: SpoolClock | None = None,
        bodies: BodyFiles | None = None,
        lock: SpoolLock | None = None,
    ) -> None:
        self._lock = lock
        self._spool_dir = spool_dir
        self._one_call = threading.Lock()
        self._bodies = bodies or BodyFiles(spool_dir, SystemOps())
        self._connection = _connect(database_path(spool_dir))
        self.clock = clock or SpoolClock(SystemClock(), last_mark(self._connection), last_record(self._connection))

    @classmethod
    def beside(cls, spool_dir: str, clock: SpoolClock, bodies: BodyFiles | None = None) -> QueueReader:
        """A reader in the process that has the spool open; ``clock`` is its spool time, ``bodies`` knows what it writes."""
        return cls(spool_dir, clock, bodies)

    @classmethod
    def stopped(cls, spool_dir: str) -> QueueReader:
        """A reader of a spool that no daemon has open; none can while this is open."""
        try:
            lock = SpoolLock.share(spool_dir)
        except FileNotFoundError as error:
            raise SpoolError(f"there is no spool in {spool_dir}") from error
        except PermissionError as error:
            raise SpoolForbidden(error.errno, "only root and its owner may read a stopped spool", spool_dir) from error
        try:
            return cls(spool_dir, lock=lock)
        except BaseException:
            lock.release()
            raise

    def open_with(self, sealing: Sealing) -> None:
        """From here on open bodies with the keys of ``sealing``; a reader of a stopped spool has none at first."""
        self._bodies.sealing = sealing

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()
        if self._lock:
            self._lock.release()

    # -- the queue ----------------------------------------------------------------------------------------------------

    def entries(self, selection: Selection = EVERYTHING) -> Iterator[Entry]:
        """What is selected, by message id and ordinal, a page at a time."""
        place: tuple[str, int] | None = None
        while True:
            page = self.page(selection, place)
            yield from page.entries
            if page.next is None:
                break
            place = page.next
        if selection == EVERYTHING:
            yield from self._by_row("stray_page")

    def page(self, selection: Selection = EVERYTHING, after: tuple[str, int] | None = None, limit: int = PAGE) -> Page:
        """What passes the filter of the next ``limit`` entries, after the place where the page before ended."""
        with self._looking() as connection:
            if selection.ordinal is not None:
                found = [_envelope_row(connection, selection)]
                sieve = Sieve.of(selection.filter, self.clock.now())
                return Page(_entries(connection, _passing(connection, found, sieve)), None)
            name, ordinal = after or (selection.message, 0)
            bounds = (name, selection.message + AFTER_ALL, ordinal, limit)
            return _page(connection, bounds, Sieve.of(selection.filter, self.clock.now()))

    def brief(self, selection: Selection = EVERYTHING) -> Iterator[str | list[Entry]]:
        """The messages that are selected, in the same order, a page at a time, as a JSON array of arrays: message, size,
        arrival, sender (empty for a report), state, destination, reason.

        The database writes it by itself, and nobody waits for Python meanwhile. A page with something that it cannot tell
        comes as entries.
        """
        place: tuple[str, int] | None = (selection.message, 0)
        while place is not None:
            bounds = (place[0], selection.message + AFTER_ALL, place[1], PAGE)
            with self._looking() as connection:
                found, place = _next_page(connection, bounds, Sieve.of(selection.filter, self.clock.now()))
                told = _told(connection, found)
                page = _entries(connection, found) if told is None else told
            yield page
        if selection == EVERYTHING:
            yield list(self._by_row("stray_page"))

    def damaged(self) -> Iterator[Entry]:
        """What was set aside."""
        return self._by_row("damaged_page")

    def damaged_count(self) -> int:
        """How many were set aside, counted to `DAMAGED_COUNTED`."""
        with self._looking() as connection:
            count: int = connection.execute(SQL["count_damaged"], (DAMAGED_COUNTED,)).fetchone()[0]
            return count

    def reports(self) -> Iterator[Entry]:
        """Reports to senders that wait or are under way."""
        return self._by_row("reports_page")

    def _by_row(self, query: str) -> Iterator[Entry]:
        last = 0
        while True:
            with self._looking() as connection:
                rows = [row for (row,) in connection.execute(SQL[query], (last, PAGE))]
                entries = _entries(connection, rows)
            yield from entries
            if len(rows) < PAGE:
                return
            last = rows[-1]

    # -- one of them --------------------------------------------------------------------------------------------------

    def envelope(self, selection: Selection) -> Entry:
        """The one envelope that is selected."""
        with self._looking() as connection:
            return _entries(connection, [_envelope_row(connection, selection)])[0]

    def report_lines(self, envelope: EnvelopeId) -> list[ReportLine]:
        """What a report envelope is about."""
        with self._looking() as connection:
            return outcomes.report_lines(connection, envelope)

    def message(self, selection: Selection) -> tuple[Message, Body]:
        """The message that is selected, and its body; raises `BodyDamaged`, `KeyMissing`, `CorruptRow`."""
        with self._looking() as connection:
            row_id = find_message(connection, selection.message)[0]
            rows = read_rows(connection, SQL["messages"], [row_id])
            if row_id in rows.spoilt:
                raise CorruptRow(rows.spoilt[row_id])
            row = rows.whole[row_id]
            return read_message(row[1:16]), find_body(self._bodies, row)

    def pack(self, message: MessageId, ordinals: Sequence[int]) -> Leaving:
        """What an archive says of a message and these of its envelopes; raises `BodyDamaged`, `CorruptRow`."""
        with self._looking() as connection:
            return Packer(connection, self._bodies, self.clock).pack(message, ordinals)

    def attempts(self, selection: Selection) -> list[PastAttempt | CorruptEntry]:
        """The history of a message or an envelope, oldest first; also of one that is gone."""
        if not selection.message:
            raise UnknownEnvelope("the history is asked for a message or an envelope")
        bounds = (selection.message, selection.message + AFTER_ALL, ATTEMPTS_SHOWN)
        with self._looking() as connection:
            rows = connection.execute(SQL["attempts_like"], bounds).fetchall()
        if len({row[0] for row in rows}) > 1:
            raise UnknownEnvelope(f"more than one message begins with {selection.message}")
        return [read_past(row) for row in rows if selection.ordinal in (None, row[1])]

    @contextmanager
    def inspection(self) -> Iterator[Inspection]:
        """A look at everything for what is wrong; with a connection of its own, so that it holds nobody up."""
        with closing(_connect(database_path(self._spool_dir))) as connection:
            yield Inspection(self._spool_dir, connection, self._bodies)

    @contextmanager
    def backup(self) -> Iterator[Backup]:
        """A copy of it all, to be made; with a connection of its own."""
        with closing(_connect(database_path(self._spool_dir))) as connection:
            yield Backup(self._spool_dir, connection, self._bodies.sealing, self._bodies.ops)

    # -- all of it ----------------------------------------------------------------------------------------------------

    def lanes(self, after: int = 0, limit: int = PAGE) -> list[LaneStatus]:
        """Lanes with an id above ``after``, by id, with their last error."""
        with self._looking() as connection:
            return lane_table.lanes(connection, after, limit)

    def find_lane(self, lane: Lane) -> LaneStatus | None:
        """The lane, when anything is known of it."""
        with self._looking() as connection:
            row: Row | None = connection.execute(SQL["find_lane"], (lane.action, lane.key)).fetchone()
            return lane_table.lanes(connection, row[0] - 1, 1)[0] if row else None

    def waiting(self, first: int, last: int) -> Mapping[int, int]:
        """How many envelopes are in each lane with an id from ``first`` to ``last``, where there are any."""
        with self._looking() as connection:
            return dict(connection.execute(SQL["count_by_lane"], (first, last)).fetchall())

    def counts(self) -> Counts:
        """How much there is."""
        with self._looking() as connection:
            by_state = connection.execute(SQL["count_by_state"]).fetchone()
        with self._looking() as connection:
            messages = connection.execute(SQL["count_messages"]).fetchone()[0]
            reports = connection.execute(SQL["count_reports"]).fetchone()[0]
        return Counts(messages, reports, {STATES[code]: count for code, count in enumerate(by_state) if count})

    def tally(self, selection: Selection, trait: Trait | None) -> Tally:
        """How much there is of what is selected, by what it is like."""
        tally = Tally()
        with self._looking() as connection:
            rest: Range | None = resolve(connection, selection, self.clock.now())
        while rest is not None:
            with self._looking() as connection:
                rest = count_window(connection, rest, trait, tally)
        return tally

    def keys(self) -> dict[str, int]:
        """How many bodies are sealed with which key, by fingerprint."""
        with self._looking() as connection:
            return dict(connection.execute(SQL["count_keys"]).fetchall())

    @contextmanager
    def _looking(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._one_call:
                yield self._connection
        except sqlite3.Error as error:
            raise SpoolError(f"the queue cannot be read: {error}") from error


def _connect(path: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=_PATIENCE
        )
    except sqlite3.Error as error:
        raise SpoolError(f"{path}: {error}") from error
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.execute(f"PRAGMA cache_size = -{_CACHE}")
        if version_of(connection) == 0:
            raise SpoolError(f"{path} is not a spool yet")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise SpoolError(f"{path}: {error}") from error
        raise
    return connection


def _page(connection: sqlite3.Connection, bounds: tuple[str, str, int, int], sieve: Sieve) -> Page:
    found, place = _next_page(connection, bounds, sieve)
    return Page(_entries(connection, found), place)


def _next_page(
    connection: sqlite3.Connection, bounds: tuple[str, str, int, int], sieve: Sieve
) -> tuple[list[int], tuple[str, int] | None]:
    """The page after (name, ordinal), before another name, and its end; ``bounds`` are the parameters of ``queue_page``."""
    ids = [row for (row,) in connection.execute(SQL["queue_page"], bounds)]
    return _passing(connection, ids, sieve), _place(connection, ids) if len(ids) == bounds[3] else None


def _told(connection: sqlite3.Connection, ids: list[int]) -> str | None:
    """These envelopes as `QueueReader.brief` has them; None when not all of them can be told so."""
    try:
        count, text = connection.execute(SQL["brief_entries"], (json.dumps(ids),)).fetchone()
    except sqlite3.OperationalError as error:
        if not is_unreadable(error):
            raise
        return None
    return text if count == len(ids) else None


def _passing(connection: sqlite3.Connection, ids: list[int], sieve: Sieve) -> list[int]:
    if not sieve.conditions:
        return ids
    rows = connection.execute(sieve.passing, sieve.parameters(ids=json.dumps(ids)))
    passing = {row for (row,) in rows}
    return [one for one in ids if one in passing]


def _entries(connection: sqlite3.Connection, ids: list[int]) -> list[Entry]:
    rows = read_rows(connection, SQL["queue_entries"], ids)
    return [
        read_entry(rows.whole[one])
        if one in rows.whole
        else CorruptEntry(_name(connection, one), rows.spoilt.get(one, "it is gone"))
        for one in ids
    ]


def _name(connection: sqlite3.Connection, envelope: int) -> str:
    place = _place(connection, [envelope])
    return f"{place[0]}.{place[1]}" if place else f"row {envelope}"


def _place(connection: sqlite3.Connection, ids: list[int]) -> tuple[str, int] | None:
    """Message id and ordinal of the last of these envelopes that has one that can be read."""
    for one in reversed(ids):
        if row := read_rows(connection, SQL["places"], [one]).whole.get(one):
            return row[1], row[2]
    return None


def _envelope_row(connection: sqlite3.Connection, selection: Selection) -> int:
    if selection.ordinal is None:
        raise UnknownEnvelope(f"{selection.message or 'all'} is no envelope")
    row: Row | None = connection.execute(SQL["find_envelope"], (selection.message, selection.ordinal)).fetchone()
    if row is None:
        raise UnknownEnvelope(f"no envelope {selection.message}.{selection.ordinal}")
    found: int = row[0]
    return found
