"""Opens connections to hops: addresses, TCP, the handshake, and plain text where opportunistic TLS does not come about.

Guarantees: nothing is opened beyond the operator's limits (`delivery.permits`); the second connection of an opportunistic
try takes the place of the first. Who must wait for that takes a kept connection that becomes idle meanwhile.

Failure: `Unreachable`, always `Deferred`, with the stage it failed at.

RFC 5321 5.1 (every address is tried), RFC 7435 (opportunistic security: better in plain text than not at all).
"""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from anyio import to_thread

from delivery.connect import Race, in_turn
from delivery.handshake import Greeted, Handshake, TlsRefused
from delivery.hop import Candidate, Hop, Unreachable, misconfigured, unconnected
from delivery.permits import Permit, Permits
from delivery.pool import Connection, Pool
from delivery.routes import addresses_of
from delivery.timeouts import Timeouts
from delivery.tls import TlsContexts, TlsMisconfigured
from policy.config import RelayTls
from policy.errors import TableUnavailable
from policy.pem import PemSource
from policy.tables.services import hostname_for
from spool.outcome import Stage

#: All that is said of relaying has one name, so that it is traced together.
log = logging.getLogger("delivery.relay")

_PLAIN = frozenset({RelayTls.NEVER, RelayTls.LMTP})
#: Characters of what a server says about TLS that a history keeps.
_LONGEST_REASON: Final = 120


@dataclass(frozen=True, slots=True)
class Visit:
    """One try to reach a hop, as it is called in the log. ``context`` None: no TLS is tried."""

    hop: Hop
    context: ssl.SSLContext | None
    session: str


class Connector:
    """See the module."""

    def __init__(self, timeouts: Timeouts, pool: Pool, permits: Permits, pem: PemSource | None = None) -> None:
        self._timeouts = timeouts
        self._pool = pool
        self._permits = permits
        self._contexts = TlsContexts(pem)

    async def connect(self, candidate: Candidate) -> Connection:
        """A connection that is ready for MAIL, in most cases a new one; it is the pool's. Raises `Unreachable`."""
        session = secrets.token_hex(8)
        try:
            return await self._connect(candidate, session)
        except Unreachable as trouble:
            log.info("%s mta error reason=%s", session, trouble.outcome.reply)
            raise

    async def _connect(self, candidate: Candidate, session: str) -> Connection:
        hop = candidate.hop
        context = await self._context(hop)
        left = in_turn(_wanted(candidate, candidate.addresses or await addresses_of(hop)))
        first_trouble: Unreachable | None = None
        while left:
            leave = await self._pool.leave(candidate, left)
            if isinstance(leave, Connection):
                return leave
            sources = {permit.way.address: permit.way.source for permit in leave}
            race = Race(hop, list(sources), self._timeouts, sources)
            try:
                return await self._open(race, leave, Visit(hop, context, session))
            except Unreachable as trouble:
                if trouble.stage is not Stage.CONNECT:
                    raise
                first_trouble = first_trouble or trouble
            tried = sources.keys() - set(race.untried)
            left = [address for address in left if address not in tried]
        raise first_trouble or unconnected("there is no address to connect to", hop.host)

    async def _open(self, race: Race, leave: Sequence[Permit], visit: Visit) -> Connection:
        """A connection by one of the permits; the others are given back."""
        hop, used = visit.hop, None
        log.info("%s mta connecting address=%s host=%s", visit.session, _url(hop, leave[0].way.address), hop.host)
        try:
            connection, address = await race.run()
            permit = next(permit for permit in leave if permit.way.address == address)
            opened = await self._greet(visit, connection, address)
            opened.permit = used = permit
            self._pool.add(opened)
            return opened
        finally:
            for permit in leave:
                if permit is not used:
                    self._permits.give_back(permit, was_used=permit.way.address not in race.untried)

    async def _context(self, hop: Hop) -> ssl.SSLContext | None:
        if hop.tls in _PLAIN:
            return None
        try:
            return await to_thread.run_sync(self._contexts.context, hop.terms)
        except TlsMisconfigured as error:
            raise misconfigured(str(error)) from error

    async def _greet(self, visit: Visit, connection: socket.socket, address: str) -> Connection:
        hop, context, session = visit.hop, visit.context, visit.session
        remote = hop.host if hop.host == address else f"{hop.host} [{address}]"
        source = str(connection.getsockname()[0])
        log.info("%s mta connected address=%s", session, address)
        named = _named(hop, source)
        because = "no STARTTLS offered" if hop.tls is RelayTls.OPPORTUNISTIC else ""
        try:
            greeted = await Handshake(named, remote, context, self._timeouts).run(connection)
        except TlsRefused as trouble:
            if hop.tls is not RelayTls.OPPORTUNISTIC:
                raise
            log.info("%s mta tls-failed reason=%s, trying in plain text", session, trouble.outcome.reply)
            because = trouble.outcome.reply.text[:_LONGEST_REASON]
            again = Race(hop, [address], self._timeouts, {address: source})
            connection, _ = await again.run()
            greeted = await Handshake(named, remote, None, self._timeouts).run(connection)
        _log_tls(session, greeted)
        return Connection(session, hop, greeted.channel, greeted.tls, source, because)


def _wanted(candidate: Candidate, addresses: Sequence[str]) -> list[str]:
    """Those of the version of IP that the operator wants, if he wants one."""
    version = candidate.purpose.limits.family
    fitting = [address for address in addresses if version is None or (":" in address) == (version == 6)]
    if addresses and not fitting:
        text = f"no address of {candidate.hop.host} is of IPv{version}, and by mta limit no other is used"
        raise unconnected(text, candidate.hop.host)
    return fitting


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
        reason = f' reason="{tls.reason}"' if tls.reason else ""
        log.info("%s mta tls ciphers=%s", session, tls.ciphers)
        log.info('%s mta cert-check result="%s" fingerprint="%s"%s', session, result, tls.fingerprint, reason)


def _url(hop: Hop, address: str) -> str:
    return f"{hop.tls.value}://{f'[{address}]' if ':' in address else address}:{hop.port}"
