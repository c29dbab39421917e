"""Relay URLs: the schemes were named and meant otherwise before 6.4.

===================  ====================================  =======================
before               what it meant                         now
===================  ====================================  =======================
none, smtp+tls       TLS if offered                        smtp
smtp                 no TLS                                smtp (TLS if offered)
tls, tls+auth        STARTTLS, unverified                  smtp+tls (verified)
smtps, smtps+auth    TLS from the beginning, unverified    smtps (verified)
secure, secure+auth  smtps, or else STARTTLS               by the port
lmtp                 LMTP                                  lmtp
===================  ====================================  =======================

Failure: `UrlError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SCHEME: Final = re.compile(r"(?:(?P<scheme>[^:/@\[\]]*)://)?(?P<rest>.*)", re.DOTALL)
_PORT: Final = re.compile(r".*:(?P<port>[^:\]]+)", re.DOTALL)
_SMTPS_PORTS: Final = ("465", "smtps", "submissions")

_VERIFIED: Final = (
    'the certificate of the server is verified now, which it was only with "verify"; '
    'as before would be: tls no-verify, behind "host"'
)


class UrlError(Exception):
    """Not a relay URL of the older grammar."""


@dataclass(frozen=True, slots=True)
class Url:
    """A relay URL as it is now, and what has changed with it."""

    text: str
    #: Empty when it means what it meant.
    notes: tuple[str, ...] = ()


def present_url(text: str, *, verify: bool) -> Url:
    """What the old ``text`` is now. With ``verify`` the server's certificate was verified before."""
    match = _SCHEME.fullmatch(text)
    assert match is not None
    scheme, rest = (match["scheme"] or "smtp+tls").lower(), match["rest"]
    if scheme.removesuffix("+auth") in ("secure", "ssl"):
        return _secure(rest, verify)
    match scheme:
        case "smtp+tls":
            return Url(f"smtp://{rest}")
        case "smtp":
            now = "smtp:// uses TLS now where the server offers it; smtp+notls:// never does, as smtp:// before"
            return Url(f"smtp://{rest}", (now,))
        case "tls" | "tls+auth":
            return Url(f"smtp+tls://{rest}", () if verify else (_VERIFIED,))
        case "smtps" | "smtps+auth":
            return Url(f"smtps://{rest}", () if verify else (_VERIFIED,))
        case "lmtp":
            return Url(text)
    raise UrlError(f'"{scheme}://" is no kind of relay of the older grammar')


def _secure(rest: str, verify: bool) -> Url:
    port = _PORT.fullmatch(rest)
    now = "smtps" if port is None or port["port"] in _SMTPS_PORTS else "smtp+tls"
    note = f"secure:// tried both ways of TLS; {now}:// is the one for this port"
    return Url(f"{now}://{rest}", (note,) if verify else (note, _VERIFIED))
