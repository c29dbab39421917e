"""Listeners behind a proxy (``proxy-v2``): each connection begins with a header that says who the client really is.

The header is read off the socket octet for octet before the session has it, so that nothing of what follows, a TLS
handshake or a command, is ever taken for a part of it or lost.

Whoever is believed can say that his client is anybody, this machine included. So those alone are believed that the
configuration lists; where it lists none, proxies on this machine.

Guarantees: nothing that others say is read, and they are told nothing. No session begins, and nothing is said, before a
whole header has come within `Limits.handshake` seconds.

Failure: whatever else comes ends the connection, and is logged.

The PROXY protocol, versions 1 & 2, of HAProxy: 2.2 (binary header), 2.2.1 to 2.2.7 (TLVs, which are passed over).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from ingress.limits import Limits
from ingress.peer import plain_address
from spool.message import Client

log = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("!12sBBH")
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_UNIX: Final = 0x31
#: Octets of the two addresses, and of the client's own.
_ADDRESSES: Final = {_TCP4: (12, 4), _TCP6: (36, 16), _UNIX: (216, 0)}
#: Seconds to wait when no connection can be taken, for want of descriptors mostly.
_BREATH: Final = 0.5

#: Makes the protocol of a session for a client.
MakeSession: TypeAlias = Callable[[Client], asyncio.BaseProtocol]


class _NothingSaid(Exception):
    """The connection was closed without an octet, as a check does whether somebody listens."""


class NoHeader(Exception):
    """The proxy did not say what it must; the text says what is wrong."""


def client_named(header: bytes, addresses: bytes, peer: Client) -> Client:
    """The client that a header and the addresses behind it name; ``peer`` when the proxy speaks for itself.

    Raises `NoHeader`.
    """
    _, command, family, _ = _HEADER.unpack(header)
    if command == _LOCAL:
        return peer
    if command != _PROXY or family not in _ADDRESSES:
        raise NoHeader(f"unknown command {command:#04x} or family {family:#04x}")
    both, own = _ADDRESSES[family]
    if len(addresses) < both:
        raise NoHeader("addresses cut short")
    if family == _UNIX:
        return Client()
    return Client(address=plain_address(str(ipaddress.ip_address(addresses[:own]))))


@dataclass(frozen=True, slots=True)
class Room:
    """The limits, and how many connections may wait for their header at once."""

    limits: Limits
    waiting: int


#: Whether a proxy at this address is believed.
Believed: TypeAlias = Callable[[str], Awaitable[bool]]


class ProxiedServer:
    """Accepts connections at ``listening`` and makes sessions of them; like `asyncio.Server` as far as it goes."""

    def __init__(
        self, listening: socket.socket, make: MakeSession, believed: Believed, room: Room, tasks: TaskGroup
    ) -> None:
        listening.setblocking(False)
        listening.listen(room.limits.backlog)
        self.sockets = (listening,)
        self._make = make
        self._believed = believed
        self._limits = room.limits
        self._room = room.waiting
        self._tasks = tasks
        self._accepting = anyio.CancelScope()
        #: Connections whose header has not come yet.
        self._waiting = 0
        tasks.start_soon(self._accept)

    def close(self) -> None:
        """Accept no more, and let go of the socket as soon as the loop has."""
        self._accepting.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        with self.sockets[0], self._accepting:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self.sockets[0])
                except OSError as error:
                    log.warning("smtp: no connection can be taken: %s", error.strerror)
                    await anyio.sleep(_BREATH)
                else:
                    self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        if self._waiting >= self._room:
            connection.close()
            return
        self._waiting += 1
        self._tasks.start_soon(self._admit, connection)

    async def _admit(self, connection: socket.socket) -> None:
        """Let the session begin when the header is there."""
        taken = False
        try:
            if not await self._believed(_peer(connection).address):
                raise NoHeader("not one of the proxies that are believed here")
            client = await self._read_client(connection)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: self._make(client), connection)
            taken = True
        except NoHeader as error:
            log.warning("smtp proxy-refused address=%s reason=%s", _peer(connection).address, error)
        except (OSError, _NothingSaid):
            pass
        finally:
            self._waiting -= 1
            if not taken:
                connection.close()

    async def _read_client(self, connection: socket.socket) -> Client:
        connection.setblocking(False)
        peer = _peer(connection)
        try:
            with anyio.fail_after(self._limits.handshake):
                first = await asyncio.get_running_loop().sock_recv(connection, 1)
                if not first:
                    raise _NothingSaid
                header = first + await _exactly(connection, _HEADER.size - 1)
                signature, _, _, length = _HEADER.unpack(header)
                if signature != _SIGNATURE:
                    raise NoHeader("no PROXY header of version 2")
                addresses = await _exactly(connection, length)
        except TimeoutError:
            raise NoHeader("no PROXY header in time") from None
        return client_named(header, addresses, peer)


async def _exactly(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    found = b""
    while len(found) < size:
        piece = await loop.sock_recv(connection, size - len(found))
        if not piece:
            raise NoHeader("connection closed within its PROXY header")
        found += piece
    return found


def _peer(connection: socket.socket) -> Client:
    try:
        return Client(address=plain_address(connection.getpeername()[0]))
    except OSError:
        return Client(address="0.0.0.0")  # noqa: S104 -- gone already: nobody
