"""The spool's folder, made for the user who keeps it, or handed over by root who kept it before.

Guarantees: the drop stays root's. What does not belong to the queue's user when this returns is the drop's. No link is
followed.

Failure: `OSError`, `SpoolInUse`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from control.separated.accounts import Account
from spool.layout import Layout
from spool.lock import SpoolLock

#: Anybody may reach the drop in it; what else there is nobody but the queue sees.
MODE: Final = 0o711


def hand_over_spool(places: Layout, account: Account) -> int:
    """Make the spool's folder belong to the queue's user, with all that is in it: how many things changed hands.

    Raises `SpoolInUse` when another process has the spool.
    """
    os.makedirs(places.spool_dir, MODE, exist_ok=True)
    lock = SpoolLock.acquire(places.spool_dir)
    try:
        return _hand_over(places, account)
    finally:
        lock.release()


def _hand_over(places: Layout, account: Account) -> int:
    kept_back = frozenset(os.path.basename(path) for path in (places.drop_dir, places.drop_damaged_dir))
    with _opened(places.spool_dir, None) as folder:
        if os.fstat(folder).st_uid == account.uid and not _is_mixed(folder, account, kept_back):
            return 0
        changed = sum(_give(folder, name, account) for name in os.listdir(folder) if name not in kept_back)
        # Last, so that a start that was cut short begins again.
        os.fchown(folder, account.uid, account.gid)
        os.fchmod(folder, MODE)
        return changed


def _is_mixed(folder: int, account: Account, kept_back: frozenset[str]) -> bool:
    """Whether root left something there; it always leaves something at the top."""
    others = (name for name in os.listdir(folder) if name not in kept_back)
    return any(os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid != account.uid for name in others)


def _give(folder: int, name: str, account: Account) -> int:
    """Hand over what has that name, with all below it: how many things changed hands.

    Everything is done to what is open: the queue's user, who may have been taken over, can exchange names meanwhile.
    """
    with _opened(name, folder) as found:
        status = os.fstat(found)
        is_folder = stat.S_ISDIR(status.st_mode)
        below = sum(_give(found, each, account) for each in os.listdir(found)) if is_folder else 0
        if status.st_uid == account.uid:
            return below
        if not is_folder and not _may_be_given(status, os.fstat(folder)):
            raise OSError(
                errno.EPERM, f"{name} in it is no plain file of one name, which only a stranger can have done"
            )
        os.fchown(found, account.uid, account.gid)
        return below + 1


def _may_be_given(status: os.stat_result, folder: os.stat_result) -> bool:
    """A body that a backup shares has two names; in a folder of our own nobody else can have given it the second."""
    return stat.S_ISREG(status.st_mode) and (status.st_nlink == 1 or folder.st_uid == os.geteuid())


@contextmanager
def _opened(path: str, folder: int | None) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
