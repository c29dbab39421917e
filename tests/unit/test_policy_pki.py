"""Certificates: looked over before anything starts, and shown to the client that asks for their name."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pickle
import shutil
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from policy.config import Listener, Pki
from policy.pki import PkiError, PkiProblem, inspect, inspect_ca, key_material, selfsigned, server_context

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return selfsigned(str(tmp_path), "mx.example.org")


def problems(pki: Pki, now: datetime.datetime = NOW) -> list[str]:
    return [problem.message for problem in inspect(pki, now)]


def shown(pkis: Sequence[Pki], name: str | None, trusted: Pki) -> str:
    """The host that the certificate names that a client sees who asks for ``name`` and trusts ``trusted``."""
    here, there = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(server_context(Listener("127.0.0.1", 0, pki=tuple(pkis))), there))
    thread.start()
    context = ssl.create_default_context(cafile=trusted.cert)
    context.check_hostname = False
    with here, context.wrap_socket(here, server_hostname=name) as connection:
        certificate = connection.getpeercert()
        connection.sendall(b"x")
    thread.join()
    assert certificate
    alternatives = certificate["subjectAltName"]
    assert isinstance(alternatives, tuple)
    return str(alternatives[0][1])


def _serve(context: ssl.SSLContext, there: socket.socket) -> None:
    with there, context.wrap_socket(there, server_side=True) as connection:
        connection.recv(1)


def test_a_certificate_with_its_key_has_no_problem(pki: Pki) -> None:
    assert inspect(pki, NOW) == ()


def test_both_missing_files_are_named_at_once(pki: Pki) -> None:
    Path(pki.cert).unlink()
    Path(pki.key).unlink()
    assert inspect(pki, NOW) == (
        PkiProblem(f"{pki.cert}: No such file or directory"),
        PkiProblem(f"{pki.key}: No such file or directory", about_key=True),
    )


@pytest.mark.parametrize(
    ("mode", "is_fine"), [(0o600, True), (0o640, True), (0o740, True), (0o644, False), (0o660, False)]
)
def test_a_key_must_be_safe_from_others(pki: Pki, mode: int, is_fine: bool) -> None:
    Path(pki.key).chmod(mode)
    assert (problems(pki) == []) is is_fine


@pytest.mark.parametrize(("mode", "is_fine"), [(0o444, True), (0o755, True), (0o664, False), (0o666, False)])
def test_a_certificate_may_be_read_but_not_written_by_others(pki: Pki, mode: int, is_fine: bool) -> None:
    Path(pki.cert).chmod(mode)
    assert (problems(pki) == []) is is_fine


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_that_belongs_to_somebody_else_is_refused(pki: Pki) -> None:
    os.chown(pki.key, 65534, -1)
    assert problems(pki) == [
        f'{pki.key} belongs to uid 65534, who could exchange it: expected root ("chown root {pki.key}")'
    ]


def test_a_key_of_another_certificate_is_refused(pki: Pki, tmp_path: Path) -> None:
    other = selfsigned(str(tmp_path), "other.example.org")
    mixed = dataclasses.replace(pki, key=other.key)
    assert problems(mixed) == [f"{other.key} is not the key of the certificate in {pki.cert}"]


def test_files_that_hold_something_else_are_refused(pki: Pki) -> None:
    swapped = Pki(pki.name, pki.cert, pki.key)
    Path(pki.cert).write_text("nothing")
    assert problems(swapped) == [f"{pki.cert} holds no certificate in PEM form"]


def test_a_key_file_without_a_key_is_refused(pki: Pki) -> None:
    Path(pki.key).write_text("nothing")
    assert problems(pki) == [f"{pki.key} holds no private key in PEM form"]


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(pki: Pki) -> None:
    key = serialization.load_pem_private_key(Path(pki.key).read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    Path(pki.key).write_bytes(locked)
    assert problems(pki) == [f"{pki.key} is protected by a passphrase, which is not supported yet"]
    with pytest.raises(PkiError):
        server_context(Listener("127.0.0.1", 0, pki=(pki,)))


@pytest.mark.parametrize(
    ("later", "word"),
    [(-2 * DAY, "is not valid before"), (355 * DAY, "expires on"), (366 * DAY, "expired on")],
)
def test_a_certificate_out_of_its_time_is_a_warning(pki: Pki, later: datetime.timedelta, word: str) -> None:
    (problem,) = inspect(pki, NOW + later)
    assert problem.is_warning
    assert word in problem.message


def test_a_directory_is_no_certificate(pki: Pki, tmp_path: Path) -> None:
    assert "Is a directory" in problems(dataclasses.replace(pki, cert=str(tmp_path)))[0]


def test_trusted_certificates_are_looked_over_too(pki: Pki) -> None:
    assert inspect_ca(pki.cert) == ""
    assert inspect_ca(pki.key) == f"{pki.key} holds no certificate in PEM form"
    assert "No such file" in inspect_ca(pki.cert + "x")


def test_a_client_that_trusts_a_selfsigned_certificate_verifies_it(pki: Pki) -> None:
    assert shown([pki], "mx.example.org", pki) == "mx.example.org"


def test_a_selfsigned_certificate_passes_the_strictest_verification(tmp_path: Path) -> None:
    pki = selfsigned(str(tmp_path), "localhost", "127.0.0.1")
    context = ssl.create_default_context(cafile=pki.cert)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    here, there = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(server_context(Listener("127.0.0.1", 0, pki=(pki,))), there))
    thread.start()
    with here, context.wrap_socket(here, server_hostname="127.0.0.1") as connection:
        connection.sendall(b"x")
        assert connection.version() == "TLSv1.3"
    thread.join()


def test_of_several_certificates_the_client_sees_the_one_it_asked_for(tmp_path: Path) -> None:
    first, second, wild = (
        selfsigned(str(tmp_path), name) for name in ("mx.example.org", "mail.example.net", "*.example.com")
    )
    both = [first, second, wild]
    assert shown(both, "mx.example.org", first) == "mx.example.org"
    assert shown(both, "Mail.Example.Net", second) == "mail.example.net"
    assert shown(both, "any.example.com", wild) == "*.example.com"


def test_a_client_that_asks_for_no_name_or_an_unknown_one_sees_the_first_certificate(tmp_path: Path) -> None:
    first, second = (selfsigned(str(tmp_path), name) for name in ("mx.example.org", "mail.example.net"))
    assert shown([first, second], None, first) == "mx.example.org"
    assert shown([first, second], "deep.any.example.com", first) == "mx.example.org"


def test_a_key_that_others_may_read_is_refused_with_what_to_do(pki: Pki) -> None:
    os.chmod(pki.key, 0o644)
    with pytest.raises(PkiError, match=rf'at most 0740 is allowed ."chmod 0640 {pki.key}"'):
        key_material(Listener("127.0.0.1", 0, pki=(pki,)))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
def test_whoever_is_handed_the_keys_needs_no_right_to_their_files(pki: Pki) -> None:
    listener = Listener("127.0.0.1", 0, pki=(pki,), verify=True, ca=pki.cert)
    octets = pickle.dumps(key_material(listener))
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        is_made = bool(server_context(listener, pickle.loads(octets)).get_ca_certs())
        os._exit(0 if is_made and not os.access(pki.key, os.R_OK) and not os.access(pki.cert, os.R_OK) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_usual_ciphers_keep_what_was_said_secret_when_a_key_is_stolen(pki: Pki) -> None:
    ciphers = server_context(Listener("127.0.0.1", 0, pki=(pki,))).get_ciphers()
    assert {cipher["kea"] for cipher in ciphers if cipher["protocol"] == "TLSv1.2"} <= {"kx-ecdhe", "kx-dhe"}
    assert all(cipher["aead"] for cipher in ciphers)


def test_a_bundle_with_remarks_in_another_tongue_is_read(pki: Pki) -> None:
    Path(pki.cert).write_bytes("# Főtanúsítvány\n".encode() + Path(pki.cert).read_bytes())
    assert server_context(Listener("127.0.0.1", 0, pki=(pki,), verify=True, ca=pki.cert)).get_ca_certs()


def test_without_ca_clients_are_verified_by_whom_the_system_trusts_without_its_files(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "01234567.0").symlink_to(pki.cert)
    (folder / "README").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing"))
    listener = Listener("127.0.0.1", 0, pki=(pki,), verify=True)
    material = key_material(listener)
    shutil.rmtree(folder)
    assert len(server_context(listener, material).get_ca_certs()) == 1
    with pytest.raises(PkiError, match="has no certificates of authorities"):
        key_material(listener)
