"""TLS towards other servers: what is demanded of them, and the contexts that demand it.

Guarantees: a verified context accepts nothing but a certificate that is valid now, leads to a trusted authority and names
the host that was asked for (a DNS name, or an IP address in its SAN). Contexts are made once and kept until one of their
files changes, so that a renewed client certificate or bundle counts at the next connection (in a process of its own: at the
next reload, because somebody else reads the files for it).

Failure: `TlsMisconfigured` when a certificate, key or bundle cannot be loaded; its text names the file, never its content.

RFC 8446, RFC 5246; RFC 3207 (STARTTLS), RFC 8314 (implicit TLS); RFC 9525 (names in certificates); RFC 7435 (opportunistic
security: anything is better than plain text).
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from typing import Final

from policy.config import Pki
from policy.pem import PemFiles, PemSource, in_memory
from policy.tls_choice import TlsChoiceError, choose

#: Everything that encrypts and shows a certificate, keys of the last century included.
_ANY: Final = "DEFAULT:@SECLEVEL=0"


class TlsMisconfigured(Exception):
    """A file that TLS needs cannot be used."""


@dataclass(frozen=True, slots=True)
class TlsTerms:
    """What a connection's TLS must be like."""

    #: Whether the certificate must be good. Without that TLS only keeps out who listens.
    verified: bool
    #: Trusted certificates in place of the system's, or empty.
    ca: str = ""
    #: What we show when asked for a certificate.
    pki: Pki | None = None
    #: What is allowed, in the words of `policy.tls_choice`; empty for what is usual.
    protocols: str = ""
    ciphers: str = ""
    #: Whether the mail goes in plain text when TLS does not come about: any cipher is better than that.
    is_optional: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Everything a context of these terms is made from."""
        pki = (self.pki.cert, self.pki.key) if self.pki else ()
        return tuple(path for path in (self.ca, *pki) if path)


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What was negotiated."""

    #: ``TLSv1.3:TLS_AES_256_GCM_SHA384:256``.
    ciphers: str
    verified: bool
    #: Why the certificate was not verified; empty when it was.
    reason: str
    #: ``SHA256:`` and the digest of the certificate in hexadecimal digits, or empty.
    fingerprint: str

    @classmethod
    def of(cls, session: ssl.SSLObject, terms: TlsTerms, *, is_required: bool) -> TlsFacts:
        """Read them from a finished handshake; ``is_required``: without TLS nothing would have been sent."""
        name, _, bits = session.cipher() or ("unknown", "", 0)
        certificate = session.getpeercert(binary_form=True)
        fingerprint = f"SHA256:{hashlib.sha256(certificate).hexdigest()}" if certificate else ""
        # What is content with plain text gains nothing by a certificate that it could do without.
        reason = "" if terms.verified else "no-verify" if is_required else "opportunistic"
        return cls(f"{session.version()}:{name}:{bits}", terms.verified, reason, fingerprint)

    def __str__(self) -> str:
        return f"{self.ciphers} {'verified' if self.verified else f'unverified ({self.reason})'}"


class TlsContexts:
    """The contexts of a process, made when they are first needed from what ``source`` has."""

    def __init__(self, source: PemSource | None = None) -> None:
        self._source = source or PemFiles()
        self._kept: dict[TlsTerms, tuple[tuple[object, ...], ssl.SSLContext]] = {}

    def context(self, terms: TlsTerms) -> ssl.SSLContext:
        """The context for ``terms``. A new one reads files, 10 to 30 ms for the system's bundle: call it in a thread."""
        stamp = tuple(self._source.stamp(path) for path in terms.files)
        kept = self._kept.get(terms)
        if kept is None or kept[0] != stamp:
            self._kept[terms] = kept = (stamp, _make(terms, self._source))
        return kept[1]


def _make(terms: TlsTerms, source: PemSource) -> ssl.SSLContext:
    context = _trusting(terms, source) if terms.verified else _trusting_anybody()
    try:
        choose(context, terms.protocols, terms.ciphers or (_ANY if terms.is_optional else ""))
    except TlsChoiceError as error:
        raise TlsMisconfigured(str(error)) from error
    if terms.pki is not None:
        try:
            chain, secret = source.read(terms.pki.cert), source.read(terms.pki.key)
            with in_memory(chain) as certificates, in_memory(secret) as key:
                # The callback answers a question that OpenSSL would otherwise put to the terminal.
                context.load_cert_chain(certificates, key, password=lambda: "")
        except (OSError, ValueError) as error:
            raise TlsMisconfigured(f"certificate {terms.pki.cert}, key {terms.pki.key}: {_words(error)}") from error
    return context


def _trusting(terms: TlsTerms, source: PemSource) -> ssl.SSLContext:
    try:
        if not terms.ca:
            return ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        with in_memory(source.read(terms.ca)) as bundle:
            return ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=bundle)
    except (OSError, ValueError) as error:
        raise TlsMisconfigured(f"ca {terms.ca}: {_words(error)}") from error


def _trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
