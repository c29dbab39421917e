"""The other side of a session that is fuzzed: sends octets as they are cut, in TLS when told to, and hears everything."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

#: Pieces that an input is cut into at most: each costs some turns of the loop.
_PIECES: Final = 24
#: Octets of a piece at most: from one to all of a short input.
_SIZES: Final = (1, 2, 3, 5, 8, 13, 40, 120)
#: Turns in which octets that were sent are read and acted on.
_TURNS: Final = 4
#: Turns in which somebody who takes part in a handshake has answered.
_PATIENCE: Final = 200
_READ: Final = 64 * 1024


def pieces(octets: bytes, cut: int) -> Iterator[bytes]:
    """``octets`` as they come out of the network: 0 in one piece, other numbers each in their own way."""
    chance, at = random.Random(cut), 0
    for _ in range(_PIECES if cut else 0):
        size = chance.choice(_SIZES)
        if at + size >= len(octets):
            break
        yield octets[at : at + size]
        at += size
    if octets[at:]:
        yield octets[at:]


class Caller:
    """One connection, from the side that began it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._inside: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._came = asyncio.Event()
        #: Everything that was said to us, before TLS and inside it.
        self.heard = bytearray()
        self.heard_inside = bytearray()
        #: Whether what comes belongs to TLS.
        self.is_ciphered = False
        self.is_over = False
        self._reading = self._loop.create_task(self._read())

    async def say(self, octets: bytes, cut: int) -> None:
        """Send these; the rest is dropped when nobody listens any more."""
        for piece in pieces(octets, cut):
            if self.is_over:
                return
            if self._inside is not None:
                self._inside.write(piece)
            await self._send(self._outgoing.read() if self._inside is not None else piece)
            await self.settle()

    async def settle(self, turns: int = _TURNS) -> None:
        """Give the other side the time to act."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def secure(self, context: ssl.SSLContext, *, is_server: bool = False) -> None:
        """Our part of a TLS handshake; without success when the other side does not want it."""
        self.is_ciphered = True
        inside = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        while not self.is_over:
            self._came.clear()
            try:
                inside.do_handshake()
            except ssl.SSLWantReadError:
                await self._send(self._outgoing.read())
                await self._until_something_comes()
            except ssl.SSLError:
                self.is_over = True
            else:
                break
        else:
            return
        self._inside = inside
        await self._send(self._outgoing.read())
        self._decipher()

    async def _until_something_comes(self) -> None:
        for _ in range(_PATIENCE):
            if self._came.is_set():
                return
            await asyncio.sleep(0)
        self.is_over = True

    async def finish(self) -> None:
        """Say no more, and hear the rest."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)
        await self._reading
        self._end.close()

    async def _send(self, octets: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._end, octets)
        except OSError:
            self.is_over = True

    async def _read(self) -> None:
        while True:
            try:
                octets = await self._loop.sock_recv(self._end, _READ)
            except OSError:
                octets = b""
            if not octets:
                self.is_over = True
                self._came.set()
                return
            if self.is_ciphered:
                self._incoming.write(octets)
                if self._inside is not None:
                    self._decipher()
            else:
                self.heard += octets
            self._came.set()

    def _decipher(self) -> None:
        assert self._inside is not None
        try:
            while octets := self._inside.read(_READ):
                self.heard_inside += octets
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            self.is_over = True
