"""An SMTP or LMTP server on loopback that records what it is given, and misbehaves where a test tells it to.

    async with RecordingSink() as sink:
        sink.on("RCPT", Act("550 5.1.1 nobody here"), containing="bad@", times=None)
        ...                                     # give it mail at 127.0.0.1, sink.port
        (message,) = await sink.received(1)
        assert message.body == b"..."

A test without a loop of its own runs it in a thread: ``with start_blocking_portal() as portal,
portal.wrap_async_context_manager(RecordingSink()) as sink``.

The instants at which a script can act: ``connect`` (in place of the greeting), each command by its verb in capitals
(``AUTH`` stands for the whole dialogue), ``dot``, and where usually nothing is said: ``handshake`` (before TLS begins) and
``body`` (after its first octets).
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import anyio

#: What the sink offers after EHLO unless a test says otherwise; STARTTLS and AUTH come from the arguments.
OFFERS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
_PIECE = 65536


@dataclass(frozen=True, slots=True)
class Act:
    """What the sink does in place of the usual."""

    #: A reply line, octets to be sent as they are, or None for the usual reply; ``b""`` says nothing.
    reply: str | bytes | None = None
    #: Seconds to wait before.
    delay: float = 0
    #: Whether the connection is cut off afterwards, without a goodbye.
    cut: bool = False


@dataclass(slots=True)
class _Line:
    act: Act
    containing: str
    left: int | None


@dataclass(slots=True)
class Peer:
    """One connection to the sink."""

    number: int
    commands: list[str] = field(default_factory=list)
    helo: str = ""
    tls: bool = False
    #: The client's certificate, when it showed one that the sink's context trusts.
    certificate: object = None
    user: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """One message that the sink took."""

    peer: Peer
    #: What followed MAIL and RCPT: ``FROM:<a@b> SIZE=7``.
    mail: str
    rcpts: tuple[str, ...]
    #: The message, dots unstuffed.
    body: bytes
    #: The same as it came over the wire, its last dot included.
    raw: bytes


class RecordingSink:
    """See the module. Give ``tls`` for STARTTLS, ``implicit`` for TLS from the first octet, ``users`` for AUTH."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        users: dict[str, str] | None = None,
        lmtp: bool = False,
        offers: tuple[str, ...] = OFFERS,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "",
    ) -> None:
        self.tls = tls
        self.implicit = implicit
        self.users = users or {}
        self.lmtp = lmtp
        self.offers = offers
        self.host = host
        self.port = port
        self.path = path
        self.messages: list[Received] = []
        self.peers: list[Peer] = []
        self._script: dict[str, list[_Line]] = {}
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def on(self, instant: str, act: Act, *, containing: str = "", times: int | None = 1) -> None:
        """Act so at an instant (when the command contains a text), so many times; None means always."""
        self._script.setdefault(instant, []).append(_Line(act, containing, times))

    def act_at(self, instant: str, text: str = "") -> Act:
        """What to do now; used up by asking."""
        for line in self._script.get(instant, ()):
            if line.left != 0 and line.containing in text:
                if line.left is not None:
                    line.left -= 1
                return line.act
        return Act()

    def take(self, message: Received) -> None:
        """Record a message; LMTP says so once for each recipient."""
        if not (self.messages and self.messages[-1] is message):
            self.messages.append(message)
            self._changed.set()

    async def received(self, count: int, patience: float = 10) -> list[Received]:
        """Wait for so many messages, and see all there are."""
        await self.until(lambda: len(self.messages) >= count, patience)
        return list(self.messages)

    async def until(self, condition: Callable[[], bool], patience: float = 10) -> None:
        """Wait for something to become true; looked at when a connection comes or goes and when a message is taken."""
        with anyio.fail_after(patience):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def __aenter__(self) -> Self:
        wrapped = self.tls if self.implicit else None
        if self.path:
            self._server = await asyncio.start_unix_server(self._serve, self.path, ssl=wrapped)
        else:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=wrapped)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        peer = Peer(len(self.peers) + 1, tls=self.implicit)
        peername = writer.get_extra_info("peername")
        peer.address = peername[0] if isinstance(peername, tuple) else ""
        self.peers.append(peer)
        self._changed.set()
        try:
            with suppress(_Hangup, ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await _Session(self, peer, reader, writer).run()
        finally:
            self._sessions.discard(task)
            self._changed.set()
            writer.close()
            # After a handshake that failed, nobody ever tells the writer that it is closed.
            with anyio.move_on_after(0.1), suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


class _Hangup(Exception):
    """The conversation is over."""


class _Session:
    def __init__(
        self, sink: RecordingSink, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.sink = sink
        self.peer = peer
        self.reader = reader
        self.writer = writer
        self.buffer = b""
        self.mail = ""
        self.rcpts: list[str] = []

    async def run(self) -> None:
        sock = self.writer.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer.certificate = self.writer.get_extra_info("peercert")
        await self.say("connect", "", "220 sink.example ESMTP")
        while True:
            line = (await self.line()).decode("utf-8", "surrogateescape")
            self.peer.commands.append(line)
            verb, _, rest = line.partition(" ")
            await self.obey(verb.upper(), rest)

    async def obey(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO" | "LHLO" | "HELO":
                await self.greet(verb, rest)
            case "STARTTLS" if self.sink.tls and not self.peer.tls:
                await self.start_tls(rest)
            case "AUTH" if self.sink.users:
                await self.authenticate(rest)
            case "MAIL":
                if (await self.say("MAIL", rest, "250 2.1.0 Ok")).startswith(b"2"):
                    self.mail, self.rcpts = rest, []
            case "RCPT":
                if (await self.say("RCPT", rest, "250 2.1.5 Ok")).startswith(b"2"):
                    self.rcpts.append(rest)
            case "DATA":
                await self.data()
            case "RSET" | "NOOP":
                await self.say(verb, rest, "250 2.0.0 Ok")
            case "QUIT":
                await self.say("QUIT", rest, "221 2.0.0 Bye")
                raise _Hangup
            case _:
                await self.say(verb, rest, "502 5.5.1 Unknown command")

    async def greet(self, verb: str, name: str) -> None:
        self.peer.helo = name
        offers = list(self.sink.offers)
        if self.sink.tls and not self.peer.tls:
            offers.append("STARTTLS")
        if self.sink.users:
            offers.append("AUTH PLAIN LOGIN")
        lines = ["sink.example", *(offers if verb != "HELO" else [])]
        usual = "\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines)
        await self.say(verb, name, usual)

    async def start_tls(self, rest: str) -> None:
        if not (await self.say("STARTTLS", rest, "220 2.0.0 Go ahead")).startswith(b"220"):
            return
        assert self.sink.tls is not None
        self.buffer = b""
        await self.say("handshake", "", b"")
        await self.writer.start_tls(self.sink.tls)
        self.peer.tls = True
        self.peer.certificate = self.writer.get_extra_info("peercert")

    async def authenticate(self, rest: str) -> None:
        mechanism, _, first = rest.partition(" ")
        if mechanism.upper() == "PLAIN":
            answer = first or await self.ask("")
            _, user, password = _decoded(answer).split("\0")
        else:
            user = _decoded(first or await self.ask("VXNlcm5hbWU6"))
            password = _decoded(await self.ask("UGFzc3dvcmQ6"))
        right = self.sink.users.get(user) == password
        usual = "235 2.7.0 Welcome" if right else "535 5.7.8 Error: authentication failed"
        if (await self.say("AUTH", rest, usual)).startswith(b"2"):
            self.peer.user = user

    async def ask(self, challenge: str) -> str:
        await self.write(f"334 {challenge}\r\n".encode())
        return (await self.line()).decode()

    async def data(self) -> None:
        usual = "354 Go on" if self.rcpts else "554 5.5.1 No valid recipients"
        if not (await self.say("DATA", "", usual)).startswith(b"3"):
            return
        raw = await self.body()
        body = raw.removesuffix(b".\r\n")
        body = body.removeprefix(b".") if body.startswith(b".") else body
        message = Received(self.peer, self.mail, tuple(self.rcpts), body.replace(b"\r\n.", b"\r\n"), raw)
        for rcpt in self.rcpts if self.sink.lmtp else [self.mail]:
            await self.say("dot", rcpt, "250 2.0.0 Ok: queued", message)
        self.mail, self.rcpts = "", []

    async def body(self) -> bytes:
        acted = False
        seen = b"\r\n" + self.buffer
        while (end := seen.find(b"\r\n.\r\n")) < 0:
            if len(seen) > 2 and not acted:
                acted = True
                await self.say("body", "", b"")
            seen += await self.read()
        self.buffer = seen[end + 5 :]
        return seen[2 : end + 5]

    async def say(self, instant: str, text: str, usual: str | bytes, message: Received | None = None) -> bytes:
        act = self.sink.act_at(instant, text)
        if act.delay:
            await asyncio.sleep(act.delay)
        reply = usual if act.reply is None else act.reply
        octets = reply.encode() + b"\r\n" if isinstance(reply, str) else reply
        if message is not None and (octets.startswith(b"2") or act.cut):
            self.sink.take(message)
        if octets:
            await self.write(octets)
        if act.cut:
            self.writer.transport.abort()
            raise _Hangup
        return octets

    async def write(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.buffer += await self.read()
        line, self.buffer = self.buffer[:end], self.buffer[end + 2 :]
        return line

    async def read(self) -> bytes:
        octets = await self.reader.read(_PIECE)
        if not octets:
            raise _Hangup
        return octets


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
