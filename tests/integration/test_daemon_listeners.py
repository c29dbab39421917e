"""What listeners are told in smtpd.conf, as clients of a whole daemon meet it, and as a reload changes it."""

from __future__ import annotations

import smtplib
import socket
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon
from tests.tools.proxying import header

INBOX = 'action "in" maildir "/Maildir" virtual { "@" = "root" }\nmatch from any for any action "in"\n'
GATE = 'filter gate phase connect match src "127.0.0.1" reject "554 5.7.1 Not you"\n'
JUNK = 'filter spam phase mail-from match mail-from regex "^spam" junk\n'


def greeting(port: int, said_first: bytes = b"") -> str:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(said_first)
        return client.makefile().readline().rstrip()


def test_a_reload_changes_what_later_clients_meet(tmp_path: Path) -> None:
    listen = "listen on 127.0.0.1 port $port"
    with Daemon(tmp_path, f"{GATE}{listen} filter gate\n{INBOX}") as daemon:
        assert greeting(daemon.port) == "554 5.7.1 Not you"
        daemon.configure(f"{listen} hostname front.example.net\n{INBOX}")
        daemon.reload()
        assert greeting(daemon.port) == "220 front.example.net ESMTP Mailspool"
        daemon.configure(f'{listen} proxy-v2 hostnames {{ "127.0.0.1" = back.example.net }}\n{INBOX}')
        daemon.reload()
        assert greeting(daemon.port, header("127.0.0.1")) == "220 back.example.net ESMTP Mailspool"
        daemon.configure(f"{listen}\n{INBOX}")
        daemon.reload()
        assert greeting(daemon.port) == "220 box.example.net ESMTP Mailspool"


@pytest.mark.parametrize(("sender", "is_marked"), [("spammer@example.org", True), ("ann@example.org", False)])
def test_junk_is_marked_and_sorted_from_the_network_and_from_sendmail(
    tmp_path: Path, sender: str, is_marked: bool
) -> None:
    inbox = INBOX.replace("virtual", "junk virtual")
    text = f"{JUNK}listen on socket filter spam\nlisten on 127.0.0.1 port $port filter spam\n{inbox}"
    with Daemon(tmp_path, text) as daemon:
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
            client.sendmail(sender, ["bob@example.org"], "Subject: x\r\n\r\nx\r\n")
        daemon.sendmail("-i", "-f", sender, "bob@example.org", message="Subject: x\n\nx\n")
        daemon.wait_queue(0)
    folder = "Maildir/.Junk/new" if is_marked else "Maildir/new"
    messages = [path.read_text() for path in (tmp_path / folder).iterdir()]
    assert ["\nX-Spam: Yes\n" in message for message in messages] == [is_marked] * 2
