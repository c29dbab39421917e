"""What the machine says about itself: its name, its interfaces, and the addresses of names.

Failure: a question that cannot be answered gives an empty answer; `OSError` when the kernel does not list its interfaces.

getifaddrs(3), getaddrinfo(3).
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import ClassVar, Final, Protocol


class Host(Protocol):
    """The machine, behind a seam."""

    def name(self) -> str:
        """The host name."""

    def canonical_name(self, name: str) -> str:
        """The full name that the resolver has for ``name``; empty when it has none."""

    def addresses(self, name: str) -> tuple[str, ...]:
        """The IP addresses of a host name; empty when it has none."""

    def interfaces(self) -> Mapping[str, tuple[str, ...]]:
        """The IP addresses of every interface; link-local ones with their scope."""


class KernelHost:
    """This machine."""

    def name(self) -> str:
        """The kernel's."""
        return socket.gethostname()

    def canonical_name(self, name: str) -> str:
        """From hosts(5) or DNS, as the system is set up."""
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
        except (OSError, UnicodeError):
            return ""
        return next((canonical for *_, canonical, _address in found if canonical), "")

    def addresses(self, name: str) -> tuple[str, ...]:
        """From hosts(5) or DNS, as the system is set up."""
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return ()
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))

    def interfaces(self) -> Mapping[str, tuple[str, ...]]:
        """From getifaddrs(3)."""
        found: dict[str, list[str]] = {}
        for name, address in _interface_addresses():
            found.setdefault(name, [])
            if address and address not in found[name]:
                found[name].append(address)
        return {name: tuple(addresses) for name, addresses in found.items()}


class _SockAddr(ctypes.Structure):
    _fields_: ClassVar = [("family", ctypes.c_ushort), ("rest", ctypes.c_ubyte * 26)]


class _IfAddrs(ctypes.Structure):
    pass


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_SockAddr)),
    ("netmask", ctypes.c_void_p),
    ("other", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
]

#: Where the address lies behind the family in sockaddr_in and sockaddr_in6, and the scope in the latter (Linux).
_IPV4: Final = slice(2, 6)
_IPV6: Final = slice(6, 22)
_SCOPE: Final = slice(22, 26)


def _interface_addresses() -> Iterator[tuple[str, str]]:
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(first)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "getifaddrs")
    try:
        entry = first
        while entry:
            found = entry.contents
            yield found.name.decode(), _address_text(found.address)
            entry = found.next
    finally:
        libc.freeifaddrs(first)


def _address_text(pointer: ctypes._Pointer[_SockAddr]) -> str:
    if not pointer:
        return ""
    family, rest = pointer.contents.family, bytes(pointer.contents.rest)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, rest[_IPV4])
    if family == socket.AF_INET6:
        scope = int.from_bytes(rest[_SCOPE], sys.byteorder)
        text = socket.inet_ntop(socket.AF_INET6, rest[_IPV6])
        return f"{text}%{scope}" if scope else text
    return ""
