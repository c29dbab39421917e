"""TLS over a plain connection, with little memory: what a session in TLS holds does not grow with what goes through it.

The event loops' own TLS keeps a buffer of 256 KiB for each connection, and another as large grows beside it with the first
message. Here octets go through OpenSSL in small slices, at once, and nothing is kept but what OpenSSL itself needs.

Guarantees: the session hears nothing but what was said inside TLS. While it does not read, no more than one reading of
the plain connection waits here. Replies to what came before the end are still sent.

Failure: `handshake` raises `OSError`, of which `ssl.SSLError` is one; later faults of the peer end the connection.

RFC 8446 and RFC 5246 (TLS), RFC 8446 6.1 (how it is closed).
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, Final, Protocol

#: Octets that are deciphered at a time. OpenSSL's buffers stay as large as the largest slice they were given.
SLICE: Final = 4096
#: Octets taken out at a time: a record of TLS has no more.
RECORD: Final = 16 * 1024


class Hearer(Protocol):
    """The session, as far as it is told what happens."""

    def data_received(self, data: bytes) -> None:
        """It said something."""

    def eof_received(self) -> bool | None:
        """It will say no more."""

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""

    def pause_writing(self) -> None:
        """It does not read."""

    def resume_writing(self) -> None:
        """It reads again."""


class SecureTransport(asyncio.Transport, asyncio.Protocol):
    """The server's side of TLS: a protocol to the plain transport, a transport to the session."""

    def __init__(self, plain: asyncio.Transport, hearer: Hearer, context: ssl.SSLContext) -> None:
        super().__init__()
        self._plain = plain
        self._hearer = hearer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._inside = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        #: Came from the plain connection, and is not deciphered yet.
        self._waiting = b""
        self._shaking: asyncio.Future[None] | None = None
        self._is_open = False
        self._is_paused = False
        #: Whether the plain connection has ended, and whether the session knows.
        self._is_cut = False
        self._has_ended = False

    async def handshake(self, begun: bytes, seconds: float) -> None:
        """Agree with the client, who has said ``begun`` already. Raises `OSError`, after which there is no connection."""
        self._shaking = asyncio.get_running_loop().create_future()
        self._plain.set_protocol(self)
        self._plain.resume_reading()
        try:
            async with asyncio.timeout(seconds):
                if begun:
                    self.data_received(begun)
                await self._shaking
        except TimeoutError:
            raise ConnectionAbortedError(f"no TLS handshake within {seconds:g} s") from None
        finally:
            self._shaking = None
            if not self._is_open:
                self._plain.abort()

    # -- what the plain transport tells us ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Ciphered octets."""
        self._waiting = self._waiting + data if self._waiting else bytes(data)
        self._advance()

    def eof_received(self) -> bool:
        """The connection ends without a word, as many do: what was said before it counts, like without TLS."""
        if not self._is_open:
            self._fail(ConnectionResetError("the connection ended within the handshake"))
            return False
        self._is_cut = True
        self._advance()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        if self._is_open:
            self._hearer.connection_lost(error)
        else:
            self._fail(error or ConnectionResetError("the connection was lost within the handshake"))

    def pause_writing(self) -> None:
        """It does not read."""
        if self._is_open:
            self._hearer.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._is_open:
            self._hearer.resume_writing()

    # -- what the session asks ----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Say this inside TLS."""
        try:
            self._inside.write(data)
        except ssl.SSLError:
            self._plain.abort()
        self._flush()

    def is_closing(self) -> bool:
        """Whether it is about to end."""
        return self._plain.is_closing()

    def close(self) -> None:
        """Say that this is all, and close when it is sent."""
        # The client's own last word is not waited for (RFC 8446 6.1).
        with suppress(ssl.SSLError):
            self._inside.unwrap()
        self._flush()
        self._plain.close()

    def abort(self) -> None:
        """Hang up."""
        self._plain.abort()

    def is_reading(self) -> bool:
        """Whether the session is told what comes."""
        return not self._is_paused

    def pause_reading(self) -> None:
        """Tell the session nothing for now."""
        self._is_paused = True
        self._plain.pause_reading()

    def resume_reading(self) -> None:
        """Tell it what came in between, and what comes."""
        self._is_paused = False
        asyncio.get_running_loop().call_soon(self._read_on)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection and of its TLS."""
        match name:
            case "ssl_object":
                return self._inside
            case "sslcontext":
                return self._inside.context
        return self._plain.get_extra_info(name, default)

    def _read_on(self) -> None:
        """More is read only when nothing is left of what was read before."""
        self._advance()
        if not self._is_paused and not self._plain.is_closing():
            self._plain.resume_reading()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Put what waits through OpenSSL, slice for slice, as long as somebody wants it."""
        try:
            self._take()
            waiting, at = memoryview(self._waiting), 0
            while at < len(waiting) and not self._is_paused and not self._has_ended:
                self._incoming.write(waiting[at : at + SLICE])
                at += SLICE
                self._take()
            self._waiting = bytes(waiting[at:])
        except ssl.SSLError as error:
            # An alert tells the client why.
            self._flush()
            self._fail(error)
        else:
            self._flush()
            if self._is_cut and not self._is_paused:
                self._end()

    def _take(self) -> None:
        """Everything that can be read now. Raises `ssl.SSLError`."""
        try:
            if not self._is_open and not self._has_ended:
                self._inside.do_handshake()
                self._opened()
            while not self._is_paused and not self._has_ended:
                data = self._inside.read(RECORD)
                if not data:
                    self._end()
                    return
                self._hearer.data_received(data)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            self._end()

    def _opened(self) -> None:
        self._is_open = True
        if self._shaking is not None and not self._shaking.done():
            self._shaking.set_result(None)

    def _end(self) -> None:
        """The client says no more."""
        if not self._has_ended:
            self._has_ended = True
            self._hearer.eof_received()

    def _fail(self, error: Exception) -> None:
        self._has_ended = True
        self._waiting = b""
        if self._shaking is not None and not self._shaking.done():
            self._shaking.set_exception(error)
        elif self._is_open:
            self._plain.abort()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._plain.is_closing():
            self._plain.write(self._outgoing.read())
