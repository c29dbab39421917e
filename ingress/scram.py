"""The three messages of a SCRAM-SHA-256 exchange, read and written.

There is no binding to the channel: TLS 1.3 has only ``tls-exporter`` for it, which Python's ssl cannot compute. A client
that says it would have liked one (``y``) is served, because we offer none that somebody in between could have hidden; one
that demands it (``p=``) is not.

Guarantees: a message that says what this server does not support is refused, never ignored.

Failure: `ScramSyntax`.

RFC 5802 5 and 7.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

from policy.scram import Verifier

#: Octets of a name or a nonce; what is longer is no client's.
_MAX_TEXT: Final = 512
_NONCE_OCTETS: Final = 18

#: Header without channel binding, whom to act as, the name, the nonce; extensions behind it are optional ones.
_FIRST = re.compile(r"((?:n|y),(?:a=([^,]*))?,)(n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]*)*)")
_FINAL = re.compile(r"(c=([A-Za-z0-9+/=]+),r=([^,]+)(?:,[A-Za-z]=[^,\0]*)*),p=([A-Za-z0-9+/=]+)")
_NAME_ESCAPE = re.compile(r"=(2C|3D|)")


class ScramSyntax(ValueError):
    """This is not how a client speaks, or it wants what this server does not have."""


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """Who wants to log in."""

    header: str
    bare: str
    login: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange after the server's first message."""

    client: ClientFirst
    verifier: Verifier
    #: The server's first message.
    challenge: str
    nonce: str

    @classmethod
    def begin(cls, client: ClientFirst, verifier: Verifier) -> Exchange:
        """Answer the client's first message."""
        nonce = client.nonce + b64encode(os.urandom(_NONCE_OCTETS)).decode()
        salt = b64encode(verifier.salt).decode()
        return cls(client, verifier, f"r={nonce},s={salt},i={verifier.iterations}", nonce)

    def judge(self, octets: bytes) -> str | None:
        """The server's last message for a client that knows the password; None for another. Raises `ScramSyntax`."""
        match = _FINAL.fullmatch(_text(octets))
        if match is None:
            raise ScramSyntax
        without_proof, binding, nonce, proof = match.groups()
        if nonce != self.nonce or _decoded(binding) != self.client.header.encode():
            return None
        exchanged = f"{self.client.bare},{self.challenge},{without_proof}".encode()
        if not self.verifier.proves(_decoded(proof), exchanged):
            return None
        return "v=" + b64encode(self.verifier.signature(exchanged)).decode()


def read_first(octets: bytes) -> ClientFirst:
    """The client's first message. Raises `ScramSyntax`."""
    match = _FIRST.fullmatch(_text(octets))
    if match is None:
        raise ScramSyntax
    header, acting_as, bare, name, nonce = match.groups()
    login = _name(name)
    # Nobody may act as somebody else here, but clients repeat themselves.
    if not login or "\0" in login or (acting_as and _name(acting_as) != login):
        raise ScramSyntax
    return ClientFirst(header, bare, login, nonce)


def _text(octets: bytes) -> str:
    if len(octets) > 4 * _MAX_TEXT:
        raise ScramSyntax
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ScramSyntax from None


def _name(text: str) -> str:
    if "" in _NAME_ESCAPE.findall(text) or len(text) > _MAX_TEXT:
        raise ScramSyntax
    return text.replace("=2C", ",").replace("=3D", "=")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise ScramSyntax from None
