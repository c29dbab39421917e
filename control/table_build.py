"""The database of a table, written beside its text and put in its place at once.

Guarantees: whoever opens the database finds the old one or the new one, whole, even after a power cut. It is readable by
those who could read the old one; the first is readable by those who can read the text it was made of.

Failure: `OSError`, or `sqlite3.Error`; the old database stays then, and nothing else is left.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable
from typing import Final

from policy.tables.database import write_database
from policy.tables.table import Shape
from spool.files import Ops, SystemOps

#: What a database made of standard input may be read by, less the umask.
_ORDINARY_MODE: Final = 0o644
#: A database is never run, nor anybody else by it.
_READERS_AND_WRITERS: Final = 0o666


def build(
    path: str, shape: Shape, entries: Iterable[tuple[str, str]], source: str = "", ops: Ops | None = None
) -> None:
    """Replace the database ``path`` by one of ``entries``, which were read from the file ``source``."""
    ops = ops or SystemOps()
    folder = os.path.dirname(path) or "."
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
    try:
        write_database(temporary, shape, entries)
        _admit_readers(descriptor, path, source)
        ops.fsync(descriptor)
        ops.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            ops.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    ops.fsync_directory(folder)


def _admit_readers(descriptor: int, path: str, source: str) -> None:
    status = _of_old(path) or _of_source(source)
    if status is not None:
        own = os.fstat(descriptor)
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode & _READERS_AND_WRITERS)
        return
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(descriptor, _ORDINARY_MODE & ~umask)


def _of_old(path: str) -> os.stat_result | None:
    """The database that is replaced, if it says who may read: in a folder for everybody, anybody may have planted it."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    owners = os.geteuid(), os.stat(os.path.dirname(path) or ".").st_uid
    return status if stat.S_ISREG(status.st_mode) and status.st_uid in owners else None


def _of_source(source: str) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(source)
    return None
