"""SCRAM-SHA-256: what a table keeps in place of a password, and both sides' proofs.

A verifier is written ``SCRAM-SHA-256$iterations:salt$stored key:server key``, the last three in base64. Whoever steals it
can pretend to be this server, and guess, but cannot log in.

Guarantees: proofs and keys are compared in constant time, and shown by no ``repr``.

Failure: `ValueError` from `make` and `prepared` for a password that SCRAM cannot have; what is no verifier is None.

RFC 5802, RFC 7677; RFC 5803 (how it is written), RFC 4013 (how passwords are prepared).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Final

#: Of new verifiers: some 30 ms, for the client at each login and here at PLAIN. RFC 7677 asks for 4096 at least.
ITERATIONS: Final = 100_000
#: Half a second here; more is a slip, or meant to keep us busy.
MAX_ITERATIONS: Final = 1_000_000
_SALT_OCTETS: Final = 16
_KEY_OCTETS: Final = 32

_NAME: Final = "SCRAM-SHA-256$"
_WRITTEN = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,6}):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)")
_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is known of one password."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __str__(self) -> str:
        """As it is written in a table."""
        salt, stored, server = (b64encode(each).decode() for each in (self.salt, self.stored_key, self.server_key))
        return f"{_NAME}{self.iterations}:{salt}${stored}:{server}"

    def proves(self, proof: bytes, exchanged: bytes) -> bool:
        """Whether a client knows the password, by its proof of what was ``exchanged``."""
        signature = _hmac(self.stored_key, exchanged)
        if len(proof) != len(signature):
            return False
        client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
        return hmac.compare_digest(hashlib.sha256(client_key).digest(), self.stored_key)

    def signature(self, exchanged: bytes) -> bytes:
        """The proof for the client that this server knows the verifier."""
        return _hmac(self.server_key, exchanged)

    def fits(self, password: str) -> bool:
        """Whether it was made of ``password``. Takes a core for as long as its iterations need."""
        try:
            prepared(password)
        except ValueError:
            return False
        return hmac.compare_digest(_derived(password, self.salt, self.iterations).stored_key, self.stored_key)


def is_verifier(text: str) -> bool:
    """Whether a table's value is meant to be one."""
    return text.startswith(_NAME)


def read(text: str) -> Verifier | None:
    """The verifier that a table has as ``text``; None when it is none."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return None
    try:
        salt, stored, server = (b64decode(each, validate=True) for each in match.groups()[1:])
    except ValueError:
        return None
    if len(stored) != _KEY_OCTETS or len(server) != _KEY_OCTETS or int(match[1]) > MAX_ITERATIONS:
        return None
    return Verifier(int(match[1]), salt, stored, server)


def make(password: str, iterations: int = ITERATIONS) -> Verifier:
    """A new one, with a salt drawn by lot. Raises `ValueError` when the password holds what SCRAM cannot have."""
    prepared(password)
    return _derived(password, os.urandom(_SALT_OCTETS), iterations)


def made_up(login: str, like: Verifier, key: bytes) -> Verifier:
    """One for a login that does not exist: the same each time while ``key`` is, and such that no password fits."""
    seed = _hmac(key, login.encode(errors="surrogateescape"))
    salt = (hashlib.sha256(seed + b"salt").digest() * (1 + len(like.salt) // _KEY_OCTETS))[: len(like.salt)]
    return Verifier(like.iterations, salt, os.urandom(_KEY_OCTETS), os.urandom(_KEY_OCTETS))


def prepared(password: str) -> bytes:
    """``password`` as every client and server must read it, whatever keyboard it was typed at. Raises `ValueError`."""
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each for each in password if not stringprep.in_table_b1(each)
    )
    text = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not text or any(is_in(each) for each in text for is_in in _PROHIBITED):
        raise ValueError("SCRAM cannot have this password: it is empty, or holds control or private characters")
    if any(map(stringprep.in_table_d1, text)) and (
        any(map(stringprep.in_table_d2, text))
        or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
    ):
        raise ValueError("SCRAM cannot have this password: it mixes directions of writing")
    return text.encode()


def _derived(password: str, salt: bytes, iterations: int) -> Verifier:
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return Verifier(iterations, salt, stored, _hmac(salted, b"Server Key"))


def _hmac(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "sha256")
