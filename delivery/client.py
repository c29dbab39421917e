"""One conversation with a mail server, after its greeting: commands out, replies in.

`Channel` takes over the transport from whoever connected, negotiated TLS and authenticated (see `delivery.handshake`).

Guarantees: replies pair with commands in order, also when several come in one segment or a reply comes in pieces. An octet
that the server sends while nothing was asked of it ends the conversation: such a channel is never used again.

Failure: `Broken` from everything that waits: the connection is lost, a reply is garbled, or patience is over. After it the
transport is aborted. A caller that is cancelled in the middle of a transaction must `abort`.

RFC 5321 (SMTP), RFC 2920 (PIPELINING), RFC 2033 (LMTP).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from delivery.replies import GarbledReply, ReplyReader
from spool.reply import Reply, printable

#: RFC 5321 4.2.3: the server closes the channel, whatever was asked.
SHUTTING_DOWN = 421


class Broken(Exception):
    """The conversation is over; the text says why."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What the server can, by its answer to EHLO or LHLO."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    #: Whether SIZE is known at all, and the largest message (0: no limit was told).
    size: bool = False
    max_size: int = 0
    #: LMTP: after the dot comes one reply for each accepted recipient.
    reply_per_recipient: bool = False

    @classmethod
    def of(cls, extensions: Mapping[str, str], *, lmtp: bool = False) -> Self:
        """Read keywords (lower-case) and their parameters."""
        size = extensions.get("size", "")
        return cls(
            pipelining="pipelining" in extensions,
            eight_bit="8bitmime" in extensions,
            smtputf8="smtputf8" in extensions,
            dsn="dsn" in extensions,
            size="size" in extensions,
            max_size=int(size) if size.isascii() and size.isdigit() else 0,
            reply_per_recipient=lmtp,
        )


class Channel(asyncio.Protocol):
    """See the module. Made inside a running loop, around a transport that has no other user any more."""

    def __init__(self, transport: asyncio.Transport, offers: Offers, remote: str) -> None:
        self.offers = offers
        #: Name and address of the server, for people.
        self.remote = remote
        #: Whether a transaction was left in the middle, so that RSET must come before the next MAIL.
        self.needs_reset = False
        #: Told when the connection has ended.
        self.when_closed: Callable[[], None] | None = None
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._replies = ReplyReader()
        self._awaited = 0
        self._trouble: str = ""
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._paused = False
        self._quitting: asyncio.TimerHandle | None = None
        self._lost = False
        transport.set_protocol(self)
        if transport.is_closing():
            self._break("connection lost")

    @property
    def is_usable(self) -> bool:
        """Whether a transaction may begin: nothing is broken, nothing is owed."""
        return not (self._trouble or self._awaited or self._quitting or len(self._replies))

    @property
    def has_reply(self) -> bool:
        """Whether a reply has come that nobody has read."""
        return len(self._replies) > 0

    @property
    def why_closed(self) -> str:
        """``quit``, or what went wrong; empty while it is open."""
        return "quit" if self._quitting else self._trouble

    def send(self, octets: bytes, replies: int) -> None:
        """Send commands, or content; ``replies`` are then owed to us. Raises `Broken`."""
        self._check()
        self._awaited += replies
        self._transport.write(octets)

    async def drain(self, patience: float) -> None:
        """Wait until the other side has taken enough of what was sent (or replies); ``patience`` is in seconds."""
        self._check()
        if self._paused and not self.has_reply:
            self._writer = self._loop.create_future()
            await self._wait(self._writer, patience, "the server stopped reading")

    async def reply(self, patience: float) -> Reply:
        """The next reply that is owed; ``patience`` is in seconds."""
        if not len(self._replies):
            self._check()
            self._reader = self._loop.create_future()
            await self._wait(self._reader, patience, "no reply")
        if not len(self._replies):
            raise Broken(self._trouble)
        self._awaited -= 1
        reply = self._replies.pop()
        if reply.code == SHUTTING_DOWN:
            self._break(str(reply))
        return reply

    def quit(self, patience: float) -> None:
        """Say goodbye and close, without waiting here; after ``patience`` seconds it is closed anyhow."""
        if self._trouble:
            return
        self._transport.write(b"QUIT\r\n")
        self._quitting = self._loop.call_later(patience, self._transport.abort)

    def abort(self) -> None:
        """Cut the connection now; a message without its final dot is discarded by the other side."""
        self._break("connection aborted")

    # -- what the transport tells us ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        if self._trouble or self._quitting:
            return
        try:
            self._replies.feed(data)
        except GarbledReply as error:
            self._break(printable(str(error), 200))
            return
        if len(self._replies) > self._awaited or (self._replies.is_midway and not self._awaited):
            said = f": {self._replies.pop()}" if not self._awaited and len(self._replies) else ""
            self._break(f"the server spoke unasked{said}")
        if len(self._replies):
            _wake(self._reader)
            _wake(self._writer)

    def eof_received(self) -> None:
        """The server has closed its side."""
        self._break("connection closed by the server")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, for whatever reason."""
        self._lost = True
        if self._quitting:
            self._quitting.cancel()
        reason = getattr(exc, "strerror", None) or (str(exc) if exc else "")
        self._break(f"connection lost ({reason})" if reason else "connection lost")
        if self.when_closed:
            self.when_closed()

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport has room."""
        self._paused = False
        _wake(self._writer)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._trouble:
            raise Broken(self._trouble)

    async def _wait(self, waiter: asyncio.Future[None], patience: float, what: str) -> None:
        timer = self._loop.call_later(patience, self._break, f"{what} within {patience:g} s")
        try:
            await waiter
        finally:
            timer.cancel()
            self._reader = self._writer = None

    def _break(self, reason: str) -> None:
        if not self._trouble:
            self._trouble = reason
            if not self._lost:
                self._transport.abort()
        _wake(self._reader)
        _wake(self._writer)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
