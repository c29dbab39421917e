"""The daemon's end of the talk with an agent (see `delivery.wire`), for the event loop: nothing blocks, and no thread waits.

Guarantees: as `delivery.wire`. Frames that are sent together leave in one write, unless descriptors go with them.

Failure: `Hangup` as there; `TimeoutError` when the agent says nothing for as long as it may.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from typing import Any, Final

import anyio

from delivery.wire import LENGTH, MAX_FRAME, READ, Hangup, framed

#: A frame: its octets, and the descriptor that goes with it.
Frame = tuple[bytes, int | None]


class LoopWire:
    """One end. ``patience`` is how long one word may take, in seconds."""

    def __init__(self, end: socket.socket, patience: float) -> None:
        end.setblocking(False)
        self.patience: Final = patience
        self._socket = end
        self._buffer = bytearray()

    def close(self) -> None:
        """Give up this end. Nobody waits at it any more."""
        self._socket.close()

    def hang_up(self) -> None:
        """Wake whoever waits at either end."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    async def send_json(self, value: object) -> None:
        """One frame of JSON."""
        await self.send([(json_octets(value), None)])

    async def send(self, frames: Iterable[Frame]) -> None:
        """These frames, in order."""
        together: list[bytes] = []
        try:
            with anyio.fail_after(self.patience):
                for octets, descriptor in frames:
                    if descriptor is not None:
                        await self._flush(together)
                        await self._send_descriptor(len(octets), descriptor)
                        together = [octets]
                    else:
                        together.append(framed(octets))
                await self._flush(together)
        except TimeoutError:
            raise
        except OSError as error:
            raise Hangup(error.strerror) from error

    async def _flush(self, pieces: list[bytes]) -> None:
        if pieces:
            await asyncio.get_running_loop().sock_sendall(self._socket, b"".join(pieces))

    async def _send_descriptor(self, length: int, descriptor: int) -> None:
        """The head of a frame; a descriptor needs an octet at least that it goes with."""
        head = LENGTH.pack(length)
        while True:
            try:
                sent = socket.send_fds(self._socket, [head], [descriptor])
            except BlockingIOError:
                await self._writable()
            else:
                await self._flush([head[sent:]])
                return

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        # By number: a loop keeps the socket itself for its own calls.
        number = self._socket.fileno()
        loop.add_writer(number, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(number)

    async def receive_json(self, longer: float = 0.0) -> Any:
        """The next frame, which must be JSON. It may take so many seconds more than others."""
        with anyio.fail_after(self.patience + longer):
            length = LENGTH.unpack(await self._take(LENGTH.size))[0]
            if length > MAX_FRAME:
                raise Hangup(f"a frame of {length} octets")
            octets = await self._take(length)
        try:
            return json.loads(octets)
        except (ValueError, RecursionError) as error:
            raise Hangup("a frame that is not JSON") from error

    async def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            await self._read()
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    async def _read(self) -> None:
        try:
            octets = await asyncio.get_running_loop().sock_recv(self._socket, READ)
        except OSError as error:
            raise Hangup(error.strerror) from error
        if not octets:
            raise Hangup("closed")
        self._buffer += octets


def json_octets(value: object) -> bytes:
    """A frame's octets."""
    return json.dumps(value, separators=(",", ":")).encode()
