"""The client's side of SCRAM-SHA-256, by RFC 5802 and nothing of ours."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass


@dataclass
class ScramClient:
    """One exchange."""

    login: str
    password: str
    header: str = "n,,"
    nonce: str = "rOprNGfwEbeRWgbNEkqO"

    @property
    def first_bare(self) -> str:
        return f"n={self.login},r={self.nonce}"

    def first(self) -> str:
        return self.header + self.first_bare

    def final(self, challenge: str) -> str:
        """The proof; afterwards `signature` is what the server must say."""
        fields = dict(field.split("=", 1) for field in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={b64encode(self.header.encode()).decode()},r={fields['r']}"
        said = f"{self.first_bare},{challenge},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self.signature = (
            "v=" + b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), said, "sha256")).decode()
        )
        return f"{without_proof},p={b64encode(proof).decode()}"


def encoded(text: str) -> str:
    """As SMTP carries it."""
    return b64encode(text.encode()).decode()


def decoded(reply: str) -> str:
    """What a challenge says."""
    assert reply.startswith("334 "), reply
    return b64decode(reply[4:]).decode()
