"""A look at a user's .forward, by the user: whoever calls this has become the user already.

Guarantees: no link is followed to the file and nothing is waited for that is no regular file; at most one octet more than a
.forward may have is read.

Failure: none beside the answers of `policy.forward`.

forward(5) of OpenSMTPD; open(2), O_NOFOLLOW.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from typing import Any, Final

from delivery.wire import Hangup
from policy.forward import (
    FILE_NAME,
    MAX_OCTETS,
    Forward,
    ForwardAnswer,
    ForwardDeferred,
    ForwardRefused,
    NoForward,
)
from spool.reply import printable

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
#: There is no file, or no way to it.
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES})
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Descriptor(int):
    def close(self) -> None:
        os.close(self)


def look_at(home: str, uid: int) -> ForwardAnswer:
    """What stands in the .forward in ``home``, the home of the user ``uid``."""
    try:
        folder = _Descriptor(os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        with closing(folder):
            return _look_into(folder, uid)
    except OSError as error:
        return NoForward() if error.errno in _ABSENT else ForwardDeferred(f"{home}: {error.strerror}")


def _look_into(folder: int, uid: int) -> ForwardAnswer:
    home = os.fstat(folder)
    # It is held back while it is edited, and an editor may have taken it away.
    if home.st_mode & stat.S_ISVTX:
        return ForwardDeferred("the home has its sticky bit set")
    found = os.stat(FILE_NAME, dir_fd=folder, follow_symlinks=False)
    fault = _fault_of_home(home, uid) or _fault_of_file(found, uid)
    return ForwardRefused(fault) if fault else _read(folder, uid)


def _read(folder: int, uid: int) -> ForwardAnswer:
    try:
        file = _Descriptor(os.open(FILE_NAME, _READ, dir_fd=folder))
        with closing(file):
            # It may be another file than a moment ago.
            if fault := _fault_of_file(os.fstat(file), uid):
                return ForwardRefused(fault)
            return Forward(os.read(file, MAX_OCTETS + 1))
    except OSError as error:
        return ForwardDeferred(f"it cannot be read: {error.strerror}")


def _fault_of_home(home: os.stat_result, uid: int) -> str:
    if home.st_uid not in (0, uid):
        return f"the home belongs to the user {home.st_uid}"
    return "others may write to the home" if home.st_mode & _OTHERS_WRITE else ""


def _fault_of_file(file: os.stat_result, uid: int) -> str:
    if not stat.S_ISREG(file.st_mode):
        return "it is a symbolic link" if stat.S_ISLNK(file.st_mode) else "it is no regular file"
    if file.st_uid != uid:
        return f"it belongs to the user {file.st_uid}"
    return "others may write to it" if file.st_mode & _OTHERS_WRITE else ""


def pack_answer(answer: ForwardAnswer) -> list[str]:
    """As JSON."""
    match answer:
        case Forward(content=content):
            return ["is", content.decode("latin-1")]
        case NoForward():
            return ["is not", ""]
        case ForwardRefused(reason=reason):
            return ["refused", reason]
        case ForwardDeferred(reason=reason):
            return ["deferred", reason]


def unpack_answer(fields: Any) -> ForwardAnswer:
    """From JSON; raises `Hangup` for what is no answer."""
    match fields:
        case ["is", str(content)] if len(content) <= MAX_OCTETS + 1 and max(content, default="") <= "\xff":
            return Forward(content.encode("latin-1"))
        case ["is not", ""]:
            return NoForward()
        case ["refused", str(reason)]:
            return ForwardRefused(printable(reason))
        case ["deferred", str(reason)]:
            return ForwardDeferred(printable(reason))
        case _:
            raise Hangup("this is no answer about a .forward")
