"""``listen`` lines: one `Listener` for each address that a line means."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final, TypedDict

from policy.build.filters import filters_of
from policy.build.tls import ciphers_of, protocols_of
from policy.build.workbench import Workbench
from policy.config import Auth, Listener, ListenerTls
from policy.errors import Place
from policy.grammar.syntax import Given, ListenStatement, Options
from policy.pam_service import missing
from policy.suggestion import did_you_mean
from policy.tables.service import ADDRNAME, CREDENTIALS, MAILADDRMAP, NETADDR, Service
from policy.tables.services import ip_address
from policy.tables.table import Shape, Table
from spool.address import is_domain

#: As in OpenSMTPD; a tag is a word for rules, not a text.
MAX_TAG: Final = 32

_LOOPBACK: Final = ("127.0.0.1", "::1")
_TLS_MODES: Final = {
    "tls": ListenerTls.OFFERED,
    "tls-require": ListenerTls.REQUIRED,
    "smtps": ListenerTls.IMPLICIT,
}


@dataclass(frozen=True, slots=True)
class PlacedListener:
    """A listener, and the line it comes from."""

    listener: Listener
    place: Place


def build_listeners(bench: Workbench) -> list[PlacedListener]:
    """Every listener; the socket first, which is there without being asked for."""
    found = []
    if all(statement.on for statement in bench.script.listens):
        found.append(PlacedListener(Listener("", 0), Place(bench.shelf.path)))
    for statement in bench.script.listens:
        if not statement.on:
            found.insert(0, PlacedListener(_socket(bench, statement.options), statement.place))
            continue
        for listener in _lines_listeners(bench, statement):
            _add(bench, found, PlacedListener(listener, statement.place))
    return found


def _add(bench: Workbench, found: list[PlacedListener], new: PlacedListener) -> None:
    """Of two listeners at one address and port the first serves."""
    address, port = new.listener.address, new.listener.port
    for other in found:
        if other.listener.port != port or other.listener.is_socket:
            continue
        taken = f"port {port} of {address} is listened on already, by {other.place}"
        if _includes(other.listener.address, address):
            bench.warn(new.place, f"{taken}: this one is left out")
            return
        if _includes(address, other.listener.address):
            taken = f"{address} is every address, and port {port} of {other.listener.address} is listened on already"
            bench.complain(
                new.place, f"{taken}, by {other.place}: write this line before that one, or drop one of them"
            )
            return
    found.append(new)


def _includes(first: str, second: str) -> bool:
    """Whether who listens at ``first`` leaves nothing of ``second``."""
    if first == second:
        return True
    whole, part = ip_address(first), ip_address(second)
    return whole is not None and part is not None and whole.is_unspecified and whole.version == part.version


def _socket(bench: Workbench, options: Options) -> Listener:
    return Listener(
        "",
        0,
        tag=_tag(bench, options),
        mask_src=options.has("mask-src"),
        no_dsn=options.has("no-dsn"),
        filters=filters_of(bench, options),
    )


def _lines_listeners(bench: Workbench, statement: ListenStatement) -> list[Listener]:
    tls = _tls(bench, statement)
    auth, credentials = _auth(bench, statement)
    port = statement.options.find("port")
    number = port.number().value if port else (465 if tls is ListenerTls.IMPLICIT else 25)
    template = Listener(
        "",
        number,
        tls=tls,
        pki=tuple(pki for given in statement.options.all("pki") if (pki := bench.pki(given.string()))),
        auth=auth,
        credentials=credentials,
        tag=_tag(bench, statement.options),
        hostname=_hostname(bench, statement.options),
        mask_src=statement.options.has("mask-src"),
        no_dsn=statement.options.has("no-dsn"),
        received_auth=statement.options.has("received-auth"),
        proxy_v2=statement.options.has("proxy-v2"),
        proxies=_proxies(bench, statement.options),
        filters=filters_of(bench, statement.options),
        **_names_and_senders(bench, statement.options),
        **_tls_details(bench, statement.options, tls),
    )
    return [replace(template, address=address) for address in _addresses(bench, statement)]


class _NamesAndSenders(TypedDict):
    hostnames: Table | None
    senders: Table | None
    masquerade: bool


def _names_and_senders(bench: Workbench, options: Options) -> _NamesAndSenders:
    senders = options.find("senders")
    for given in (senders, options.find("received-auth")):
        if given and not options.find("auth", "auth-optional"):
            bench.warn(given.place, f'"{given.word}" is of no use without "auth" or "auth-optional"')
    return {
        "hostnames": _mapping(bench, options.find("hostnames"), ADDRNAME),
        "senders": _mapping(bench, senders, MAILADDRMAP),
        "masquerade": senders is not None and senders.modified,
    }


def _mapping(bench: Workbench, given: Given | None, service: Service) -> Table | None:
    return bench.shelf.use(given.table(), Shape.MAPPING, f'"{given.word}"', service) if given else None


def _proxies(bench: Workbench, options: Options) -> Table | None:
    given = options.find("proxy-v2")
    if given is None or given.argument is None:
        return None
    return bench.shelf.use(given.table(), Shape.LIST, '"proxy-v2"', NETADDR)


class _TlsDetails(TypedDict):
    verify: bool
    ca: str
    ciphers: str
    protocols: str


def _tls_details(bench: Workbench, options: Options, tls: ListenerTls) -> _TlsDetails:
    mode, ca = options.find(*_TLS_MODES), options.find("ca")
    verify = mode is not None and mode.modified
    if tls is ListenerTls.NONE:
        for given in filter(None, (ca, options.find("ciphers"), options.find("protocols"))):
            bench.warn(given.place, f'"{given.word}" is of no use without one of: {", ".join(_TLS_MODES)}')
    elif ca and not verify:
        bench.warn(ca.place, '"ca" is of no use without "verify": no client is asked for a certificate')
    elif mode and verify and not ca:
        bench.warn(mode.place, 'every certificate of a public authority is welcome here: "ca" names others')
    return {
        "verify": verify,
        "ca": bench.ca(ca.string()) if ca else "",
        "ciphers": ciphers_of(bench, options) if tls is not ListenerTls.NONE else "",
        "protocols": protocols_of(bench, options),
    }


def _tls(bench: Workbench, statement: ListenStatement) -> ListenerTls:
    mode = statement.options.find(*_TLS_MODES)
    pki = statement.options.find("pki")
    if mode and not pki:
        names = ", ".join(bench.script.pkis) or "none is declared"
        bench.complain(mode.place, f'"{mode.word}" needs a certificate: expected "pki NAME" too ({names})')
    if pki and not mode:
        bench.complain(pki.place, f'"pki" is of no use without one of: {", ".join(_TLS_MODES)}')
    return _TLS_MODES[mode.word] if mode else ListenerTls.NONE


def _auth(bench: Workbench, statement: ListenStatement) -> tuple[Auth, Table | None]:
    given = statement.options.find("auth", "auth-optional")
    if given is None:
        return Auth.NONE, None
    if not statement.options.find(*_TLS_MODES):
        modes = ", ".join(_TLS_MODES)
        bench.complain(given.place, f'"{given.word}" would take passwords in plain text: expected one of {modes} too')
    if given.argument is None:
        lacking = missing(bench.layout)
        if lacking:
            hint = f"{lacking}, or a table of logins and password hashes, such as <creds>"
            bench.complain(given.place, f'"{given.word}" without a table asks PAM, {hint}')
        elif os.geteuid() != 0:
            who = "an ordinary user who starts smtpd can have PAM check no password but the user's own"
            bench.warn(given.place, f'"{given.word}" without a table: {who}; other logins are refused')
        return Auth(given.word), None
    return Auth(given.word), _mapping(bench, given, CREDENTIALS)


def _tag(bench: Workbench, options: Options) -> str:
    given = options.find("tag")
    if given is None:
        return ""
    word = given.string()
    if not 0 < len(word.text) <= MAX_TAG:
        bench.complain(word.place, f"a tag has 1 to {MAX_TAG} characters")
    return word.text


def _hostname(bench: Workbench, options: Options) -> str:
    given = options.find("hostname")
    if given is None:
        return ""
    word = given.string()
    if not is_domain(word.text):
        bench.complain(word.place, f'"{word.text}" is no host name')
    return word.text


def _addresses(bench: Workbench, statement: ListenStatement) -> tuple[str, ...]:
    found = _meant(bench, statement.on)
    if not found:
        interfaces = sorted(bench.host.interfaces())
        meant = did_you_mean(statement.on, interfaces, "")
        hint = _address_hint(statement.on) or (meant if meant.endswith("?") else "")
        said = f'"{statement.on}" is no interface, IP address or host name of this machine{hint}'
        bench.complain(statement.place, f"{said} (interfaces: {', '.join(interfaces)})")
    family = statement.options.find("inet4", "inet6")
    if family is None or not found:
        return found
    version = 4 if family.word == "inet4" else 6
    fitting = tuple(address for address in found if _version(address) == version)
    if not fitting:
        bench.complain(family.place, f'"{statement.on}" has no IPv{version} address')
    return fitting


def _address_hint(on: str) -> str:
    if on in ("all", "*"):
        return "; every address is: listen on 0.0.0.0, and: listen on ::"
    name, colon, port = on.rpartition(":")
    return (
        f"; a port is an option: listen on {name} port {port}" if colon and port.isdigit() and ":" not in name else ""
    )


def _meant(bench: Workbench, on: str) -> tuple[str, ...]:
    interfaces = bench.host.interfaces()
    if on in interfaces:
        return interfaces[on]
    address = ip_address(on)
    if address is not None:
        return (on,)
    addresses = bench.host.addresses(on)
    if on.lower() == "localhost":
        # Many a hosts(5) gives localhost one address alone, and clients try both.
        present = {address for each in interfaces.values() for address in each}
        addresses = tuple(dict.fromkeys((*(each for each in _LOOPBACK if each in present), *addresses)))
    return addresses


def _version(address: str) -> int:
    found = ip_address(address)
    return found.version if found else 0
