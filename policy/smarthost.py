"""Relay URLs: ``[scheme://][label@]host[:port]``.

Failure: `SmarthostSyntaxError`, which says what is wrong.

smtpd.conf(5) of OpenSMTPD, "relay host".
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from policy.config import RelayTls, Smarthost
from policy.errors import PolicyError
from policy.suggestion import did_you_mean
from spool.address import is_domain

_URL: Final = re.compile(
    r"(?:(?P<scheme>[^:/@\[\]]*)://)?(?:(?P<label>[^@]*)@)?(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>.*))?"
)
_ONE_SLASH: Final = re.compile(r"([a-z+]+)(?::/(?!/)|//)")
_LABEL: Final = re.compile(r"[^\s@:/]+")
_SCHEMES: Final = {tls.value: tls for tls in RelayTls}
_PORTS: Final = {
    RelayTls.OPPORTUNISTIC: 25,
    RelayTls.REQUIRED: 25,
    RelayTls.NEVER: 25,
    RelayTls.IMPLICIT: 465,
}
#: A password is only ever sent through TLS that was demanded.
_WITH_LABEL: Final = frozenset({RelayTls.REQUIRED, RelayTls.IMPLICIT})
#: What schemes were called before OpenSMTPD 6.4.
_FORMER: Final = {
    "tls": "smtp+tls",
    "tls+auth": "smtp+tls",
    "smtps+auth": "smtps",
    "secure": "smtps",
    "smtp+auth": "smtp+tls",
    "ssl": "smtps",
}


class SmarthostSyntaxError(PolicyError):
    """Not a relay URL."""


def parse_smarthost(text: str) -> Smarthost:
    """The smarthost that ``text`` names; without a scheme it is ``smtp``."""
    if slip := _ONE_SLASH.match(text):
        raise SmarthostSyntaxError(f'expected "://" behind "{slip[1]}"')
    match = _URL.fullmatch(text)
    if match is None:
        raise SmarthostSyntaxError("expected [scheme://][label@]host[:port]")
    tls = _tls(match["scheme"])
    label = match["label"]
    if label is not None:
        _check_label(label, tls)
    return Smarthost(tls, _host(match["host"]), _port(match["port"], tls), label or "")


def _tls(scheme: str | None) -> RelayTls:
    if scheme is None:
        return RelayTls.OPPORTUNISTIC
    found = _SCHEMES.get(scheme.lower())
    if found is None:
        hint = _FORMER.get(scheme.lower())
        meant = f'; it is called "{hint}" now' if hint else did_you_mean(scheme, _SCHEMES)
        raise SmarthostSyntaxError(f'unknown scheme "{scheme}"{meant}')
    return found


def _check_label(label: str, tls: RelayTls) -> None:
    if ":" in label:
        raise SmarthostSyntaxError(
            f'"{label}" is not a label: expected one word, behind which the table of "auth" has user:password'
        )
    if not _LABEL.fullmatch(label):
        raise SmarthostSyntaxError(f'"{label}" is not a label: expected one word before the "@"')
    if tls not in _WITH_LABEL:
        raise SmarthostSyntaxError(
            f"a label (a password) needs TLS: use smtps:// or smtp+tls:// instead of {tls.value}://"
        )


def _host(text: str) -> str:
    if text.startswith("["):
        inside = text[1:-1]
        try:
            return str(ipaddress.ip_address(inside[5:] if inside[:5].lower() == "ipv6:" else inside))
        except ValueError:
            raise SmarthostSyntaxError(f"{text} is no IP address in brackets") from None
    if "@" in text:
        raise SmarthostSyntaxError('two "@": a label is one word, behind which the table of "auth" has user:password')
    if not text or not is_domain(text):
        raise SmarthostSyntaxError(f'"{text}" is no host name' if text else "the host is missing")
    return text


def _port(text: str | None, tls: RelayTls) -> int:
    if text is None:
        if tls not in _PORTS:
            raise SmarthostSyntaxError(f"{tls.value}:// needs a port, because it has no usual one")
        return _PORTS[tls]
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise SmarthostSyntaxError(f'"{text}" is no port: expected 1 to 65535')
    return int(text)
