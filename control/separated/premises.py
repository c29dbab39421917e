"""The spool's folder, made for the user who keeps it, or handed over by root who kept it before.

Guarantees: the drop stays root's. What does not belong to the queue's user when this returns is the drop's. No link is
followed.

Failure: `OSError`, `SpoolInUse`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    kept_back = {places.drop_dir, places.drop_damaged_dir}
    folder = os.stat(places.spool_dir, follow_symlinks=False)
    if folder.st_uid == account.uid and not _is_mixed(places, account, kept_back):
        return 0
    changed = 0
    for path in _all_below(places.spool_dir, kept_back):
        if os.lstat(path).st_uid != account.uid:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
            changed += 1
    # Last, so that a start that was cut short begins again.
    os.chown(places.spool_dir, account.uid, account.gid)
    os.chmod(places.spool_dir, MODE)
    return changed


def _is_mixed(places: Layout, account: Account, kept_back: set[str]) -> bool:
    """Whether root left something there; it always leaves something at the top."""
    with os.scandir(places.spool_dir) as entries:
        return any(
            entry.stat(follow_symlinks=False).st_uid != account.uid for entry in entries if entry.path not in kept_back
        )


def _all_below(folder: str, kept_back: set[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.path in kept_back:
                continue
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from _all_below(entry.path, kept_back)
