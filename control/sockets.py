"""Unix sockets that anybody on this machine may connect to.

Guarantees: a socket left behind by a dead process is replaced; one that somebody answers at never is. Nobody can connect
before it has its mode.

Failure: `SocketTaken` when another process answers there, or something other than a socket lies there; `OSError`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Final

#: Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn.
BACKLOG: Final = 128
#: Anybody may connect: who it is the kernel tells, and what they may do is decided by that.
MODE: Final = 0o666


class SocketTaken(Exception):
    """Something else has this name."""


def bind_unix(path: str) -> socket.socket:
    """A listening socket at ``path``; the folder is made when it is missing."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    _clear(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listening.bind(path)
        os.chmod(path, MODE)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def remove_unix(path: str) -> None:
    """Take the name away at the end; it may be gone already."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _clear(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketTaken(f"{path} is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise SocketTaken(f"{path}: another smtpd is already listening")
