"""The places where clients knock: each listener's address, bound to a socket before anybody is let in.

Whoever binds for others (the supervisor, as root) imports this and nothing of the sessions.

Guarantees: a local socket that somebody answers at is never taken away, nor anything else at its path.

Failure: `ListenError` for what cannot be bound.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from ingress.errors import ListenError
from policy.config import Listener

#: Everybody on this machine may submit; who it is, the kernel tells.
_SOCKET_MODE: Final = 0o666


#: Bind before the address can be used; <linux/in6.h>.
_IPV6_FREEBIND: Final = 78
#: The kernel's IPv6 addresses with their flags, and the flag in question; proc(5), <linux/if_addr.h>.
_IPV6_ADDRESSES: Final = Path("/proc/net/if_inet6")
_TENTATIVE: Final = 0x40

#: IP address and port; an empty address is the submission socket.
Place: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Opening:
    """A listener, the socket that `bind` made for it (None when it is open already), and its certificate if it has one."""

    listener: Listener
    socket: socket.socket | None
    tls: ssl.SSLContext | None = None
    #: Makes another of the same certificates, which opens no session of the one before.
    renew: Callable[[], ssl.SSLContext] | None = None

    @property
    def place(self) -> Place:
        """What only one listener can have."""
        return self.listener.address, self.listener.port


def bind(listener: Listener, submission_socket: str) -> socket.socket:
    """A socket for ``listener``, not yet listening; the local one at the path ``submission_socket``.

    Raises `ListenError`.
    """
    try:
        return _bind_path(submission_socket) if listener.is_socket else _bind_address(listener.address, listener.port)
    except OSError as error:
        place = submission_socket if listener.is_socket else f"{listener.address} port {listener.port}"
        raise ListenError(f"cannot listen on {place}: {error.strerror or error}") from error


def _bind_address(address: str, port: int) -> socket.socket:
    family, _, _, _, name = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if _is_tentative(address):
                bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        bound.bind(name)
    except OSError:
        bound.close()
        raise
    return bound


def _is_tentative(address: str) -> bool:
    """Whether the address is ours, but the kernel still asks the neighbours if somebody else has it (RFC 4862 5.4).

    So it is for a second or two after a machine has booted, when daemons start; an ordinary bind fails then.
    """
    packed = ipaddress.IPv6Address(address.partition("%")[0]).packed.hex()
    try:
        lines = _IPV6_ADDRESSES.read_text().splitlines()
    except OSError:
        return False
    found = (line.split() for line in lines)
    return any(fields[0] == packed and int(fields[4], 16) & _TENTATIVE for fields in found)


def _bind_path(path: str) -> socket.socket:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        os.chmod(path, _SOCKET_MODE)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    """A socket that outlived its process is taken away; anything else at that path is left, and binding fails."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _answers(path):
            os.unlink(path)
    except FileNotFoundError:
        return


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog is somebody too.
        probe.setblocking(False)
        return probe.connect_ex(path) != errno.ECONNREFUSED
