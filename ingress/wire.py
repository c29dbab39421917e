"""The wire under an SMTP session: octets in, replies out, TLS between, and the clock over it.

It is aiosmtpd's `SMTP` with a life of its own: the tables of commands are made once a class instead of by introspection at
each connection, input is a buffer in which whole commands and whole bodies are found by one search, and replies collect
until there is nothing left to read, so that a client's burst of commands costs one wake-up and one write.

Guarantees: a client reads all replies to what it sent before we wait for more of it. Octets that came before the TLS
handshake are thrown away and never read inside TLS. When the client is gone, or slow beyond the limits, `more` says so; the
session's task is never cancelled by it.

Failure: `more` is false at the end of a session, and `Wire.end` names the reason.

RFC 2920 3.2 (replies to a group), RFC 3207 4.2 (discarding), RFC 5321 4.5.3.2 (time).
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from typing import Any, ClassVar, cast

from aiosmtpd.smtp import SMTP

from ingress import replies
from ingress.limits import Limits
from ingress.secured import SecureTransport
from spool.reply import Reply


class End(enum.Enum):
    """Why a session ended, in the words of the log."""

    QUIT = "quit"
    DISCONNECT = "disconnect"
    TIMEOUT = "timeout"
    TLS_FAILED = "tls-accept-failed"
    #: We have had enough of it, or must stop ourselves.
    CLOSED = "closed"


class Wire(SMTP):
    """One connection. ``deadline`` (loop time) is when `expire` falls due while we wait for the client."""

    #: What ``smtp_...`` and ``auth_...`` methods a class has, by the name on the wire.
    verbs: ClassVar[dict[str, str]] = {}
    mechanisms: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = dir(cls)
        cls.verbs = {name[5:]: name for name in names if name.startswith("smtp_")}
        cls.mechanisms = {name[5:].replace("__", "-"): name for name in names if name.startswith("auth_")}

    def __init__(self, limits: Limits) -> None:
        loop = asyncio.get_running_loop()
        # Not SMTP's own: it looks at every attribute of itself and its handler, for each connection anew.
        asyncio.StreamReaderProtocol.__init__(self, None, loop=loop)  # type: ignore[arg-type]
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.limits = limits
        self.input = bytearray()
        self.deadline = float("inf")
        #: Why this is over, or None while it is not.
        self.end: End | None = None
        #: Why a TLS handshake failed, or empty.
        self.handshake_fault = ""
        self._output: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._eof = False
        self._reading_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None

    # -- what the transport tells us ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        # uvloop's transports are asyncio's in all but name.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """It said something."""
        self.input += data
        if len(self.input) > self.limits.input_buffer and not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """It will say no more. What it said before is still answered."""
        self._eof = True
        self._wake()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self._eof = True
        self.transport = None
        self._wake()
        self.resume_writing()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        """It does not read our replies."""
        self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        """It does again, or never will."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- what the session asks ----------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """Say this, at the latest when there is nothing left to read."""
        self._output.append(reply.encode())

    def say(self, line: str) -> None:
        """Say a line that is part of a longer reply."""
        self._output.append(line.encode() + b"\r\n")

    async def push(self, status: str | bytes) -> None:
        """What aiosmtpd's own verbs speak through."""
        self._output.append((status.encode() if isinstance(status, str) else status) + b"\r\n")

    async def flush(self) -> None:
        """Write all replies that have collected, in one piece, and wait while the client does not read."""
        self._write()
        if self._writable is not None:
            self.deadline = self.loop.time() + self.limits.idle
            await self._writable

    def _write(self) -> None:
        if self._output:
            if self.transport is not None:
                self.transport.write(b"".join(self._output))
            self._output.clear()

    async def more(self, seconds: float) -> bool:
        """Wait at most so long for more of `input` than there is now; false when there will be no more."""
        known = len(self.input)
        self._write()
        if self._writable is not None:
            await self.flush()
        if self._eof and self.end is None:
            self.end = End.DISCONNECT
        if self.end is not None:
            return False
        if len(self.input) > known:
            # It came while the client did not read.
            return True
        if self._reading_paused and self.transport is not None and len(self.input) <= self.limits.input_buffer:
            self._reading_paused = False
            self.transport.resume_reading()
        self.deadline = self.loop.time() + seconds
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return self.end is None

    def expire(self) -> None:
        """The client has had its time: say so where it listens, cut it off where it does not."""
        if self._gone is not None or self._writable is not None:
            self.end = self.end or End.TIMEOUT
            self.abort()
        elif self._waiter is not None:
            self.stop(End.TIMEOUT, replies.TIMED_OUT)

    @property
    def is_waiting(self) -> bool:
        """Whether it is the client's turn to speak."""
        return self._waiter is not None

    def stop(self, end: End, last_words: Reply) -> None:
        """End this session from outside, while it waits for its client to speak."""
        self.end = end
        self.reply(last_words)
        self._wake()

    def abort(self) -> None:
        """Hang up without another word."""
        self._output.clear()
        if self.transport is not None:
            self.transport.abort()

    async def hang_up(self) -> None:
        """Say what is left to say, close, and wait until the kernel has let go of the connection."""
        if self.transport is None:
            return
        self._gone = self.loop.create_future()
        self.deadline = self.loop.time() + self.limits.linger
        if self._output and not self.transport.is_closing():
            self.transport.write(b"".join(self._output))
        self.transport.close()
        await self._gone

    async def secure(self, context: ssl.SSLContext) -> bool:
        """Let TLS begin; false when the handshake fails, which ends the session."""
        await self.flush()
        # Whatever was sent ahead of the handshake may come from somebody in between (CVE-2011-0411).
        self.input.clear()
        return await self._shake_hands(context)

    async def secure_from_the_start(self, context: ssl.SSLContext) -> bool:
        """Let TLS begin with the connection: what has come already is the client's part of the handshake."""
        begun = bytes(self.input)
        self.input.clear()
        return await self._shake_hands(context, begun)

    async def _shake_hands(self, context: ssl.SSLContext, begun: bytes = b"") -> bool:
        plain, self.transport = self.transport, None
        if plain is None or plain.is_closing():
            self.end = End.DISCONNECT
            return False
        self._reading_paused = False
        secured = SecureTransport(plain, self, context)
        try:
            await secured.handshake(begun, self.limits.handshake)
        except OSError as error:
            self.handshake_fault = getattr(error, "reason", None) or str(error)
            self.end = End.TLS_FAILED
            return False
        self.transport = secured
        return self.end is None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
