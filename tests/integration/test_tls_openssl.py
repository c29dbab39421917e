"""What OpenSSL's own client finds at our listeners: versions, names, resumption, renewal."""

from __future__ import annotations

import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.pki import selfsigned
from tests.tools.daemon import Daemon

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

CONFIGURATION = """\
pki "one" cert "/etc/one.example.crt"
pki "one" key "/etc/one.example.key"
pki "two" cert "/etc/two.example.crt"
pki "two" key "/etc/two.example.key"
listen on 127.0.0.1 port $port tls pki "one" pki "two"
action "in" mbox
match from any for any action "in"
"""
#: Without this the client itself would refuse to speak what is old.
OF_OLD = ("-cipher", "ALL:@SECLEVEL=0")


def started(root: Path) -> Daemon:
    folder = root / "etc"
    folder.mkdir()
    for name in ("one.example", "two.example"):
        selfsigned(str(folder), name)
    return Daemon(root, CONFIGURATION)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """For tests that leave it as it was."""
    with started(tmp_path_factory.mktemp("tls")) as daemon:
        yield daemon


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: sockets will be in it."""
    return tmp_path_factory.mktemp("own")


def ask(daemon: Daemon, *options: str, say: str = "QUIT\n", until: str = "-ign_eof") -> str:
    """What s_client prints of a session in which ``say`` is said."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{daemon.port}", "-starttls", "smtp"]
    command += ["-crlf", until, *options]
    done = subprocess.run(command, input=say, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr


def shown(printed: str) -> str:
    """The host that the certificate is for."""
    found = re.search(r"subject=CN = (\S+)", printed)
    return found[1] if found else ""


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_what_is_older_than_tls_1_2_is_refused(shared: Daemon, version: str) -> None:
    printed = ask(shared, version, *OF_OLD)
    assert "Cipher is (NONE)" in printed
    assert "tlsv1 alert protocol version" in printed


@pytest.mark.parametrize(("version", "name"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_what_is_newer_is_spoken(shared: Daemon, version: str, name: str) -> None:
    assert re.search(rf"New, {name}, Cipher is \S*(GCM|CHACHA20)", ask(shared, version))


@pytest.mark.parametrize("cipher", ["AES256-SHA", "ECDHE-ECDSA-AES256-SHA384", "ADH-AES256-GCM-SHA384", "NULL"])
def test_a_client_that_knows_weak_ciphers_alone_is_refused(shared: Daemon, cipher: str) -> None:
    printed = ask(shared, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert "Cipher is (NONE)" in printed
    assert "handshake failure" in printed


@pytest.mark.parametrize(
    ("asked", "host"),
    [("two.example", "two.example"), ("ONE.example", "one.example"), ("three.example", "one.example")],
)
def test_a_client_sees_the_certificate_that_it_asks_for_and_else_the_first(
    shared: Daemon, asked: str, host: str
) -> None:
    assert shown(ask(shared, "-servername", asked)) == host


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name", ["one.example", "two.example"])
def test_a_session_is_taken_up_again(shared: Daemon, tmp_path: Path, version: str, name: str) -> None:
    kept = str(tmp_path / "session")
    options = (version, "-servername", name)
    assert "New, TLSv1" in ask(shared, *options, "-sess_out", kept, say="NOOP\nQUIT\n")
    assert "Reused, TLSv1" in ask(shared, *options, "-sess_in", kept)


def test_a_client_may_not_negotiate_anew(shared: Daemon) -> None:
    printed = ask(shared, "-tls1_2", say="R\n", until="-no_ign_eof")
    assert "RENEGOTIATING" in printed
    assert "no renegotiation" in printed


def test_nothing_is_compressed(shared: Daemon) -> None:
    assert "Compression: NONE" in ask(shared, "-tls1_2", "-comp")


def test_no_other_protocol_is_agreed_on_and_its_first_line_is_its_last(shared: Daemon) -> None:
    printed = ask(shared, "-alpn", "h2,http/1.1", say="POST / HTTP/1.1\nHost: one.example\n\nHELP\n")
    assert "No ALPN negotiated" in printed
    assert re.search(r"^[45]\d\d ", printed, re.MULTILINE)
    assert not re.search(r"^214", printed, re.MULTILINE)


def test_a_renewed_certificate_is_shown_after_a_reload(root: Path) -> None:
    with started(root) as daemon:
        before = certificate(daemon)
        renew(daemon, "one.example")
        assert certificate(daemon) == before
        daemon.reload()
        assert certificate(daemon) != before


def test_a_certificate_that_was_renewed_badly_is_not_shown(root: Path) -> None:
    daemon = started(root)
    daemon.start()
    try:
        before = certificate(daemon)
        renew(daemon, "one.example")
        shutil.copy(daemon.root / "etc/two.example.crt", daemon.root / "etc/one.example.crt")
        daemon.reload()
        assert "one.example.key is not the key of the certificate in" in daemon.log
        assert certificate(daemon) == before
    finally:
        daemon.stop()


def test_a_session_that_is_open_outlives_the_certificate_of_its_beginning(root: Path) -> None:
    with started(root) as daemon, smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
        client.starttls(context=ssl._create_unverified_context())
        renew(daemon, "one.example")
        daemon.reload()
        assert client.ehlo()[0] == 250


def renew(daemon: Daemon, name: str) -> None:
    """Have another certificate and key in the place of what is there."""
    for kind in ("crt", "key"):
        (daemon.root / f"etc/{name}.{kind}").unlink()
    selfsigned(str(daemon.root / "etc"), name)


def certificate(daemon: Daemon) -> str:
    """The one that is shown for the first name."""
    printed = ask(daemon, "-servername", "one.example")
    found = re.search(r"-----BEGIN.*-----END CERTIFICATE-----", printed, re.DOTALL)
    assert found, printed
    return found[0]
