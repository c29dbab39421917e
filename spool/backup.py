"""A copy of a spool that is a spool: made beside a daemon that goes on, or of one that is stopped.

The database is copied through SQLite's backup interface as it is at one instant, held by a reading connection: the one that
writes waits for nothing. Files of large bodies never change, so they are linked; where the copy lies on another file system,
they are copied. Mail that left the queue meanwhile, its file with it, is left out. What waits in the drop is taken along
before that instant: a file that the daemon takes in between is known by its name.

Guarantees: the copy has its name only when it is whole, on disk, and was looked through: each body against its checksum. It
is readable by its owner alone. Whatever fails leaves the spool as it is, and nothing under the name.

Failure: `BackupError` with a sentence; `BackupStopped` when whoever asked is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from spool.bodies import BodyFiles
from spool.database import connect
from spool.errors import SpoolError
from spool.files import Ops
from spool.inspection import Finding, Inspection
from spool.migrations import VERSION, version_of
from spool.seal import Sealing
from spool.store import SQL

#: Pages that are copied at a time, 4 MB: then it looks whether anybody still waits for the copy.
PAGES: Final = 1_000
#: Pages after which they are made durable, so that no fsync at the end holds the daemon's own up.
PAGES_UNSYNCED: Final = 8_000
#: Octets of a body that are copied at a time.
CHUNK: Final = 1024 * 1024
#: Rows read at a time.
PAGE: Final = 1_000
#: Seconds of work after which it rests as long, because the daemon has the same processor.
SLICE: Final = 0.1


class BackupError(SpoolError):
    """There is no copy."""


class BackupStopped(BackupError):
    """Nobody waits for it any more."""


@dataclass(slots=True)
class Copied:
    """What a copy holds."""

    messages: int = 0
    envelopes: int = 0
    #: Of bodies.
    octets: int = 0
    #: Files of the drop.
    drops: int = 0
    #: Damage that the spool has, and so the copy.
    findings: list[Finding] = field(default_factory=list)


class Backup:
    """One copy of the spool in ``spool_dir``, read through ``connection``, which nobody else uses."""

    def __init__(self, spool_dir: str, connection: sqlite3.Connection, sealing: Sealing, ops: Ops) -> None:
        self._spool_dir = spool_dir
        self._source = connection
        self._bodies = BodyFiles(spool_dir, ops)
        self._sealing = sealing
        self._ops = ops
        self._stopped = threading.Event()
        self._began = time.monotonic()

    def stop(self) -> None:
        """From another thread: give it up."""
        self._stopped.set()

    def make(self, target: str) -> Copied:
        """Make the copy at ``target``, where nothing is yet."""
        target = os.path.abspath(target)
        if os.path.lexists(target):
            raise BackupError(f"{target} is there already: a backup goes into a new directory")
        if (found := version_of(self._source)) != VERSION:
            raise BackupError(f"this spool has version {found}, and {VERSION} is today's: start smtpd on it first")
        parent, name = os.path.split(target)
        try:
            # Mode 0700.
            scratch = tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=parent)
        except OSError as error:
            raise BackupError(f"{parent}: {error.strerror}") from error
        try:
            copied = self._fill(scratch)
            self._publish(scratch, target)
        except BaseException as error:
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, OSError):
                raise BackupError(f"{error.filename or target}: {error.strerror}") from error
            if isinstance(error, sqlite3.Error):
                raise BackupError(f"the database cannot be copied: {error}") from error
            raise
        return copied

    def _fill(self, scratch: str) -> Copied:
        drops = self._take_drop(scratch)
        self._copy_database(f"{scratch}/state.db")
        copies = BodyFiles(scratch, self._ops)
        copies.sealing = self._sealing
        copies.prepare()
        with closing(connect(f"{scratch}/state.db")) as database:
            self._take_bodies(database, copies)
            copied = self._look_through(scratch, database, copies)
        self._hand_over(scratch)
        for directory in (*copies.directories(), scratch):
            self._ops.fsync_directory(directory)
        copied.drops = drops
        return copied

    def _publish(self, scratch: str, target: str) -> None:
        _sync(f"{scratch}/state.db", self._ops.fsync)
        self._ops.fsync_directory(scratch)
        if os.path.lexists(target):
            raise BackupError(f"{target} is there now: somebody else made it")
        self._ops.rename(scratch, target)
        self._ops.fsync_directory(os.path.dirname(target))

    # -- the database -------------------------------------------------------------------------------------------------

    def _copy_database(self, path: str) -> None:
        os.close(self._ops.create(path))
        unsynced = 0

        def progress(status: int, remaining: int, total: int) -> None:
            nonlocal unsynced
            self._require_wanted()
            unsynced += PAGES
            if unsynced >= PAGES_UNSYNCED:
                unsynced = 0
                _sync(path, os.fdatasync)

        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self._source.execute("BEGIN")
            try:
                # From here on this connection sees one instant, and the copy need never begin again.
                self._source.execute(SQL["get_fact"], ("instance",)).fetchone()
                self._source.backup(copy, pages=PAGES, progress=progress)
            finally:
                self._source.execute("ROLLBACK")

    def _forget(self, database: sqlite3.Connection, name: str) -> None:
        """Leave out what left the queue since the instant of the copy; what is damaged stays, and is found."""
        if self._source.execute(SQL["is_body_file"], (name,)).fetchone():
            return
        database.execute("BEGIN")
        lanes = {lane for (lane,) in database.execute(SQL["lanes_of_message"], (name,))}
        database.execute(SQL["forget_envelopes"], (name,))
        database.execute(SQL["forget_message"], (name,))
        database.execute(SQL["refresh_lanes"], (json.dumps(list(lanes)),))
        database.execute("COMMIT")

    # -- files --------------------------------------------------------------------------------------------------------

    def _take_bodies(self, database: sqlite3.Connection, copies: BodyFiles) -> None:
        last = 0
        while rows := database.execute(SQL["body_files"], (last, PAGE)).fetchall():
            for _, name in rows:
                self._rest()
                if not self._take(self._bodies.path(name), copies.path(name)):
                    self._forget(database, name)
            last = rows[-1][0]

    def _take_drop(self, scratch: str) -> int:
        """What ``sendmail`` left while nobody listened is mail that was accepted."""
        source, target = f"{self._spool_dir}/drop", f"{scratch}/drop"
        try:
            names = [entry.name for entry in os.scandir(source) if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return 0
        os.mkdir(target, 0o700)
        # Copied: whoever wrote a file may still write to it.
        taken = sum(self._copy(f"{source}/{name}", f"{target}/{name}") for name in names)
        self._ops.fsync_directory(target)
        return taken

    def _take(self, source: str, target: str) -> bool:
        """Link or copy a file that never changes; False when it is gone."""
        try:
            os.link(source, target, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            # Another file system, one without links, or a kernel that lets nobody link what is not his own.
            return self._copy(source, target)
        return True

    def _copy(self, source: str, target: str) -> bool:
        try:
            reading = self._ops.open(source)
        except FileNotFoundError:
            return False
        try:
            writing = self._ops.create(target)
            try:
                while piece := os.read(reading, CHUNK):
                    self._rest()
                    self._ops.write(writing, piece)
                owner = os.fstat(reading)
                if owner.st_uid != os.fstat(writing).st_uid:
                    # A drop file's owner is who wrote the message.
                    os.fchown(writing, owner.st_uid, owner.st_gid)
                self._ops.fsync(writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return True

    def _hand_over(self, scratch: str) -> None:
        """What root makes of another user's spool belongs to that user, as the spool does."""
        owner = os.stat(self._spool_dir)
        if owner.st_uid == os.geteuid():
            return
        for folder, _, _ in os.walk(scratch):
            os.chown(folder, owner.st_uid, owner.st_gid)
        os.chown(f"{scratch}/state.db", owner.st_uid, owner.st_gid)

    # -- the proof ----------------------------------------------------------------------------------------------------

    def _look_through(self, scratch: str, database: sqlite3.Connection, copies: BodyFiles) -> Copied:
        inspection = Inspection(scratch, database, copies)
        findings: list[Finding] = []
        for finding in inspection.findings():
            self._rest()
            # The copy gets its owner last.
            if finding is not None and not finding.trouble.startswith("it belongs to"):
                findings.append(finding)
        for one in findings:
            if one.subject.startswith(("table ", "state.db")):
                raise BackupError(f"the copy cannot be trusted: {one.subject}: {one.trouble}; see smtpctl verify")
        seen = inspection.seen
        return Copied(seen.messages, seen.envelopes, seen.octets, findings=findings)

    def _rest(self) -> None:
        self._require_wanted()
        if time.monotonic() - self._began >= SLICE:
            time.sleep(SLICE)
            self._began = time.monotonic()

    def _require_wanted(self) -> None:
        if self._stopped.is_set():
            raise BackupStopped("nobody waits for the backup any more")


def _sync(path: str, sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
