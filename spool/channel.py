"""The talk between two processes of ours: calls and answers in typed frames over a socket pair, with descriptors.

A frame is four octets of length and one MessagePack value. Either side may call; an answer, or the fault in its place, names
the call that it belongs to, so that many are under way at once and each ends when it ends. What either side offers, and with
what types, is a `Method`; whatever does not fit the types ends the talk before anybody acts on it.

Guarantees: nothing that the other side sends runs code, takes more memory than `MAX_FRAME` a frame, or leaves a descriptor
open that nobody took. A call that has begun to be served is served to its end unless the channel closes; a caller who is
cancelled no longer hears of it. Calls are begun in the order they were made.

Failure: `ChannelClosed` for every call when the other side is gone or breaks the protocol; what `spool.faults` knows, as the
exceptions it was; `CallFailed` for everything else that went wrong there, which its own log tells.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, TypeAlias, TypeVar

import anyio
import msgspec
from anyio.abc import TaskStatus

from spool.faults import SPOOL_FAULTS, Fault, Faults, exception_of, fault_of

#: Octets of one frame: a message of the largest number of envelopes that one transaction may have, several times over.
MAX_FRAME: Final = 32 << 20
#: Octets of calls of a process that are being served; beyond that it waits, and the kernel's buffer holds it back.
MAX_LOAD: Final = 16 << 20
#: Octets that wait to be sent before callers wait too.
MAX_BACKLOG: Final = 16 << 20
#: Descriptors of one frame: the most that the kernel passes at once.
MAX_DESCRIPTORS: Final = 253
#: Octets read at a time.
_READ: Final = 256 * 1024
#: Frames written at a time: below what the kernel takes of pieces (IOV_MAX).
_WRITE: Final = 512

#: What decoding raises: text that is no UTF-8, and values in values without end, are no errors of msgspec's own.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_LENGTH = struct.Struct("!I")

_log: Final = logging.getLogger(__name__)

A = TypeVar("A")
R = TypeVar("R")


class ChannelClosed(ConnectionError):
    """The other side is gone, or says what it may not say."""


class CallFailed(Exception):
    """Something unforeseen went wrong at the other side; its log says what."""


class _Over(Exception):
    """Ends those who serve calls."""


class Method(Generic[A, R]):
    """What one side may ask of the other, and what it hears."""

    def __init__(self, name: str, argument: type[A], answer: type[R]) -> None:
        self.name = name
        self.argument = msgspec.msgpack.Decoder(argument)
        self.answer = msgspec.msgpack.Decoder(answer)

    def __repr__(self) -> str:
        return f"<Method {self.name}>"


class Descriptors:
    """Descriptors that came with a frame; those that nobody takes are closed."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = deque(numbers)

    def take(self) -> int:
        """The next one, which is the caller's to close from here on. Raises `ChannelClosed` when there is none."""
        if not self._numbers:
            raise ChannelClosed("a descriptor is missing")
        return self._numbers.popleft()

    def __len__(self) -> int:
        return len(self._numbers)

    def close(self) -> None:
        """Close the rest."""
        while self._numbers:
            os.close(self._numbers.popleft())


@dataclass(frozen=True, slots=True)
class Parcel(Generic[R]):
    """An answer that brings descriptors. ``is_given`` when they are closed here once they are on their way."""

    value: R
    descriptors: Sequence[int] = ()
    is_given: bool = False


#: Serves one method: is given the argument and what came with it, and answers a value or a `Parcel`.
Handler: TypeAlias = Callable[[Any, Descriptors], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Offer:
    """A method that this side serves."""

    method: Method[Any, Any]
    handler: Handler


class _Call(msgspec.Struct, frozen=True, array_like=True, tag=1):
    number: int
    method: str
    descriptors: int
    argument: msgspec.Raw


class _Answer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    number: int
    descriptors: int
    value: msgspec.Raw


class _Refusal(msgspec.Struct, frozen=True, array_like=True, tag=3):
    number: int
    #: None for what nobody foresaw.
    fault: Fault | None


_Frame: TypeAlias = _Call | _Answer | _Refusal

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Frame)


@dataclass(slots=True)
class _Waiting:
    """A caller."""

    method: Method[Any, Any]
    future: asyncio.Future[tuple[Any, Descriptors]]


class Channel:
    """One end. Made in the loop that `run` is awaited in; calls may be made before."""

    def __init__(
        self,
        end: socket.socket,
        offers: Sequence[Offer] = (),
        faults: Faults = SPOOL_FAULTS,
        load: int | None = None,
        believed: Faults | None = None,
    ) -> None:
        """Take ``end`` over. With ``load``, nothing is read while calls of so many octets are served.

        That is for a side which calls without being called: answers are not read either. ``faults`` cross in both
        directions, unless others are ``believed`` when they come from there: whoever may have been taken over must not
        decide what is raised here.
        """
        end.setblocking(False)
        self._socket = end
        self._loop = asyncio.get_running_loop()
        self._offers: Mapping[str, Offer] = {offer.method.name: offer for offer in offers}
        self._waiting: dict[int, _Waiting] = {}
        self._last = 0
        self._incoming = bytearray()
        self._piece = bytearray(_READ)
        self._descriptors: deque[int] = deque()
        #: What waits to be sent: until the end of this turn of the loop, or until the kernel takes more.
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._backlog = 0
        self._is_flushing = False
        self._is_blocked = False
        self._sendable = asyncio.Event()
        self._sendable.set()
        self._faults = faults
        self._believed = faults if believed is None else believed
        self._most = load
        self._load = 0
        self._is_reading = False
        #: asyncio's own, whose tasks cost a tenth of anyio's: there is one for each call.
        self._servants: asyncio.TaskGroup | None = None
        self._over = anyio.Event()
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be said any more."""
        return self._over.is_set()

    @property
    def reason(self) -> str:
        """Why it is closed."""
        return self._reason

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve calls and bring answers home, until the other side is gone. Cancelled, it closes this end."""
        try:
            async with asyncio.TaskGroup() as servants:
                self._servants = servants
                try:
                    self._read_on()
                    task_status.started()
                    await self._over.wait()
                    raise _Over
                finally:
                    self._servants = None
        except* _Over:
            pass
        finally:
            self.close("closed here")

    async def wait_closed(self) -> None:
        """Until nothing can be said any more."""
        await self._over.wait()

    def close(self, reason: str = "closed") -> None:
        """End the talk: whoever waits for an answer gets none."""
        if self._over.is_set():
            return
        self._reason = reason
        # What was said before the end is heard, as far as the kernel takes it.
        self._flush()
        if not self._over.is_set():
            self._end()

    def _end(self) -> None:
        self._over.set()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.set_exception(ChannelClosed(self._reason))
        self._waiting.clear()
        self._sendable.set()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        while self._outgoing:
            _close(self._outgoing.popleft()[1])

    # -- calls --------------------------------------------------------------------------------------------------------

    async def call(self, method: Method[A, R], argument: A, descriptors: Sequence[int] = ()) -> R:
        """Ask, and wait for the answer. ``descriptors`` stay the caller's."""
        value, came = await self._ask(method, argument, descriptors)
        came.close()
        return value

    async def fetch(self, method: Method[A, R], argument: A) -> tuple[R, Descriptors]:
        """Ask for what comes with descriptors; those that are not taken have to be closed."""
        return await self._ask(method, argument, ())

    def tell(self, method: Method[A, R], argument: A) -> None:
        """Say something that needs no answer; it is on its way at once."""
        self._require_open()
        self._send(_Call(0, method.name, 0, msgspec.Raw(_encoder.encode(argument))))
        self._flush()

    async def _ask(self, method: Method[A, R], argument: A, descriptors: Sequence[int]) -> tuple[R, Descriptors]:
        self._require_open()
        if not self._sendable.is_set():
            await self._sendable.wait()
            self._require_open()
        self._last += 1
        number = self._last
        waiting = _Waiting(method, self._loop.create_future())
        frame = _Call(number, method.name, len(descriptors), msgspec.Raw(_encoder.encode(argument)))
        # Before it is sent: whoever finds the channel broken tells those who wait.
        self._waiting[number] = waiting
        try:
            self._send(frame, descriptors)
            return await waiting.future
        finally:
            self._waiting.pop(number, None)
            # The answer came, and nobody is there any more to take what it brought.
            if waiting.future.done() and not waiting.future.cancelled():
                self._forget_unread(waiting.future)

    def _forget_unread(self, future: asyncio.Future[tuple[Any, Descriptors]]) -> None:
        task = asyncio.current_task()
        if future.exception() is None and task is not None and task.cancelling():
            future.result()[1].close()

    def _require_open(self) -> None:
        if self._over.is_set():
            raise ChannelClosed(self._reason)

    # -- out ----------------------------------------------------------------------------------------------------------

    def _send(self, frame: _Frame, descriptors: Sequence[int] = ()) -> None:
        """Have it written at the end of this turn of the loop: all that is said in one goes in one call."""
        octets = bytearray(_LENGTH.size)
        _encoder.encode_into(frame, octets, _LENGTH.size)
        length = len(octets) - _LENGTH.size
        if length > MAX_FRAME:
            raise ValueError(f"a frame of {length} octets is too long")
        _LENGTH.pack_into(octets, 0, length)
        self._outgoing.append((memoryview(octets), [os.dup(one) for one in descriptors]))
        self._backlog += len(octets)
        if self._backlog > MAX_BACKLOG:
            self._sendable.clear()
        if not (self._is_flushing or self._is_blocked):
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what waits; the rest as soon as the kernel takes it."""
        self._is_flushing = False
        while self._outgoing and self._push():
            pass
        if self.is_closed:
            return
        if not self._outgoing:
            self._sendable.set()
        if self._is_blocked != bool(self._outgoing):
            self._is_blocked = not self._is_blocked
            if self._is_blocked:
                self._loop.add_writer(self._socket, self._flush)
            else:
                self._loop.remove_writer(self._socket)

    def _push(self) -> int:
        """How many octets the kernel took of the frames that wait."""
        octets, descriptors = self._next_pieces()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            sent = self._socket.sendmsg(octets, rights)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._reason = self._reason or error.strerror or "broken"
            self._end()
            return 0
        self._forget_sent(sent)
        return sent

    def _next_pieces(self) -> tuple[list[memoryview], list[int]]:
        """Frames for one call. Descriptors arrive with its first octet, so only the first frame may have some."""
        frames = iter(self._outgoing)
        first, descriptors = next(frames)
        octets = [first]
        for more, others in islice(frames, _WRITE):
            if others:
                break
            octets.append(more)
        return octets, descriptors

    def _forget_sent(self, sent: int) -> None:
        self._backlog -= sent
        while sent:
            octets, descriptors = self._outgoing.popleft()
            _close(descriptors)
            if sent < len(octets):
                self._outgoing.appendleft((octets[sent:], []))
            sent -= min(sent, len(octets))

    # -- in -----------------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        """Read when there is something, unless too much is being served already."""
        wanted = not self.is_closed and (self._most is None or self._load < self._most)
        if wanted and not self._is_reading:
            self._loop.add_reader(self._socket, self._readable)
        elif self._is_reading and not wanted and not self.is_closed:
            self._loop.remove_reader(self._socket)
        self._is_reading = wanted

    def _readable(self) -> None:
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        try:
            octets, ancillary, flags, _ = self._socket.recvmsg_into([self._piece], space, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error.strerror or "broken")
            return
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._descriptors.extend(found)
        if not octets or flags & socket.MSG_CTRUNC:
            self.close("the other side has ended" if not octets else "descriptors were lost")
            return
        self._incoming += memoryview(self._piece)[:octets]
        try:
            self._take_frames()
        except (*_UNREADABLE, ChannelClosed) as error:
            _log.error("a frame from another process makes no sense: %s", error)
            self.close(f"a frame that makes no sense: {error}")

    def _take_frames(self) -> None:
        at = 0
        while not self.is_closed and len(self._incoming) - at >= _LENGTH.size:
            length: int = _LENGTH.unpack_from(self._incoming, at)[0]
            if length > MAX_FRAME:
                raise ChannelClosed(f"a frame of {length} octets")
            end = at + _LENGTH.size + length
            if len(self._incoming) < end:
                break
            frame = _decoder.decode(bytes(memoryview(self._incoming)[at + _LENGTH.size : end]))
            at = end
            self._take(frame, length)
        del self._incoming[:at]
        if len(self._descriptors) > 2 * MAX_DESCRIPTORS:
            raise ChannelClosed("descriptors that no frame speaks of")

    def _take(self, frame: _Frame, octets: int) -> None:
        match frame:
            case _Call():
                offer = self._offers.get(frame.method)
                if offer is None:
                    raise ChannelClosed(f"it may not ask for {frame.method!r}")
                argument = offer.method.argument.decode(frame.argument)
                came = self._came(frame.descriptors)
                if self._servants is None:
                    # Those who serve are being ended.
                    came.close()
                    return
                self._load += octets
                self._servants.create_task(self._serve(offer, frame.number, argument, came, octets))
                self._read_on()
            case _Answer():
                came = self._came(frame.descriptors)
                waiting = self._waiting.get(frame.number)
                if waiting is None or waiting.future.done():
                    came.close()
                    return
                try:
                    value = waiting.method.answer.decode(frame.value)
                except _UNREADABLE:
                    came.close()
                    raise
                waiting.future.set_result((value, came))
            case _Refusal():
                waiting = self._waiting.pop(frame.number, None)
                if waiting is not None and not waiting.future.done():
                    known = exception_of(frame.fault, self._believed) if frame.fault else None
                    waiting.future.set_exception(known or CallFailed(waiting.method.name))

    def _came(self, count: int) -> Descriptors:
        if not 0 <= count <= len(self._descriptors):
            raise ChannelClosed("a descriptor is missing")
        return Descriptors([self._descriptors.popleft() for _ in range(count)])

    async def _serve(self, offer: Offer, number: int, argument: Any, came: Descriptors, octets: int) -> None:
        try:
            answer = await offer.handler(argument, came)
            parcel = answer if isinstance(answer, Parcel) else Parcel(answer)
            try:
                value = msgspec.Raw(_encoder.encode(parcel.value))
                self._answer(_Answer(number, len(parcel.descriptors), value), parcel.descriptors)
            finally:
                if parcel.is_given:
                    _close(parcel.descriptors)
        except ChannelClosed as error:
            _log.error("%s from another process makes no sense: %s", offer.method.name, error)
            self.close(str(error))
        except Exception as error:
            fault = fault_of(error, self._faults)
            if fault is None:
                _log.exception("serving %s failed in an unforeseen way", offer.method.name)
            self._answer(_Refusal(number, fault))
        finally:
            came.close()
            self._load -= octets
            self._read_on()

    def _answer(self, frame: _Answer | _Refusal, descriptors: Sequence[int] = ()) -> None:
        if not self.is_closed:
            self._send(frame, descriptors)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends for two processes."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (near, far):
        # A message of ordinary size is handed over in one go.
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, buffer, 1 << 20)
    return near, far
