"""Certificates made for a test: an authority, and what it signs, good or bad as the test asks."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from policy.pki import general_name

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key as files in PEM, and the name it is for."""

    name: str
    cert: str
    key: str

    def server_context(self, client_authority: str = "") -> ssl.SSLContext:
        """A context for a server that shows this; it asks clients for a certificate when an authority is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        if client_authority:
            context.load_verify_locations(client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class CertificateAuthority:
    """A certificate authority in a folder; `path` is its own certificate, to be trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        builder = self._builder(self._name, self._key.public_key(), 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.path = str(folder / "authority.pem")
        certificate = builder.sign(self._key, hashes.SHA256())
        Path(self.path).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, days: int = 1, *, is_rsa: bool = False) -> Issued:
        """A certificate for a host name or an IP address; one with negative ``days`` has expired."""
        key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([general_name(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = self._folder / name.replace(":", "_")
        cert, secret = stem.with_suffix(".crt"), stem.with_suffix(".key")
        cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        secret.chmod(0o600)
        return Issued(name, str(cert), str(secret))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * _DAY)
            .not_valid_after(now + days * _DAY)
        )
