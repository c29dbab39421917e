"""Tables in files, one entry a line, read again when they change.

Guarantees: every lookup sees the content of one moment; a file that is replaced or edited is noticed at the next lookup,
without a signal. New content that is broken changes nothing: the old holds, and the log says why, once. A file that was
emptied a moment ago is being written, so the old content holds for that moment.

Failure: `TableUnavailable` when the file is gone or cannot be read; `TableSyntaxError` from `FileTable.load` alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from policy.errors import TableUnavailable
from policy.quoting import quoted
from policy.tables.format import EntryFault, Fault, TableSyntaxError, any_entry, parse_table
from policy.tables.patterns import Patterns
from policy.tables.service import Service
from policy.tables.table import Content, Shape

#: A table is kept in memory; beyond this (some ten million entries) it wants to be a database.
MAX_TABLE_OCTETS: Final = 512 << 20
#: Reading so much takes some 20 ms.
LARGE_OCTETS: Final = 1 << 20
#: How long an editor may take between emptying a file and writing it.
WRITING_NS: Final = 1_000_000_000
#: Two changes within one tick of the file system's clock look like one: what was read so soon after a change is read again.
TICK_NS: Final = 20_000_000

#: Device, inode, size and time of the last change: what tells one content of a file from the next.
_Signature: TypeAlias = tuple[int, int, int, int]

_log = logging.getLogger("policy.tables")


@dataclass(frozen=True, slots=True)
class _Snapshot:
    signature: _Signature
    content: Content
    #: Whether the file was old enough when it was read for its signature to be trusted.
    is_settled: bool


class FileTable:
    """A list or mapping in the file ``path``. ``load`` it before the first lookup."""

    def __init__(self, name: str, path: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.name = name
        self.path = path
        self._now_ns = now_ns
        self._wanted = Shape.EITHER
        self._faults: tuple[EntryFault, ...] = ()
        self._snapshot: _Snapshot | None = None
        self._refreshing = threading.Lock()
        self._complained: _Signature | None = None
        self._missing = ""
        self._broken = ""

    def __repr__(self) -> str:
        return f"<FileTable {self.name} {self.path}>"

    @property
    def written(self) -> str:
        """Its path."""
        return quoted(f"file:{self.path}")

    @property
    def shape(self) -> Shape:
        """What its entries are."""
        return self._current().shape

    def serving(self, shape: Shape, service: Service) -> FileTable:
        """This table: from now on content of another shape, or with an entry that is wrong for the service, is broken.

        What is loaded already is looked through. Raises `TableSyntaxError`, or `TableUnavailable`.
        """
        if shape is not Shape.EITHER:
            self._wanted = shape
        if service.fault is not any_entry and service.fault not in self._faults:
            self._faults = (*self._faults, service.fault)
            self.load()
        return self

    def load(self) -> None:
        """Read the file for the first time. Raises `TableSyntaxError`, or `TableUnavailable` when it cannot be read."""
        self._snapshot = self._read()

    @property
    def is_stale(self) -> bool:
        """Whether the next lookup will read the file, and that takes long enough to be done in a thread."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return status.st_size > LARGE_OCTETS and not (self._snapshot and self._is_current(self._snapshot, status))

    @property
    def trouble(self) -> str:
        """Why the file could not be read, or why its old content is kept."""
        return self._missing or self._broken

    def refresh(self) -> None:
        """Read the file if it has changed; trouble with it is for the lookup to report."""
        # Of several that come at once, one reads.
        with self._refreshing, contextlib.suppress(TableUnavailable):
            self._current()

    def content(self) -> Content:
        """All of it, as the file is now. Raises `TableUnavailable`."""
        return self._current()

    def lookup(self, key: str) -> str | None:
        """The value of ``key``, or None."""
        return self._current().entries.get(key.lower())

    def keys(self) -> Iterable[str]:
        """All keys."""
        return self._current().entries.keys()

    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""
        return self._current().patterns

    def _current(self) -> Content:
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise self._unavailable(error) from error
        self._missing = ""
        snapshot = self._snapshot
        if snapshot is None or not self._is_current(snapshot, status):
            snapshot = self._refresh(snapshot, status)
        else:
            self._broken = ""
        return snapshot.content

    def _is_current(self, snapshot: _Snapshot, status: os.stat_result) -> bool:
        return snapshot.is_settled and snapshot.signature == _signature(status)

    def _refresh(self, old: _Snapshot | None, status: os.stat_result) -> _Snapshot:
        if old and old.content.entries and not status.st_size and self._age_ns(status) < WRITING_NS:
            return old
        try:
            self._snapshot = self._read()
        except TableSyntaxError as error:
            if old is None:
                raise TableUnavailable(f"table {self.name}: {self.path}:{error.line}: {error}") from error
            self._complain(_signature(status), f"{self.path}:{error.line}: {error}")
            return old
        self._broken = ""
        return self._snapshot

    def _read(self) -> _Snapshot:
        try:
            data, status = _read_file(self.path)
        except OSError as error:
            raise self._unavailable(error) from error
        content = self._parse(data.decode(errors="surrogateescape"))
        if not content.shape.serves(self._wanted):
            message = f"this is {content.shape.value} now, and the configuration needs {self._wanted.value}"
            raise TableSyntaxError(Fault(1, message))
        return _Snapshot(_signature(status), content, not 0 <= self._age_ns(status) < TICK_NS)

    def _parse(self, text: str) -> Content:
        return parse_table(text, self._faults)

    def _age_ns(self, status: os.stat_result) -> int:
        return self._now_ns() - status.st_mtime_ns

    def _complain(self, signature: _Signature, reason: str) -> None:
        self._broken = f"table {self.name}: {reason}; its old content is kept"
        if self._complained != signature:
            self._complained = signature
            _log.warning("%s", self._broken)

    def _unavailable(self, error: OSError) -> TableUnavailable:
        self._missing = f"table {self.name}: {self.path}: {error.strerror}"
        return TableUnavailable(self._missing)


def _signature(status: os.stat_result) -> _Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_file(path: str) -> tuple[bytes, os.stat_result]:
    # Without O_NONBLOCK a FIFO in the table's place would stop us for ever.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "Not a regular file", path)
        if status.st_size > MAX_TABLE_OCTETS:
            raise OSError(0, f"Larger than {MAX_TABLE_OCTETS} octets", path)
        return file.read(MAX_TABLE_OCTETS), status
