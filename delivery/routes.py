"""From a `Route` to the hosts that may take its mail, in the order they are to be tried.

A smarthost is what its URL says, its name looked up like any host name of this machine (so /etc/hosts counts). Otherwise the
domain's MX hosts, by preference and in random order among equals, or the domain itself where it has none.

Guarantees: never an MX at or behind ourselves, so that mail does not go round in circles. Credentials are read anew for each
delivery.

Failure: `Unreachable`: `Failed` only for a domain that does not exist (5.1.2) or takes no mail (5.1.10), `Deferred` with the
stage ``ROUTE`` (``AUTH`` where credentials are lacking) for everything else.

RFC 5321 5.1 (MX, the loop guard), 4.1.3 (address literals); RFC 7505 (null MX).
"""

from __future__ import annotations

import ipaddress
import random
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import count
from typing import Final

import anyio
from anyio import to_thread

from delivery.hop import Candidate, Hop, Login, Purpose, Unreachable, misconfigured, unresolved
from delivery.resolver import DnsTrouble, Mx, NoSuchDomain, Resolver
from delivery.tls import TlsTerms
from policy.config import Config, Relay, RelayTls, Smarthost
from policy.errors import TableUnavailable
from policy.route import Route
from policy.tables.freshness import freshen
from policy.tables.secret import secret_of
from policy.tables.services import ip_address, smarthost_for, smarthosts_in
from policy.tables.table import Table
from spool.outcome import Deferred, Failed, Stage
from spool.reply import Reply

#: Where the hosts of an MX record listen.
SMTP_PORT: Final = 25
#: MX hosts of one domain that are tried at most; RFC 5321 5.1 lets us bound them.
MAX_HOSTS: Final = 10

#: What may be said in EHLO: a name or an address literal (RFC 5321 4.1.4).
_HELO = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}")
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, not bound to)
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_WITH_TLS = frozenset({RelayTls.REQUIRED, RelayTls.IMPLICIT})


class Routes:
    """Finds candidates by the present configuration. ``mx_port`` is a seam for tests."""

    def __init__(self, config: Callable[[], Config], resolver: Resolver, mx_port: int = SMTP_PORT) -> None:
        self._config = config
        self._resolver = resolver
        self._mx_port = mx_port
        self._turns = count()

    async def present(self, route: Route) -> Route:
        """``route`` with the smarthosts that their table names by now. Raises `Unreachable`."""
        table = route.action.host_table if isinstance(route.action, Relay) else None
        if table is None:
            return route
        await freshen([table])
        try:
            hosts = smarthosts_in(table)
        except TableUnavailable as error:
            raise misconfigured(f"Cannot retrieve smarthost: {error}") from error
        if not hosts:
            raise misconfigured(f'Cannot retrieve smarthost: table "{table.name}" names none')
        return replace(route, hosts=hosts)

    async def candidates(self, route: Route) -> list[Candidate]:
        """The hosts to try, in order; at least one. Raises `Unreachable`."""
        action = route.action
        if not isinstance(action, Relay):
            raise misconfigured(f'action "{action.name}" is no relay')
        await freshen(table for table in (action.auth, action.domain, action.helo_src, action.src) if table is not None)
        if route.hosts:
            return self._smarthosts(route, action, self._in_rotation(route.hosts))
        if action.domain is not None:
            return self._smarthosts(route, action, (_mapped(action.domain, route.key),))
        if route.key.startswith("["):
            candidates = [self._direct(action, route.key)]
        else:
            candidates = await self._by_mx(action, route.key)
        purpose = self._purpose(route, route.key)
        return [replace(candidate, purpose=purpose) for candidate in candidates]

    def _purpose(self, route: Route, domain: str) -> Purpose:
        return Purpose(route.name, domain, self._config().limits.of_relay(domain))

    # -- smarthosts ---------------------------------------------------------------------------------------------------

    def _in_rotation(self, hosts: tuple[Smarthost, ...]) -> tuple[Smarthost, ...]:
        """Each delivery begins with the next one, so that they share the load; the others stand behind it."""
        first = next(self._turns) % len(hosts)
        return hosts[first:] + hosts[:first]

    def _smarthosts(self, route: Route, action: Relay, hosts: tuple[Smarthost, ...]) -> list[Candidate]:
        candidates, troubles = [], []
        for smarthost in hosts:
            try:
                candidates.append(Candidate(self._hop(action, smarthost), purpose=self._purpose(route, smarthost.host)))
            except Unreachable as trouble:
                troubles.append(trouble)
        if not candidates:
            raise troubles[0]
        return candidates

    def _hop(self, action: Relay, to: Smarthost) -> Hop:
        tls = _demanded(action, to.tls)
        helo = action.helo or self._config().server_name
        if not _HELO.fullmatch(helo):
            raise misconfigured(f'"{helo}" is no name to greet a server with')
        verified = tls in _WITH_TLS and not action.no_verify
        terms = TlsTerms(verified, action.ca if verified else "", action.pki, action.protocols, action.ciphers)
        return Hop(
            host=to.host,
            port=to.port,
            tls=tls,
            terms=replace(terms, is_optional=tls is RelayTls.OPPORTUNISTIC),
            helo=helo,
            login=_login(action, to, tls) if to.label else None,
            sources=_sources(action),
            names=action.helo_src,
        )

    # -- MX -----------------------------------------------------------------------------------------------------------

    def _direct(self, action: Relay, literal: str) -> Candidate:
        """A domain that is an address (RFC 5321 4.1.3)."""
        address = literal[1:-1]
        if address[:5].lower() == "ipv6:":
            address = address[5:]
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            raise Unreachable(_no_domain(f"{literal} is no address")) from None
        if self._reaches_us((address,)):
            raise _would_loop(literal)
        return Candidate(self._mx_hop(action, address), (address,))

    def _mx_hop(self, action: Relay, host: str) -> Hop:
        return self._hop(action, Smarthost(RelayTls.OPPORTUNISTIC, host, self._mx_port))

    async def _by_mx(self, action: Relay, domain: str) -> list[Candidate]:
        try:
            records = await self._resolver.mx(domain)
        except NoSuchDomain as error:
            raise Unreachable(_no_domain(str(error))) from error
        except DnsTrouble as error:
            raise unresolved(f"MX lookup: {error}") from error
        if [record.host for record in records] == [""]:
            raise Unreachable(_null_mx(domain))
        # RFC 5321 5.1: without MX records the domain itself is the host, as if of preference 0.
        hosts = _ordered([record for record in records if record.host]) or [Mx(0, domain)]
        found, troubles = await self._addresses(hosts)
        ours = {mx.host for mx in hosts if self._is_us(mx.host, found.get(mx.host, ()))}
        if action.backup_mx:
            ours |= {mx.host for mx in hosts if mx.host.lower() == action.backup_mx.lower()}
        usable = _before(ours, hosts, domain)
        candidates = [Candidate(self._mx_hop(action, mx.host), found[mx.host]) for mx in usable if found.get(mx.host)]
        if not candidates:
            if not records and not troubles:
                raise unresolved(f"{domain} has neither MX nor address records")
            raise unresolved("; ".join(troubles) or f"no MX host of {domain} has an address")
        return candidates

    async def _addresses(self, hosts: list[Mx]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
        """The addresses of each host, asked for at once, and what went wrong."""
        found: dict[str, tuple[str, ...]] = {}
        troubles: list[str] = []

        async def ask(host: str) -> None:
            try:
                found[host] = await self._resolver.addresses(host)
            except (DnsTrouble, NoSuchDomain) as error:
                troubles.append(str(error))

        async with anyio.create_task_group() as group:
            for mx in hosts:
                group.start_soon(ask, mx.host)
        return found, troubles

    def _is_us(self, host: str, addresses: tuple[str, ...]) -> bool:
        """Whether a connection to that host would reach a listener of ours."""
        config = self._config()
        names = {config.server_name.lower(), *config.local_names}
        names |= {listener.hostname.lower() for listener in config.listeners if listener.hostname}
        return host.lower() in names or self._reaches_us(addresses)

    def _reaches_us(self, addresses: Collection[str]) -> bool:
        """Whether one of these is ours in any of its forms: there we would be taken for a client of this machine."""
        config = self._config()
        listening = {listener.address for listener in config.listeners if listener.port == self._mx_port}
        is_everywhere = bool(listening & _WILDCARDS)
        if is_everywhere:
            listening |= config.local_addresses
        # Linux takes a connection to "no address" to its loopback.
        to_loopback = is_everywhere or bool(listening & _LOOPBACK)
        for text in addresses:
            address = ip_address(text)
            if address is None:
                continue
            if str(address) in listening or (address.is_unspecified and to_loopback):
                return True
            if address.is_loopback and is_everywhere:
                return True
        return False


def _before(ours: Collection[str], hosts: list[Mx], domain: str) -> list[Mx]:
    """RFC 5321 5.1: if we are one of the hosts, only those preferred over us are left."""
    preferences = [mx.preference for mx in hosts if mx.host in ours]
    if not preferences:
        return hosts
    before = [mx for mx in hosts if mx.preference < min(preferences)]
    if not before:
        raise _would_loop(domain)
    return before


def _would_loop(domain: str) -> Unreachable:
    text = f"mail for {domain} would loop back to this host: its best MX is this host, no rule delivers it here"
    return Unreachable(Deferred(Reply(451, "4.4.6", text), stage=Stage.ROUTE))


def _mapped(table: Table, domain: str) -> Smarthost:
    try:
        found = smarthost_for(table, domain)
    except TableUnavailable as error:
        raise misconfigured(f"Cannot retrieve smarthost for {domain}: {error}") from error
    if found is None:
        raise misconfigured(f'Cannot retrieve smarthost for {domain}: table "{table.name}" does not name one')
    return found


async def addresses_of(hop: Hop) -> tuple[str, ...]:
    """The addresses of a host as this machine knows it (/etc/hosts, DNS ...). Raises `Unreachable`, always temporary."""
    try:
        return (str(ipaddress.ip_address(hop.host)),)
    except ValueError:
        pass
    try:
        found = await to_thread.run_sync(_getaddrinfo, hop, abandon_on_cancel=True)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise unresolved(f"{hop.host}: {words}") from error
    return tuple(dict.fromkeys(found))


def _getaddrinfo(hop: Hop) -> list[str]:
    found = socket.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _demanded(action: Relay, scheme: RelayTls) -> RelayTls:
    """What ``tls`` of the action makes of the URL's scheme."""
    if not action.require_tls or scheme in _WITH_TLS:
        return scheme
    if scheme is RelayTls.OPPORTUNISTIC:
        return RelayTls.REQUIRED
    raise misconfigured(f'TLS required for relaying by action "{action.name}", but the URL says {scheme.value}://')


def _login(action: Relay, to: Smarthost, tls: RelayTls) -> Login:
    if tls not in _WITH_TLS:
        raise misconfigured(
            f"{to.label}@ in the URL of {to.host} needs smtp+tls:// or smtps://: no password in plain text"
        )
    if action.auth is None:
        raise misconfigured(f'no auth table for relaying by action "{action.name}" as {to.label}@')
    try:
        secret = secret_of(action.auth, to.label)
    except TableUnavailable as error:
        raise _no_credentials(str(error)) from error
    if secret is None:
        raise _no_credentials(f'table {action.auth.name} has no credentials for "{to.label}"')
    return Login(to.label, secret.user, secret.password)


def _sources(action: Relay) -> tuple[str, ...]:
    if action.src is None:
        return ()
    try:
        return tuple(action.src.keys())
    except TableUnavailable as error:
        raise misconfigured(f"table <{action.src.name}> of source addresses cannot be asked: {error}") from error


def _no_credentials(text: str) -> Unreachable:
    return Unreachable(Deferred(Reply(454, "4.7.0", text), stage=Stage.AUTH))


def _no_domain(text: str) -> Failed:
    return Failed(Reply(550, "5.1.2", text), stage=Stage.ROUTE)


def _null_mx(domain: str) -> Failed:
    return Failed(Reply(556, "5.1.10", f"{domain} accepts no mail (null MX)"), stage=Stage.ROUTE)


def _ordered(records: list[Mx]) -> list[Mx]:
    shuffled = random.sample(records, len(records))
    return sorted(shuffled, key=lambda mx: mx.preference)[:MAX_HOSTS]
