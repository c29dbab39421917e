"""From a connected socket to a `Channel`: greeting, EHLO, STARTTLS, EHLO again, AUTH.

aiosmtplib does the talking up to here, then its transport is handed over.

Guarantees: credentials are sent inside TLS only, and only to a host whose certificate was accepted by the hop's terms. What
a server said before STARTTLS counts for nothing afterwards (RFC 3207 4.2).

Failure: `Unreachable`, with the stage that it failed at; its subclass `TlsRefused` when only the negotiation of TLS failed,
so that an opportunistic caller may try again without. The connection is closed then.

RFC 5321 3.1 and 3.2, RFC 3207 (STARTTLS), RFC 8314 (implicit TLS), RFC 4954 (AUTH), RFC 2033 4.1 (LHLO).
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from dataclasses import dataclass
from typing import Final, cast

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPConnectResponseError,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)
from aiosmtplib.response import SMTPResponse

from delivery.client import Channel, Offers
from delivery.hop import Hop, Login, Unreachable
from delivery.replies import make_reply
from delivery.timeouts import Timeouts
from delivery.tls import TlsFacts
from policy.config import RelayTls
from spool.outcome import Deferred, Stage
from spool.reply import Reply

#: RFC 4954 4 and RFC 5321 4.5.3.1.4: a longer initial response must wait for the server's 334.
MAX_COMMAND_LINE: Final = 512


class TlsRefused(Unreachable):
    """TLS could not be negotiated; in plain text the host may be reachable."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """A channel ready for its first transaction."""

    channel: Channel
    #: What TLS came to; None in plain text.
    tls: TlsFacts | None


@dataclass(slots=True)
class Handshake:
    """What one handshake needs. ``context`` None: no TLS is tried."""

    hop: Hop
    #: Name and address, for people.
    remote: str
    context: ssl.SSLContext | None
    timeouts: Timeouts
    #: How far it came.
    stage: Stage = Stage.CONNECT

    async def run(self, connection: socket.socket) -> Greeted:
        """Talk until mail can be given. Owns ``connection`` from here on."""
        client = self._client(connection)
        try:
            return await self._talk(client)
        except Unreachable:
            client.close()
            raise
        except (SMTPException, OSError, ValueError) as error:
            client.close()
            raise self._unreachable(error) from error
        except BaseException:
            client.close()
            raise

    def _client(self, connection: socket.socket) -> SMTP:
        hop = self.hop
        return SMTP(
            hostname=hop.host,
            sock=connection,
            local_hostname=hop.helo,
            use_tls=hop.tls is RelayTls.IMPLICIT,
            start_tls=False,
            tls_context=self.context,
            timeout=self.timeouts.command,
        )

    async def _talk(self, client: SMTP) -> Greeted:
        await client.connect(timeout=self.timeouts.greeting)
        self.stage = Stage.TLS
        await self._greet(client)
        if self.hop.tls in (RelayTls.REQUIRED, RelayTls.OPPORTUNISTIC) and self.context is not None:
            await self._start_tls(client)
        facts = self._facts(client)
        if self.hop.login is not None:
            self.stage = Stage.AUTH
            await self._authenticate(client, self.hop.login)
        return Greeted(self._take_over(client), facts)

    async def _greet(self, client: SMTP) -> None:
        if self.hop.tls is RelayTls.LMTP:
            reply = await client.execute_command(b"LHLO", self.hop.helo.encode())
            if reply.code != 250:
                raise SMTPResponseException(reply.code, reply.message)
            client.last_ehlo_response = reply
            return
        try:
            await client.ehlo()
        except SMTPResponseException as error:
            # RFC 5321 3.2: a server of old knows HELO only. It cannot offer TLS or AUTH then.
            wants_more = self.hop.tls not in (RelayTls.OPPORTUNISTIC, RelayTls.NEVER) or self.hop.login
            if wants_more or error.code // 100 != 5 or not client.is_connected:
                raise
            await client.helo()

    async def _start_tls(self, client: SMTP) -> None:
        if not client.supports_extension("starttls"):
            if self.hop.tls is RelayTls.OPPORTUNISTIC:
                return
            raise self._refused(Reply(454, "4.7.4", "the server does not offer STARTTLS, and TLS is required"))
        try:
            await client.starttls(server_hostname=self.hop.host, timeout=self.timeouts.handshake)
        except (SMTPException, OSError, ValueError) as error:
            client.close()
            raise TlsRefused(self._deferred(self._reply(error))) from error
        await client.ehlo()

    def _facts(self, client: SMTP) -> TlsFacts | None:
        session = client.get_transport_info("ssl_object")
        if session is None:
            return None
        return TlsFacts.of(session, self.hop.terms, is_required=self.hop.tls is not RelayTls.OPPORTUNISTIC)

    async def _authenticate(self, client: SMTP, login: Login) -> None:
        if client.get_transport_info("sslcontext") is None:
            raise self._refused(Reply(454, "4.7.0", "credentials are sent inside TLS only"))
        offered = client.server_auth_methods
        if "plain" in offered:
            await _auth_plain(client, login)
        elif "login" in offered:
            await client.auth_login(login.user, login.password)
        else:
            methods = " ".join(offered).upper() or "none"
            raise self._refused(Reply(454, "4.7.0", f"neither AUTH PLAIN nor LOGIN is offered ({methods})"))

    def _take_over(self, client: SMTP) -> Channel:
        if client.transport is None:
            raise SMTPServerDisconnected("connection lost")
        offers = Offers.of(client.esmtp_extensions, lmtp=self.hop.tls is RelayTls.LMTP)
        # A cast, because the transports of uvloop and of asyncio's TLS are not subclasses of it.
        return Channel(cast(asyncio.Transport, client.transport), offers, self.remote)

    # -- what went wrong ----------------------------------------------------------------------------------------------

    def _refused(self, reply: Reply) -> Unreachable:
        return Unreachable(self._deferred(reply))

    def _deferred(self, reply: Reply) -> Deferred:
        return Deferred(reply, self.remote, self.stage)

    def _unreachable(self, error: Exception) -> Unreachable:
        tls_trouble = _tls_error(error)
        if tls_trouble is not None:
            self.stage = Stage.TLS
        return Unreachable(self._deferred(self._reply(error)))

    def _reply(self, error: Exception) -> Reply:
        """The trouble as a reply of class 4, with the server's own words where there are any."""
        if (trouble := _tls_error(error)) is not None:
            return Reply(454, "4.7.5", f"TLS: {trouble}")
        if isinstance(error, SMTPResponseException) and error.code > 0:
            return self._quoted(error)
        if isinstance(error, SMTPTimeoutError | TimeoutError):
            return Reply(451, "4.4.2", f"no answer in time ({self._doing})")
        return Reply(451, "4.4.2", f"{self._concealed(str(error)) or type(error).__name__} ({self._doing})")

    def _concealed(self, text: str) -> str:
        return self.hop.login.conceal(text) if self.stage is Stage.AUTH and self.hop.login else text

    def _quoted(self, error: SMTPResponseException) -> Reply:
        said = make_reply(error.code, self._concealed(error.message).split("\n"))
        if 400 <= said.code < 500:
            return said
        if self.stage is Stage.AUTH:
            label = self.hop.login.label if self.hop.login else ""
            return Reply(454, "4.7.8", f"the server refused the credentials of {label}: {said}")
        return Reply(451, "4.3.2" if isinstance(error, SMTPConnectResponseError) else "4.4.2", f"{self._doing}: {said}")

    @property
    def _doing(self) -> str:
        return {Stage.CONNECT: "greeting", Stage.TLS: "EHLO and TLS", Stage.AUTH: "AUTH"}[self.stage]


async def _auth_plain(client: SMTP, login: Login) -> None:
    response = base64.b64encode(f"\0{login.user}\0{login.password}".encode())
    command = [b"AUTH", b"PLAIN", response]
    if sum(map(len, command)) + len(b"  \r\n") <= MAX_COMMAND_LINE:
        reply = await client.execute_command(*command)
    else:
        reply = await client.execute_command(*command[:2])
        if reply.code == 334:
            reply = await client.execute_command(response)
    _expect_welcome(reply)


def _expect_welcome(reply: SMTPResponse) -> None:
    if reply.code != 235:
        raise SMTPResponseException(reply.code, reply.message)


def _tls_error(error: BaseException | None) -> str | None:
    """What TLS did not like, if it was TLS: a handshake's own errors hide behind those of the connection."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate is not accepted: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return (error.reason or str(error)).lower().replace("_", " ")
        error = error.__cause__
    return None
