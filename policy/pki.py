"""Certificates and keys: looked over when the configuration is read, and made into a TLS context for a listener.

Guarantees: a context speaks TLS 1.2 or newer. Of several certificates the one that covers the name the client asked for is
shown, else the first.

Failure: `inspect` says what is wrong instead of raising; `server_context` raises `PkiError` or `TlsChoiceError`.

RFC 6066 3 (server name indication), RFC 9525 (which names a certificate covers), RFC 8996 (no TLS before 1.2).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from policy.config import Listener, Pki
from policy.errors import PolicyError
from policy.groups import allow_dhe
from policy.pem import in_memory
from policy.private_file import doubts
from policy.tls_choice import choose_for_server

#: Nobody but the owner may write a certificate, and nobody but owner and group may read a key (as OpenSMTPD has it).
CERT_MODE: Final = 0o755
KEY_MODE: Final = 0o740
#: How long before its end a certificate is worth a warning: renewal by a machine happens earlier.
EXPIRY_WARNING: Final = datetime.timedelta(days=14)
#: How long the certificates that we make ourselves hold.
SELFSIGNED_LIFETIME: Final = datetime.timedelta(days=365)


#: How the certificates in a folder of trusted ones are called, by c_rehash(1).
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class PkiError(PolicyError):
    """A certificate or key cannot be used."""


@dataclass(frozen=True, slots=True)
class PkiProblem:
    """What is wrong with a certificate or its key."""

    message: str
    about_key: bool = False
    is_warning: bool = False


def inspect(pki: Pki, now: datetime.datetime) -> tuple[PkiProblem, ...]:
    """Everything that is wrong with ``pki``; nothing when it can be used. ``now`` has a time zone."""
    found = [
        *_file_problems(pki.cert, CERT_MODE, about_key=False),
        *_file_problems(pki.key, KEY_MODE, about_key=True),
    ]
    if found:
        return tuple(found)
    try:
        certificate = _read_certificates(pki.cert)[0]
    except PkiError as error:
        return (PkiProblem(str(error)),)
    try:
        key = _read_key(pki.key)
    except PkiError as error:
        return (PkiProblem(str(error), about_key=True),)
    if _public(certificate.public_key()) != _public(key.public_key()):
        found.append(PkiProblem(f"{pki.key} is not the key of the certificate in {pki.cert}", about_key=True))
    return (*found, *_date_problems(pki.cert, certificate, now))


def inspect_ca(path: str) -> str:
    """What is wrong with the file of trusted certificates at ``path``; empty when it can be used."""
    try:
        _read_certificates(path)
    except PkiError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its chain and its key, in PEM form."""

    pki: Pki
    certificates: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """All that the TLS side of a listener is made of; whoever has it needs no file."""

    pairs: tuple[KeyPair, ...]
    #: What clients' certificates are verified against, in PEM form; empty when none are demanded.
    ca: bytes = b""


def key_material(listener: Listener) -> KeyMaterial:
    """Read it, unless somebody else could. Raises `PkiError`."""
    pairs = tuple(KeyPair(pki, _guarded(pki.cert, CERT_MODE), _guarded(pki.key, KEY_MODE)) for pki in listener.pki)
    if not listener.verify:
        return KeyMaterial(pairs)
    return KeyMaterial(pairs, _read(listener.ca) if listener.ca else _system_authorities())


def server_context(listener: Listener, material: KeyMaterial | None = None) -> ssl.SSLContext:
    """The TLS side of a listener, which has one certificate at least; its files are read unless ``material`` is at hand."""
    material = material or key_material(listener)
    contexts = [_context(pair, listener, material.ca) for pair in material.pairs]
    default, *others = contexts
    if others:
        names = [_names(_certificates(pair.certificates, pair.pki.cert)[0]) for pair in material.pairs]
        choices = list(zip(names, contexts, strict=True))

        def choose(connection: ssl.SSLObject, asked: str | None, _context: ssl.SSLContext) -> None:
            chosen = next((context for covered, context in choices if asked and _covers(covered, asked)), default)
            connection.context = chosen

        default.sni_callback = choose
    return default


def selfsigned(folder: str, name: str, *alternatives: str) -> Pki:
    """Make a key and a certificate for host ``name`` (and other names or IP addresses) in ``folder``.

    Whoever names the certificate as trusted (``ca``) can verify it.
    """
    pki = Pki(name, os.path.join(folder, f"{name}.crt"), os.path.join(folder, f"{name}.key"))
    make_selfsigned(pki, (name, *alternatives))
    return pki


def make_selfsigned(pki: Pki, names: Sequence[str]) -> None:
    """Make the files of ``pki``, neither of which is there. Raises `OSError`."""
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate = _selfsigned_certificate(key, names)
    _write(pki.key, 0o600, secret)
    try:
        _write(pki.cert, 0o644, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError:
        os.unlink(pki.key)
        raise


def _file_problems(path: str, allowed: int, *, about_key: bool) -> list[PkiProblem]:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
    except OSError as error:
        return [PkiProblem(f"{path}: {error.strerror}", about_key)]
    return [PkiProblem(doubt, about_key) for doubt in doubts(path, status, allowed)]


def _guarded(path: str, allowed: int) -> bytes:
    """The file that was looked over, whatever is at its path a moment later."""
    try:
        with open(path, "rb") as file:
            doubt = next(doubts(path, os.fstat(file.fileno()), allowed), "")
            if not doubt:
                return file.read()
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror}") from error
    raise PkiError(doubt)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror}") from error


def _system_authorities() -> bytes:
    """Whom this system trusts, for a process that may not look. OpenSSL itself would look at each verification."""
    places = ssl.get_default_verify_paths()
    files = [places.cafile] if places.cafile else []
    if places.capath:
        files += sorted(entry.path for entry in os.scandir(places.capath) if _HASHED.fullmatch(entry.name))
    if not files:
        raise PkiError('this system has no certificates of authorities: expected "ca NAME" for "verify"')
    return b"\n".join(_read(path) for path in files)


def _read_certificates(path: str) -> list[x509.Certificate]:
    return _certificates(_read(path), path)


def _certificates(octets: bytes, path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError as error:
        raise PkiError(f"{path} holds no certificate in PEM form") from error


def _read_key(path: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(_read(path), password=None)
    except TypeError as error:
        raise PkiError(f"{path} is protected by a passphrase, which is not supported yet") from error
    except ValueError as error:
        raise PkiError(f"{path} holds no private key in PEM form") from error


def _public(key: object) -> bytes:
    found: bytes = key.public_bytes(  # type: ignore[attr-defined]  # cryptography's union has members without it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def _date_problems(path: str, certificate: x509.Certificate, now: datetime.datetime) -> list[PkiProblem]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return [PkiProblem(f"the certificate in {path} is not valid before {begins:%Y-%m-%d}", is_warning=True)]
    if now >= ends:
        return [PkiProblem(f"the certificate in {path} expired on {ends:%Y-%m-%d}", is_warning=True)]
    if now >= ends - EXPIRY_WARNING:
        return [PkiProblem(f"the certificate in {path} expires on {ends:%Y-%m-%d}", is_warning=True)]
    return []


def _context(pair: KeyPair, listener: Listener, ca: bytes) -> ssl.SSLContext:
    pki = pair.pki
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    choose_for_server(context, listener.protocols, listener.ciphers)
    if listener.verify:
        _demand_certificates(context, listener.ca, ca)
    try:
        with in_memory(pair.certificates) as certificates, in_memory(pair.key) as key:
            # The callback answers a question that OpenSSL would otherwise put to the terminal.
            context.load_cert_chain(certificates, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise PkiError(f"pki {pki.name}: {pki.cert} and {pki.key} cannot be used: {error}") from error
    if pki.dhe:
        _allow_dhe(context)
    return context


def _allow_dhe(context: ssl.SSLContext) -> None:
    try:
        allow_dhe(context)
    except OSError as error:
        raise PkiError(f"the parameters of dhe cannot be loaded: {error}") from error


def _demand_certificates(context: ssl.SSLContext, path: str, ca: bytes) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        # Not as text: that would have to be ASCII, and bundles have remarks that are not.
        with in_memory(ca) as bundle:
            context.load_verify_locations(bundle)
    except (OSError, ValueError) as error:
        whose = path or "what this system trusts"
        raise PkiError(f"{whose} cannot be used to verify certificates: {error}") from error


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return frozenset(str(attribute.value).lower() for attribute in common)
    return frozenset(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))


def _covers(names: frozenset[str], asked: str) -> bool:
    host = asked.lower().rstrip(".")
    # RFC 9525 6.3: a wildcard is the whole first label, and stands for one label.
    return host in names or "*." + host.partition(".")[2] in names


def _selfsigned_certificate(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + SELFSIGNED_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def general_name(name: str) -> x509.GeneralName:
    """A host name or an IP address, as certificates have them."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: str, mode: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
