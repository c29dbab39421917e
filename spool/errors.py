"""Errors of the spool, typed by who is to blame and so by what the caller should do.

An outcome of delivery is never an exception; these are our own troubles.
"""

from __future__ import annotations

import errno


class SpoolError(Exception):
    """Something is wrong with the spool."""


class SpoolFull(SpoolError, OSError):
    """The disk, its inodes or a quota is full: nothing of this was kept. Clients get 452 4.3.1."""


class SpoolUnavailable(SpoolError, OSError):
    """The spool cannot be written now (read-only, locked by another): nothing of this was kept. Clients get 451 4.3.0."""


class SpoolInUse(SpoolError):
    """Another process holds the spool. Starting a second one is refused."""


class SpoolForbidden(SpoolError, PermissionError):
    """Only root and the spool's owner may read a spool from its files; others ask the daemon."""


class SpoolTooNew(SpoolError):
    """A later version of Mailspool wrote this spool. Nothing was touched."""


class SpoolLost(SpoolError):
    """A write may or may not be on disk (a failed fsync, a damaged database). The process must end at once."""


class BodyDamaged(SpoolError):
    """A body is missing, short or altered. It must not reach anybody: abandon the attempt before its end is visible."""


class KeyMissing(SpoolError):
    """A body is sealed with a key that is not at hand: it is not damaged, and waits for the key."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(f"sealed with key {fingerprint}, which this daemon does not have")
        self.fingerprint = fingerprint


class DuplicateMessage(SpoolError):
    """This message, or the drop file it came from, is in the spool already."""


class UnknownEnvelope(SpoolError, LookupError):
    """No message or envelope has this id, or more than one begins like this."""


#: The kernel's words for "no room": disk, quota, file size limit, inodes (ENOSPC too).
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def blame(error: OSError) -> SpoolFull | SpoolUnavailable:
    """The spool's word for an operating system's error while something new was written: nothing of it was kept."""
    kind = SpoolFull if error.errno in _NO_ROOM else SpoolUnavailable
    return kind(error.errno, error.strerror)
