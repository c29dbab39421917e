"""Opens connections to hops: addresses, TCP, the handshake, and plain text where opportunistic TLS does not come about.

Failure: `Unreachable`, always `Deferred`, with the stage it failed at.

RFC 5321 5.1 (every address is tried), RFC 7435 (opportunistic security: better in plain text than not at all).
"""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
from dataclasses import replace

from anyio import to_thread

from delivery.connect import Race, in_turn
from delivery.handshake import Greeted, Handshake, TlsRefused
from delivery.hop import Candidate, Hop, Unreachable, misconfigured, unconnected
from delivery.pool import Connection
from delivery.routes import addresses_of
from delivery.timeouts import Timeouts
from delivery.tls import TlsContexts, TlsMisconfigured
from policy.config import RelayTls
from policy.errors import TableUnavailable
from policy.tables.services import hostname_for
from spool.outcome import Stage

#: All that is said of relaying has one name, so that it is traced together.
log = logging.getLogger("delivery.relay")

_PLAIN = frozenset({RelayTls.NEVER, RelayTls.LMTP})


class Connector:
    """See the module."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._contexts = TlsContexts()

    async def connect(self, candidate: Candidate) -> Connection:
        """A connection that is ready for MAIL. Raises `Unreachable`."""
        session = secrets.token_hex(8)
        try:
            return await self._connect(candidate, session)
        except Unreachable as trouble:
            log.info("%s mta error reason=%s", session, trouble.outcome.reply)
            raise

    async def _connect(self, candidate: Candidate, session: str) -> Connection:
        hop = candidate.hop
        context = await self._context(hop)
        addresses = in_turn(candidate.addresses or await addresses_of(hop))
        first_trouble: Unreachable | None = None
        while addresses:
            log.info("%s mta connecting address=%s host=%s", session, _url(hop, addresses[0]), hop.host)
            race = Race(hop, addresses, self._timeouts)
            try:
                connection, address = await race.run()
                return await self._greet(hop, connection, address, context, session)
            except Unreachable as trouble:
                if trouble.stage is not Stage.CONNECT:
                    raise
                first_trouble = first_trouble or trouble
            addresses = race.untried
        raise first_trouble or unconnected("there is no address to connect to", hop.host)

    async def _context(self, hop: Hop) -> ssl.SSLContext | None:
        if hop.tls in _PLAIN:
            return None
        try:
            return await to_thread.run_sync(self._contexts.context, hop.terms)
        except TlsMisconfigured as error:
            raise misconfigured(str(error)) from error

    async def _greet(
        self, hop: Hop, connection: socket.socket, address: str, context: ssl.SSLContext | None, session: str
    ) -> Connection:
        remote = hop.host if hop.host == address else f"{hop.host} [{address}]"
        source = str(connection.getsockname()[0])
        log.info("%s mta connected address=%s", session, address)
        named = _named(hop, source)
        try:
            greeted = await Handshake(named, remote, context, self._timeouts).run(connection)
        except TlsRefused as trouble:
            if hop.tls is not RelayTls.OPPORTUNISTIC:
                raise
            log.info("%s mta tls-failed reason=%s, trying in plain text", session, trouble.outcome.reply)
            connection, _ = await Race(hop, [address], self._timeouts).run()
            greeted = await Handshake(named, remote, None, self._timeouts).run(connection)
        _log_tls(session, greeted)
        return Connection(session, hop, greeted.channel, greeted.tls, source)


def _named(hop: Hop, source: str) -> Hop:
    """With the name that we have at the local address ``source``; while its table cannot be asked, with the usual one."""
    try:
        name = hostname_for(hop.names, source) if hop.names is not None else None
    except TableUnavailable as error:
        log.warning("mta error reason=our name at %s: %s", source, error)
        return hop
    return replace(hop, helo=name) if name else hop


def _log_tls(session: str, greeted: Greeted) -> None:
    if (tls := greeted.tls) is not None:
        result = "valid" if tls.verified else "unverified"
        log.info("%s mta tls ciphers=%s", session, tls.ciphers)
        log.info('%s mta cert-check result="%s" fingerprint="%s"', session, result, tls.fingerprint)


def _url(hop: Hop, address: str) -> str:
    return f"{hop.tls.value}://{f'[{address}]' if ':' in address else address}:{hop.port}"
