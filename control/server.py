"""The control socket: who asks is known before what they ask, and nobody can hold the daemon up.

Guarantees: a connection is attributed to a uid by the kernel before its first octet is read; connections of one uid,
frames, and the time that a client may take to read or to write are bounded. Nothing that a client sends ends the daemon.

Failure: a client that breaks the protocol, is too slow or is one too many loses its connection.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketListener, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from control.commands import Commands
from control.listings import Viewer
from control.protocol import (
    MAX_REQUEST,
    PREFIX,
    AnyAnswer,
    AnyRequest,
    ProtocolError,
    frame,
    payload_length,
    read_request,
)

#: Connections at once of one uid, as OpenSMTPD has it.
PER_UID: Final = 32
#: Connections at once of everybody but the operators, each a descriptor that mail could need.
STRANGERS: Final = 128
#: Seconds between two requests of one connection; smtpctl sends the next one as soon as it has read an answer.
IDLE: Final = 60.0
#: Seconds for a client to read a part of an answer: a pager that nobody touches is let go.
SLOWEST_READER: Final = 30.0
#: Octets of rows that are sent together.
BUFFER: Final = 64 * 1024

_log: Final = logging.getLogger(__name__)
_UCRED = struct.Struct("3i")


class ControlServer:
    """Answers at a listening socket until it is cancelled."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._operators = {0, os.geteuid()}
        self._connections: Counter[int] = Counter()

    async def serve(self, listening: socket.socket) -> None:
        """Takes the socket over, and closes it at the end."""
        async with await SocketListener.from_socket(listening) as listener:
            await listener.serve(self._connected)

    async def _connected(self, stream: SocketStream) -> None:
        async with stream:
            uid = _peer_uid(stream)
            if not self._has_room(uid):
                _log.warning("control: too many connections of uid %d", uid)
                return
            self._connections[uid] += 1
            try:
                await self._converse(stream, Viewer(None if uid in self._operators else uid))
            except (ProtocolError, TimeoutError, anyio.BrokenResourceError, anyio.IncompleteRead) as error:
                _log.debug("control: connection of uid %d ends: %s", uid, error or type(error).__name__)
            finally:
                self._connections[uid] -= 1
                if not self._connections[uid]:
                    del self._connections[uid]

    def _has_room(self, uid: int) -> bool:
        if uid in self._operators:
            return self._connections[uid] < PER_UID
        strangers = sum(count for other, count in self._connections.items() if other not in self._operators)
        return self._connections[uid] < PER_UID and strangers < STRANGERS

    async def _converse(self, stream: SocketStream, viewer: Viewer) -> None:
        incoming = BufferedByteReceiveStream(stream)
        while (request := await _next_request(incoming)) is not None:
            async with aclosing(self._commands.answer(request, viewer)) as answers:
                await _send_all(stream, answers)


async def _next_request(incoming: BufferedByteReceiveStream) -> AnyRequest | None:
    """What is asked next; None when the client is done."""
    with anyio.fail_after(IDLE):
        try:
            prefix = await incoming.receive_exactly(PREFIX)
        except (anyio.IncompleteRead, anyio.EndOfStream):
            return None
        return read_request(await incoming.receive_exactly(payload_length(prefix, MAX_REQUEST)))


async def _send_all(stream: SocketStream, answers: AsyncIterator[AnyAnswer]) -> None:
    waiting = bytearray()
    async for answer in answers:
        waiting += frame(answer)
        if len(waiting) >= BUFFER:
            await _send(stream, waiting)
    await _send(stream, waiting)


async def _send(stream: SocketStream, waiting: bytearray) -> None:
    with anyio.fail_after(SLOWEST_READER):
        await stream.send(bytes(waiting))
    waiting.clear()


def _peer_uid(stream: SocketStream) -> int:
    raw: socket.socket = stream.extra_attributes[SocketAttribute.raw_socket]()
    _, uid, _ = _UCRED.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    assert isinstance(uid, int)
    return uid
