"""Which versions and ciphers of TLS an operator allows, in the words of OpenSMTPD and of OpenSSL.

Guarantees: nothing older than TLS 1.2 is ever spoken, and no cipher without encryption or without a certificate, whatever
is asked for. TLS 1.3 has ciphers of its own, which are all good and not chosen here.

Failure: `TlsChoiceError`, whose text says what is wrong.

tls_config_set_protocols(3) and tls_config_set_ciphers(3) of LibreSSL, openssl-ciphers(1); RFC 8996 (no TLS before 1.2).
"""

from __future__ import annotations

import re
import ssl
from typing import Final

from policy.errors import PolicyError
from policy.suggestion import did_you_mean

_V12: Final = ssl.TLSVersion.TLSv1_2
_V13: Final = ssl.TLSVersion.TLSv1_3
#: What stands for which versions; those that are never spoken are known, so that they can be told from slips.
_PROTOCOLS: Final[dict[str, frozenset[ssl.TLSVersion]]] = {
    **dict.fromkeys(("all", "legacy", "default", "secure", "tlsv1"), frozenset({_V12, _V13})),
    "tlsv1.3": frozenset({_V13}),
    "tlsv1.2": frozenset({_V12}),
    "tlsv1.1": frozenset(),
    "tlsv1.0": frozenset(),
}
#: LibreSSL's names for lists of ciphers, in words that OpenSSL has too.
_LISTS: Final = {
    **dict.fromkeys(("default", "secure"), "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"),
    "compat": "HIGH",
    "legacy": "HIGH:MEDIUM",
    **dict.fromkeys(("all", "insecure"), "ALL"),
}
_NEVER: Final = ":!aNULL:!eNULL"


class TlsChoiceError(PolicyError):
    """No TLS can be spoken in the way that was asked for."""


def choose_for_server(context: ssl.SSLContext, protocols: str, ciphers: str) -> None:
    """The same for one who is connected to: an empty text means those with forward secrecy and authenticated encryption."""
    choose(context, protocols, ciphers or "default")
    # The rest is what the library does anyhow in most versions.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


def choose(context: ssl.SSLContext, protocols: str, ciphers: str) -> None:
    """Let ``context`` speak these; an empty text leaves what is usual. Raises `TlsChoiceError`."""
    context.minimum_version = _V12
    if protocols:
        versions = versions_of(protocols)
        context.minimum_version, context.maximum_version = min(versions), max(versions)
    if ciphers:
        try:
            context.set_ciphers(_LISTS.get(ciphers.lower(), ciphers) + _NEVER)
        except ssl.SSLError as error:
            raise TlsChoiceError(
                f'"{ciphers}" leaves no cipher: expected a list as openssl-ciphers(1) has it'
            ) from error


def check_ciphers(ciphers: str) -> None:
    """Raise `TlsChoiceError` when no cipher is left."""
    choose(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "", ciphers)


def versions_of(protocols: str) -> frozenset[ssl.TLSVersion]:
    """The versions that ``protocols`` means: words with commas or colons between them, ``!`` takes one away.

    Raises `TlsChoiceError`, also when none is left.
    """
    found: frozenset[ssl.TLSVersion] | None = None
    for word in re.split("[,:]", protocols):
        name = word.strip().lower()
        meant = _PROTOCOLS.get(name.removeprefix("!"))
        if meant is None:
            raise TlsChoiceError(f'"{word.strip()}" is no version of TLS{did_you_mean(name, _PROTOCOLS)}')
        if name.startswith("!"):
            found = (_PROTOCOLS["all"] if found is None else found) - meant
        else:
            found = (found or frozenset()) | meant
    if not found:
        raise TlsChoiceError(f'"{protocols}" leaves no version of TLS: 1.2 and 1.3 are spoken (RFC 8996)')
    return found
