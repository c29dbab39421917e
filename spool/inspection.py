"""A look at everything that a spool holds: what is wrong with it, one finding at a time.

Rows, bodies with their checksums, what lanes believe, files that no row names, owners and modes. It reads through a
connection of its own, beside a daemon or on a stopped spool, in pieces that each see the database at one instant.

Guarantees: nothing is changed. Memory does not grow with the queue. What a daemon adds or removes meanwhile is no finding.

Failure: `SpoolError` when the database cannot be read at all. A table that cannot be read is a finding; the rest is looked
at all the same.
"""

from __future__ import annotations

import enum
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spool.bodies import Body, BodyFiles
from spool.claims import find_body
from spool.errors import BodyDamaged, KeyMissing
from spool.lane import Lane
from spool.orphans import is_orphan
from spool.reading import read_rows
from spool.rows import KINDS, STATE_CODE, CorruptRow, Row, read_envelope, read_message
from spool.state import State
from spool.store import SQL

#: Envelopes that are looked at in one piece, with the small bodies of their messages in memory.
PAGE: Final = 100
#: Messages whose bodies were found whole, remembered for their next envelopes.
REMEMBERED: Final = 1_000
#: Findings of one table's structure: a broken page can make thousands.
STRUCTURE_FINDINGS: Final = 20
#: What SQLite answers when nothing is wrong.
_SOUND: Final = "ok"
_DAMAGED: Final = STATE_CODE[State.DAMAGED]


class Remedy(enum.Enum):
    """What can be done about a finding without losing anything."""

    #: Only people can help.
    NONE = "none"
    #: The envelope is set aside, and its sender told.
    SET_ASIDE = "set-aside"
    #: The lane looks again for what it has to do next.
    LOOK_AGAIN = "look-again"
    #: The file goes to ``orphan/``.
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    #: What is wrong: the id of an envelope or message, a lane, a table, a path.
    subject: str
    trouble: str
    remedy: Remedy = Remedy.NONE
    #: What the remedy works on: the row of an envelope or lane, the name of a file.
    row: int = 0
    name: str = ""


@dataclass(slots=True)
class Seen:
    """How much was looked at."""

    messages: int = 0
    envelopes: int = 0
    lanes: int = 0
    octets: int = 0
    #: Envelopes that are set aside already, and files in ``orphan/``.
    set_aside: int = 0
    orphans: int = 0


class Inspection:
    """One look, with a connection that nobody else uses."""

    def __init__(self, spool_dir: str, connection: sqlite3.Connection, bodies: BodyFiles) -> None:
        self.seen = Seen()
        self._spool_dir = spool_dir
        self._connection = connection
        self._bodies = bodies
        self._whole: dict[int, str | None] = {}
        #: Bodies that nothing can be said of, by the fingerprints of their keys.
        self._locked: Counter[str] = Counter()

    def findings(self) -> Iterator[Finding | None]:
        """Everything that is wrong, and None wherever a small piece of the work is done."""
        for part in (
            self._structure,
            self._envelopes,
            self._keys,
            self._messages,
            self._reports,
            self._lanes,
            self._files,
        ):
            try:
                yield from part()
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                yield Finding("state.db", f"cannot be read further: {error}")

    # -- the database -------------------------------------------------------------------------------------------------

    def _structure(self) -> Iterator[Finding | None]:
        tables = [name for (name,) in self._connection.execute(SQL["tables"])]
        for table in tables:
            limit = STRUCTURE_FINDINGS
            for (text,) in self._connection.execute(f"PRAGMA integrity_check({table})").fetchmany(limit):
                if text != _SOUND:
                    yield Finding(f"table {table}", text)
            yield None
        for table in ("body", "recipient", "report", "intent"):
            strays = self._connection.execute(f"PRAGMA foreign_key_check({table})").fetchmany(STRUCTURE_FINDINGS)
            for _, row, parent, _ in strays:
                yield Finding(f"table {table}", f"row {row or ''} belongs to no {parent}".replace("  ", " "))
            yield None

    def _envelopes(self) -> Iterator[Finding | None]:
        last = 0
        while True:
            page = _Page.read(self._connection, last)
            for one in page.states:
                yield self._envelope(page, one)
            if len(page.states) < PAGE:
                return
            last = max(page.states)

    def _keys(self) -> Iterator[Finding | None]:
        for fingerprint, count in sorted(self._locked.items()):
            yield Finding(f"key {fingerprint}", f"it is not at hand, so {count} bodies could not be looked into")

    def _envelope(self, page: _Page, one: int) -> Finding | None:
        self.seen.envelopes += 1
        if page.states[one] == _DAMAGED:
            self.seen.set_aside += 1
            return None
        try:
            trouble = self._trouble_of(page, one)
        except CorruptRow as error:
            trouble = str(error)
        if trouble is None:
            return None
        return Finding(_name_of(page, one), trouble, Remedy.SET_ASIDE, row=one)

    def _trouble_of(self, page: _Page, one: int) -> str | None:
        row = page.envelopes.get(one)
        if row is None:
            raise CorruptRow(page.spoilt.get(one, "its row is not there"))
        if row[8] not in page.lanes:
            raise CorruptRow("its lane is not there")
        message = page.messages.get(row[1])
        if message is None:
            raise CorruptRow(page.spoilt_messages.get(row[1], "its message is not there"))
        read_envelope(row, read_message(message[1:16]), Lane("", ""))
        is_report = KINDS[row[9]].is_report
        # A report can be sent without the body it is about.
        return None if is_report else self._body_trouble(message)

    def _body_trouble(self, message: Row) -> str | None:
        number = message[0]
        if number not in self._whole:
            if len(self._whole) >= REMEMBERED:
                self._whole.clear()
            self.seen.messages += 1
            self._whole[number] = self._read_body(message)
        return self._whole[number]

    def _read_body(self, message: Row) -> str | None:
        try:
            body: Body = find_body(self._bodies, message)
            self.seen.octets += sum(map(len, body.chunks()))
        except KeyMissing as error:
            self._locked[error.fingerprint] += 1
        except BodyDamaged as error:
            # Its file goes right after its row, when it was delivered meanwhile.
            is_gone = self._connection.execute(SQL["has_message"], (message[0],)).fetchone() is None
            return None if is_gone else str(error)
        return None

    def _messages(self) -> Iterator[Finding | None]:
        last = 0
        while rows := self._connection.execute(SQL["forsaken_messages"], (last, PAGE)).fetchall():
            for number, name in rows:
                yield Finding(name, "nobody waits for it: no envelope is left; smtpctl show message prints it")
                last = number
        yield None

    def _reports(self) -> Iterator[Finding | None]:
        last = 0
        while rows := self._connection.execute(SQL["empty_reports"], (last, PAGE)).fetchall():
            for number, name, ordinal in rows:
                yield Finding(f"{name}.{ordinal}", "it does not say what to report", Remedy.SET_ASIDE, row=number)
                last = number
        yield None

    def _lanes(self) -> Iterator[Finding | None]:
        last = 0
        while rows := self._connection.execute(SQL["lanes_and_their_due"], (last, PAGE)).fetchall():
            self.seen.lanes += len(rows)
            for number, action, key, believed, due in rows:
                last = number
                if believed != due:
                    shown = f"lane {action} {key}".rstrip()
                    yield Finding(shown, "it is wrong about what it has to do next", Remedy.LOOK_AGAIN, row=number)
            yield None

    # -- the files ----------------------------------------------------------------------------------------------------

    def _files(self) -> Iterator[Finding | None]:
        owner = os.stat(self._spool_dir).st_uid
        for name in ("state.db", "state.db-wal", "state.db-shm", "lock", "reserve", "msg"):
            yield self._permissions(f"{self._spool_dir}/{name}", owner)
        doubtful: list[str] = []
        for directory in self._bodies.directories():
            if not os.path.isdir(directory):
                yield Finding(directory, "this directory is missing; the next start of smtpd makes it")
                continue
            for name in sorted(os.listdir(directory)):
                if is_orphan(self._bodies, self._connection, name):
                    doubtful.append(f"{directory}/{name}")
                else:
                    yield self._permissions(f"{directory}/{name}", owner)
            yield None
        for path in doubtful:
            yield self._orphan(path)
        self.seen.orphans = self._bodies.orphans()

    def _orphan(self, path: str) -> Finding | None:
        """A file goes a moment after its row: now that moment is over."""
        name = os.path.basename(path)
        if not os.path.lexists(path) or not is_orphan(self._bodies, self._connection, name):
            return None
        return Finding(path, "no message has this body", Remedy.MOVE, name=path)

    def _permissions(self, path: str, owner: int) -> Finding | None:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(found.st_mode):
            return Finding(path, "this is a symbolic link")
        if found.st_uid != owner:
            return Finding(path, f"it belongs to uid {found.st_uid}; the spool belongs to uid {owner} (chown)")
        if found.st_mode & 0o077:
            return Finding(path, f"others may read or write it: mode {stat.S_IMODE(found.st_mode):04o} (chmod go=)")
        return None


@dataclass(frozen=True, slots=True)
class _Page:
    """Some envelopes with all that belongs to them, as of one instant."""

    #: By the rows of the envelopes.
    states: dict[int, int]
    envelopes: dict[int, Row]
    spoilt: dict[int, str]
    messages: dict[int, Row]
    spoilt_messages: dict[int, str]
    names: dict[int, str]
    lanes: set[int]

    @classmethod
    def read(cls, connection: sqlite3.Connection, after: int) -> _Page:
        """The page after an envelope's row."""
        connection.execute("BEGIN")
        try:
            states = dict(connection.execute(SQL["envelope_page"], (after, PAGE)).fetchall())
            ids = list(states)
            envelopes = read_rows(connection, SQL["envelopes"], ids)
            messages = read_rows(connection, SQL["messages"], list({row[1] for row in envelopes.whole.values()}))
            names = read_rows(connection, SQL["places"], ids)
            lanes = {row[0] for row in connection.execute(SQL["lanes_of"], (after, PAGE))}
        finally:
            connection.execute("COMMIT")
        shown = {one: f"{row[1]}.{row[2]}" for one, row in names.whole.items()}
        return cls(states, envelopes.whole, envelopes.spoilt, messages.whole, messages.spoilt, shown, lanes)


def _name_of(page: _Page, one: int) -> str:
    return page.names.get(one, f"envelope in row {one}")
