"""The binary header of the PROXY protocol, as a proxy writes it."""

from __future__ import annotations

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def header(client: str, tlvs: bytes = b"") -> bytes:
    """What a proxy says before its client does."""
    address = ipaddress.ip_address(client)
    body = address.packed * 2 + struct.pack("!HH", 4711, 25) + tlvs
    return SIGNATURE + bytes([0x21, 0x11 if address.version == 4 else 0x21]) + struct.pack("!H", len(body)) + body


def raw(command: int, family: int, body: bytes) -> bytes:
    """Any header at all."""
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(body)) + body
