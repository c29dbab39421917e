"""A tiny name server on loopback, UDP and TCP, that answers from a dictionary and misbehaves where a test tells it to.

    zones = {
        "example.org": {"MX": ["10 mx1.example.org.", "20 mx2.example.org."]},
        "mx1.example.org": {"AAAA": ["::1"], "A": ["127.0.0.1"]},
        "nomail.example": {"MX": ["0 ."]},
    }
    async with DnsServer(zones) as dns:
        ...                                     # ask 127.0.0.1, dns.port

A name that is in no zone is NXDOMAIN; a name without records of the type asked for is an empty answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Zones: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]


class DnsServer:
    """See the module. ``rcodes`` maps ``domain`` or ``domain KIND`` to ``SERVFAIL`` ...; the ``silent`` get no answer."""

    def __init__(
        self,
        zones: Zones,
        *,
        rcodes: Mapping[str, str] | None = None,
        silent: frozenset[str] = frozenset(),
        ttl: int = 60,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.zones = zones
        self.rcodes = rcodes or {}
        self.silent = silent
        self.ttl = ttl
        self.host = host
        self.port = port
        #: Whether every answer over UDP comes truncated, so that clients must ask again over TCP.
        self.truncates = False
        #: What was asked: ``udp example.org MX``.
        self.asked: list[str] = []
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        listening, datagrams = self._bind()
        self._tcp = await asyncio.start_server(self._serve, sock=listening)
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._udp is not None
        assert self._tcp is not None
        self._udp.close()
        self._tcp.close()
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._tcp.wait_closed()

    def _bind(self) -> tuple[socket.socket, socket.socket]:
        while True:
            tcp = socket.create_server((self.host, self.port))
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind((self.host, tcp.getsockname()[1]))
            except OSError:  # somebody has this number for UDP: take another
                tcp.close()
                udp.close()
                if self.port:
                    raise
                continue
            self.port = tcp.getsockname()[1]
            return tcp, udp

    def answer(self, query: bytes, over: str) -> bytes:
        """The answer to one question; empty for none."""
        asked = dns.message.from_wire(query)
        (question,) = asked.question
        domain = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{over} {domain} {kind}")
        if domain in self.silent:
            return b""
        reply = dns.message.make_response(asked, recursion_available=True)
        reply.flags |= dns.flags.AA
        if rcode := self.rcodes.get(f"{domain} {kind}") or self.rcodes.get(domain):
            reply.set_rcode(dns.rcode.from_text(rcode))
        elif domain not in self.zones:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif over == "udp" and self.truncates:
            reply.flags |= dns.flags.TC
        elif values := self.zones[domain].get(kind):
            reply.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *values))
        return reply.to_wire()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                reply = self.answer(await reader.readexactly(length), "tcp")
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._sessions.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        if reply := self._server.answer(data, "udp"):
            self._transport.sendto(reply, addr)
