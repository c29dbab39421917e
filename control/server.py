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
from dataclasses import dataclass
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
from spool.errors import SpoolLost

#: Octets of rows that are sent together.
BUFFER: Final = 64 * 1024

_log: Final = logging.getLogger(__name__)
_UCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may use; seconds and connections."""

    #: Connections at once of one uid, as OpenSMTPD has it.
    per_uid: int = 32
    #: Connections at once of everybody but the operators, each a descriptor that mail could need.
    strangers: int = 128
    #: Between two requests of one connection; smtpctl sends the next one as soon as it has read an answer.
    idle: float = 60.0
    #: For a client to read a part of an answer: a pager that nobody touches is let go.
    slowest_reader: float = 30.0


class ControlServer:
    """Answers at a listening socket until it is cancelled."""

    def __init__(self, commands: Commands, limits: Limits | None = None) -> None:
        self._commands = commands
        self._limits = limits or Limits()
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
            except SpoolLost:
                raise
            except Exception:
                # One request's bug must not be the daemon's end.
                _log.exception("control: trouble with a request of uid %d", uid)
            finally:
                self._connections[uid] -= 1
                if not self._connections[uid]:
                    del self._connections[uid]

    def _has_room(self, uid: int) -> bool:
        if self._connections[uid] >= self._limits.per_uid:
            return False
        strangers = sum(count for other, count in self._connections.items() if other not in self._operators)
        return uid in self._operators or strangers < self._limits.strangers

    async def _converse(self, stream: SocketStream, viewer: Viewer) -> None:
        incoming = BufferedByteReceiveStream(stream)
        while (request := await self._next_request(incoming)) is not None:
            async with aclosing(self._commands.answer(request, viewer)) as answers:
                await self._send_all(stream, answers)

    async def _next_request(self, incoming: BufferedByteReceiveStream) -> AnyRequest | None:
        """What is asked next; None when the client is done."""
        with anyio.fail_after(self._limits.idle):
            try:
                prefix = await incoming.receive_exactly(PREFIX)
            except (anyio.IncompleteRead, anyio.EndOfStream):
                return None
            return read_request(await incoming.receive_exactly(payload_length(prefix, MAX_REQUEST)))

    async def _send_all(self, stream: SocketStream, answers: AsyncIterator[AnyAnswer]) -> None:
        waiting = bytearray()
        async for answer in answers:
            waiting += frame(answer)
            if len(waiting) >= BUFFER:
                await self._send(stream, waiting)
        await self._send(stream, waiting)

    async def _send(self, stream: SocketStream, waiting: bytearray) -> None:
        with anyio.fail_after(self._limits.slowest_reader):
            await stream.send(bytes(waiting))
        waiting.clear()


def _peer_uid(stream: SocketStream) -> int:
    raw: socket.socket = stream.extra_attributes[SocketAttribute.raw_socket]()
    _, uid, _ = _UCRED.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    assert isinstance(uid, int)
    return uid
