"""The talk between the daemon and an agent: length-prefixed frames over a socket pair, large bodies as descriptors.

A frame is four octets of length and that many octets; most are JSON. The daemon sends deposits, each followed by its body (a
frame of octets, or an empty frame with a descriptor). The agent says that it has begun, may ask for intents to be committed,
and ends with results. Whoever hears no "begun" knows that nothing was done. Or the daemon names a home, and the agent says
what the .forward in it holds.

Guarantees: a frame longer than `MAX_FRAME` is refused before it is read.

Failure: `Hangup` when the other side is gone, or says what this protocol does not know. `TimeoutError` from a socket with a
time-out.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from typing import Any, Final

#: Octets of one frame: a batch of deposits with long addresses, or a small body. No more is ever honest.
MAX_FRAME: Final = 16 * 1024 * 1024
#: Octets read at a time: less than what malloc(3) maps and unmaps each time.
READ: Final = 64 * 1024
#: Descriptors that may come with one read(2).
_DESCRIPTORS: Final = 16

#: What stands before a frame.
LENGTH: Final = struct.Struct("!I")


class Hangup(Exception):
    """The other side is gone."""


def framed(octets: bytes) -> bytes:
    """One frame."""
    return LENGTH.pack(len(octets)) + octets


class Wire:
    """One end; blocking. `delivery.loop_wire` is one for an event loop."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def close(self) -> None:
        """Give up this end, and every descriptor that nobody took."""
        self.socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def hang_up(self) -> None:
        """Wake whoever waits at either end; safe from another thread."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def send(self, octets: bytes, descriptor: int | None = None) -> None:
        """One frame."""
        head = LENGTH.pack(len(octets))
        try:
            if descriptor is None:
                self.socket.sendall(head + octets)
            else:
                socket.send_fds(self.socket, [head], [descriptor])
                self.socket.sendall(octets)
        except TimeoutError:
            raise
        except OSError as error:
            raise Hangup(error.strerror) from error

    def send_json(self, value: object, descriptor: int | None = None) -> None:
        """One frame of JSON."""
        self.send(json.dumps(value, separators=(",", ":")).encode(), descriptor)

    def receive(self) -> bytes:
        """The next frame."""
        length = LENGTH.unpack(self._take(LENGTH.size))[0]
        if length > MAX_FRAME:
            raise Hangup(f"a frame of {length} octets")
        return self._take(length)

    def receive_json(self) -> Any:
        """The next frame, which must be JSON."""
        try:
            return json.loads(self.receive())
        except (ValueError, RecursionError) as error:
            raise Hangup("a frame that is not JSON") from error

    def take_descriptor(self) -> int:
        """The descriptor that came with the last frame."""
        try:
            return self._descriptors.popleft()
        except IndexError:
            raise Hangup("a descriptor is missing") from None

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._read()
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _read(self) -> None:
        space = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
        try:
            octets, ancillary, flags, _ = self.socket.recvmsg(READ, space, socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            raise
        except OSError as error:
            raise Hangup(error.strerror) from error
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._descriptors.extend(found)
        if not octets or flags & socket.MSG_CTRUNC:
            raise Hangup("closed")
        self._buffer += octets
