"""Who is at the other end of a connection, as the kernel tells it.

Guarantees: an address is in its plainest form: an IPv4 client of an IPv6 socket has its IPv4 address, and a link-local one
loses its zone, which means nothing elsewhere. No form of address raises.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from typing import Final

from spool.message import Client

_CREDENTIALS: Final = struct.Struct("3i")


def client_of(transport: asyncio.BaseTransport) -> Client:
    """The client of a fresh connection: its IP address, or its uid on the local socket."""
    peer = transport.get_extra_info("socket")
    if peer is not None and peer.family == socket.AF_UNIX:
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return Client(uid=uid)
    name = transport.get_extra_info("peername")
    return Client(address=plain_address(name[0]) if name else "0.0.0.0")  # noqa: S104 -- gone already: nobody


def plain_address(text: str) -> str:
    """An IP address without its zone; ``::ffff:192.0.2.1`` as ``192.0.2.1``."""
    if ":" not in text:
        return text
    address = ipaddress.IPv6Address(text.partition("%")[0])
    return str(address.ipv4_mapped or address)


def customer(address: str) -> str:
    """What one client can choose its addresses from: an IPv4 address, or an IPv6 /64."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False))
