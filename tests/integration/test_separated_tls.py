"""TLS in the processes of the roles: they speak it with keys that root alone may read."""

from __future__ import annotations

import os
import pwd
import signal
import smtplib
import ssl
from pathlib import Path

import pytest
from anyio import to_thread

from control.separated.accounts import USERS, Role
from policy.config import Pki
from policy.pki import selfsigned
from tests.tools.certificates import CertificateAuthority
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder
from tests.tools.recording_sink import RecordingSink
from tests.tools.roles import process_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others"),
    pytest.mark.skipif(
        not all(user in {entry.pw_name for entry in pwd.getpwall()} for user in USERS.values()),
        reason="the daemon's users are not on this machine",
    ),
]

CONFIGURATION = """\
pki "ours" cert "/etc/private/localhost.crt"
pki "ours" key "/etc/private/localhost.key"
ca "theirs" cert "/etc/private/authority.pem"
listen on 127.0.0.1 port $port tls pki "ours"
action "out" relay host "smtp+tls://127.0.0.1:{port}" pki "ours" ca "theirs"
match from any for any action "out"
"""


def send(daemon: Daemon, text: str) -> str:
    """Give it a message through STARTTLS; the certificate that it showed, in PEM form."""
    with smtplib.SMTP("localhost", daemon.port, timeout=30) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(daemon.root / "etc/private/localhost.crt")))
        assert isinstance(client.sock, ssl.SSLSocket)
        client.sendmail("ann@example.org", ["bob@example.org"], f"Subject: x\r\n\r\n{text}\r\n")
        return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True) or b"")


async def test_the_roles_speak_tls_with_keys_that_they_may_not_read() -> None:
    with public_folder() as root:
        private = root / "etc/private"
        private.mkdir(mode=0o700, parents=True)
        ours = selfsigned(str(private), "localhost")
        authority = CertificateAuthority(private)
        context = authority.issue("127.0.0.1").server_context(client_authority=ours.cert)
        async with RecordingSink(tls=context) as sink:
            daemon = Daemon(root, CONFIGURATION.format(port=sink.port), one_process=False)
            first, again = await to_thread.run_sync(_send_twice, daemon, ours)
            await sink.received(2)
    assert first == again
    assert [received.peer.tls for received in sink.messages] == [True, True]
    assert all(received.peer.certificate for received in sink.messages)


def _send_twice(daemon: Daemon, ours: Pki) -> tuple[str, str]:
    """Once as it is, and once when ingress has died and the key's file is gone."""
    daemon.start()
    try:
        first = send(daemon, "first")
        Path(ours.key).unlink()
        os.kill(process_of(daemon, Role.INGRESS), signal.SIGKILL)
        daemon.wait_log("another takes its place")
        again = _insist(daemon, "second")
        wait_for(lambda: not daemon.queue(), "the relay to deliver")
        return first, again
    finally:
        daemon.stop()


def _insist(daemon: Daemon, text: str) -> str:
    """The same while a process that has died is being replaced."""
    shown: list[str] = []

    def is_sent() -> bool:
        try:
            shown.append(send(daemon, text))
        except (OSError, smtplib.SMTPException):
            return False
        return True

    wait_for(is_sent, "the message to be taken")
    return shown[0]
