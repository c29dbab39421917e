"""``smtpctl export`` and ``smtpctl import``: the archive as a file.

Guarantees: an archive has its name only when it is whole and on disk, and is readable by its owner alone. With ``--remove``
the envelopes are held first, and removed only after that: exactly those that the archive has.

Failure: `ControlError` with a sentence; then there is no archive, and what was held stays held.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, TextIO

import msgspec

from control import printing
from control.backed import absolute
from control.client import Connection, ControlError, NotRunning, RequestRefused
from control.premises import is_walled
from control.protocol import (
    AnyAnswer,
    Change,
    Chunk,
    Done,
    EnvelopeRow,
    Export,
    Import,
    ImportedRow,
    LeftRow,
    PackedRow,
    RemoveThese,
    Request,
    ShowQueue,
)
from spool.archive import Header, Moved, Writer
from spool.filter import Filter
from spool.layout import Layout
from spool.state import State

#: Envelopes that are removed by one request.
TOGETHER = 50


class Carrier:
    """One export or import, for the daemon of that layout."""

    def __init__(self, layout: Layout, *, as_json: bool) -> None:
        self._layout = layout
        self._as_json = as_json
        self._left = 0
        self._messages = self._octets = 0
        #: The envelopes that are in the archive.
        self._envelopes: list[str] = []

    # -- export -------------------------------------------------------------------------------------------------------

    def export(self, name: str, wanted: Filter, path: str) -> int:
        """Write an archive; the exit status."""
        self._write(path, self._rows(Export(name, wanted)), lambda _: True)
        return self._end("exported", len(self._envelopes), to=sys.stderr if path == "-" else sys.stdout)

    def move(self, name: str, wanted: Filter, path: str) -> int:
        """Hold, write an archive, remove; the exit status."""
        if path == "-":
            raise ControlError("--remove needs a file: nobody can say that what went through a pipe is on disk")
        if wanted.state in (State.READY, State.INFLIGHT):
            raise ControlError("--remove holds what it moves: leave --state out")
        with Connection(self._layout.control_socket) as connection:
            before = _held(connection, name, wanted)
            _done(connection, Change("hold", name, wanted))
            rows = connection.ask(Export(name, wanted, standing=True))
            self._write(path, (row for row in rows if not isinstance(row, Done)), before.__contains__)
            removed = 0
            for start in range(0, len(self._envelopes), TOGETHER):
                removed += _done(connection, RemoveThese(tuple(self._envelopes[start : start + TOGETHER])))
        status = self._end("moved", removed)
        if removed != len(self._envelopes):
            print(f"smtpctl: {len(self._envelopes) - removed} envelopes had left meanwhile", file=sys.stderr)
        return status

    def _rows(self, request: Export) -> Iterator[AnyAnswer]:
        try:
            connection = Connection(self._layout.control_socket)
        except NotRunning:
            from control.offline import export_spool

            yield from export_spool(self._layout, request)
            return
        with connection:
            yield from (row for row in connection.ask(request) if not isinstance(row, Done))

    def _write(self, path: str, rows: Iterator[AnyAnswer], stays_held: Callable[[str], bool]) -> None:
        with _output(path) as write:
            header = Header(name=os.urandom(16).hex(), made=time.time())
            archive = Writer(write, header)
            for row in rows:
                match row:
                    case LeftRow():
                        self._say(row)
                    case PackedRow():
                        self._add(archive, row, rows, stays_held)
            archive.end()

    def _add(
        self, archive: Writer, row: PackedRow, rows: Iterator[AnyAnswer], stays_held: Callable[[str], bool]
    ) -> None:
        moved = msgspec.json.decode(b"".join(_octets(rows, row.described)), type=Moved)
        ids = [f"{moved.id}.{envelope.ordinal}" for envelope in moved.envelopes]
        # What only this command holds goes on in the new house.
        envelopes = [
            envelope
            if envelope.state != "held" or stays_held(name)
            else msgspec.structs.replace(envelope, state="ready")
            for name, envelope in zip(ids, moved.envelopes, strict=True)
        ]
        archive.add(msgspec.structs.replace(moved, envelopes=envelopes), _octets(rows, row.size))
        self._messages += 1
        self._octets += row.size
        self._envelopes += ids

    # -- import -------------------------------------------------------------------------------------------------------

    def take(self, path: str) -> int:
        """Have the daemon take an archive; the exit status."""
        with Connection(self._layout.control_socket) as connection, _input(path, self._layout) as name:
            last = ImportedRow(0, 0, 0, 0)
            try:
                for row in connection.ask(Import(name)):
                    if isinstance(row, LeftRow):
                        self._say(row)
                    elif isinstance(row, ImportedRow):
                        last = row
            except RequestRefused as error:
                # It may have another name where the daemon can read it.
                raise ControlError(str(error).replace(name, path)) from None
        self._messages, self._octets = last.messages, last.octets
        skipped = f", {printing.counted(last.skipped, 'message')} skipped" if last.skipped else ""
        return self._end("imported", last.envelopes, skipped)

    # -- what is said -------------------------------------------------------------------------------------------------

    def _say(self, row: LeftRow) -> None:
        self._left += not row.harmless
        print(f"smtpctl: {printing.one_line(f'{row.subject}: {row.reason}')}", file=sys.stderr)

    def _end(self, done: str, envelopes: int, more: str = "", to: TextIO | None = None) -> int:
        figures = {"messages": self._messages, "envelopes": envelopes, "octets": self._octets}
        if self._as_json:
            text = msgspec.json.encode(figures | {"left": self._left}).decode()
        else:
            text = ", ".join(printing.counted(number, what[:-1]) for what, number in figures.items()) + f" {done}{more}"
        print(text, file=to or sys.stdout)
        return 1 if self._left else os.EX_OK


def _held(connection: Connection, name: str, wanted: Filter) -> frozenset[str]:
    """What stands still already."""
    rows = connection.ask(ShowQueue(name, msgspec.structs.replace(wanted, state=State.HELD)))
    return frozenset(row.id for row in rows if isinstance(row, EnvelopeRow))


def _done(connection: Connection, request: Request) -> int:
    return sum(row.count for row in connection.ask(request) if isinstance(row, Done))


def _octets(rows: Iterator[AnyAnswer], size: int) -> Iterator[bytes]:
    while size > 0:
        row = next(rows, None)
        if not isinstance(row, Chunk) or not row.data or len(row.data) > size:
            raise ControlError("the answer broke off in the middle of a message")
        size -= len(row.data)
        yield row.data


@contextmanager
def _output(path: str) -> Iterator[Callable[[bytes], object]]:
    """A file that has its name when it is whole and on disk; standard output for ``-``."""
    if path == "-":
        if sys.stdout.isatty():
            raise ControlError("an archive is nothing for a terminal")
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.lexists(path):
        raise ControlError(f"{path} is there already")
    try:
        # Mode 0600.
        descriptor, scratch = tempfile.mkstemp(prefix=f".{name}.", suffix=".partial", dir=folder)
    except OSError as error:
        raise ControlError(f"{folder}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file.write
            file.flush()
            os.fsync(descriptor)
        # Not over a file that somebody made meanwhile.
        os.link(scratch, path)
        os.unlink(scratch)
        _sync(folder)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(scratch)
        if isinstance(error, OSError):
            raise ControlError(f"{path}: {error.strerror}") from error
        raise


@contextmanager
def _input(path: str, layout: Layout) -> Iterator[str]:
    """The archive's absolute name; that of a copy for ``-``, standard input, and for a daemon that cannot read the file."""
    walled = is_walled(layout)
    if path != "-" and not walled:
        yield absolute(path)
        return
    folder = layout.spool_dir if walled else "/var/tmp"  # noqa: S108 - the name is made up, and the file is new
    with tempfile.NamedTemporaryFile(prefix="smtpctl-import.", dir=folder) as copy:
        with _opened(path) as archive:
            shutil.copyfileobj(archive, copy)
        copy.flush()
        if walled:
            owner = os.stat(layout.spool_dir)
            os.fchown(copy.fileno(), owner.st_uid, owner.st_gid)
        yield copy.name


def _opened(path: str) -> BinaryIO:
    if path == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    try:
        return open(path, "rb")
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror}") from error


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
