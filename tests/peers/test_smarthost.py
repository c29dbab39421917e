"""Mail leaves through a real Postfix smarthost with TLS and a password, and waits when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.machine import Machine, wait_for
from tests.peers.postfix import Authority, Postfix, make_postfix, make_smarthost
from tests.peers.spooler import Spooler

pytestmark = pytest.mark.timeout(240)
RELAY_ALL = 'listen on localhost\naction "out" relay host "smtp://smtp.foo.bar"\nmatch for any action "out"\n'


@pytest.fixture
def smarthost(machine: Machine, tmp_path: Path) -> Postfix:
    smarthost = make_smarthost(machine, Authority.make(machine, tmp_path / "ca"), "127.0.0.2", "smtp.foo.bar")
    smarthost.start()
    return smarthost


@pytest.fixture
def spooler(machine: Machine) -> Iterator[Spooler]:
    spooler = Spooler(machine)
    yield spooler
    # A daemon with a traceback in its log has not done its work well, whatever arrived.
    assert "Traceback" not in spooler.log()


def body_of(message: bytes) -> bytes:
    return message.partition(b"\n\n")[2]


def test_relay_only_authenticates_to_the_verified_smarthost_and_keeps_the_body(
    spooler: Spooler, smarthost: Postfix
) -> None:
    spooler.seed("relay-only.conf", {"aliases": "@ foo@bar\n", "secrets": "label user:password\n"})
    spooler.start()
    body = "Grüße\n.\n..two dots\nFrom here\n\ttab and trailing blank \n" + "x" * 900 + "\n"
    spooler.machine.run(["/usr/sbin/sendmail", "-i", "ann@remote.example"], stdin="Subject: bytes\n\n" + body)
    (message,) = smarthost.wait_messages(1)
    assert body_of(message) == body.encode()
    assert "sasl_username=user" in smarthost.log()
    assert b"Return-Path: <root@foo.bar>" in message


def test_relay_only_runs_procmail_as_the_local_user(spooler: Spooler, smarthost: Postfix) -> None:
    spooler.machine.add_user("roger")
    spooler.machine.write("/home/roger/.procmailrc", ":0 c\n| id -un > $HOME/ran-as\n")
    spooler.seed("relay-only.conf", {"aliases": "@ roger\n", "secrets": "label user:password\n"})
    spooler.start()
    spooler.machine.run(["/usr/sbin/sendmail", "-i", "anybody@localhost"], stdin="Subject: p\n\nfor procmail\n")
    spooler.wait_mailbox("roger", "for procmail")
    assert spooler.machine.path("/home/roger/ran-as").read_text() == "roger\n"


def test_with_a_wrong_password_mail_waits_and_leaves_once_the_secret_is_corrected(
    spooler: Spooler, smarthost: Postfix
) -> None:
    spooler.seed("relay-only.conf", {"aliases": "@ foo@bar\n", "secrets": "label user:wrong\n"})
    spooler.start()
    spooler.machine.run(["/usr/sbin/sendmail", "-i", "ann@remote.example"], stdin="Subject: s\n\nlate\n")
    wait_for(lambda: "535" in spooler.smtpctl("show", "queue").stdout, "the reason in show queue")
    (line,) = spooler.smtpctl("show", "queue").stdout.splitlines()
    assert line.count("|") == 13
    assert "authentication failed" in line.lower()
    spooler.machine.write("/etc/smtpd/secrets", "label user:password\n", 0o600)
    spooler.smtpctl("schedule", "all")
    smarthost.wait_messages(1)
    assert spooler.wait_queue(0) == []


def test_two_hundred_messages_survive_a_kill_while_the_smarthost_is_away_and_arrive_once(
    machine: Machine, spooler: Spooler
) -> None:
    smarthost = make_postfix(machine, "isp", "127.0.0.2", "smtp.foo.bar")
    spooler.configure(RELAY_ALL)
    spooler.start()
    load = ["-s", "10", "-m", "200", "-l", "4000", "-N"]
    machine.run(["smtp-source", *load, "-f", "a@box.example.net", "-t", "b@remote.example", "127.0.0.1:25"])
    spooler.wait_queue(200)
    spooler.kill()
    smarthost.start()
    spooler.start()
    spooler.smtpctl("schedule", "all")
    smarthost.wait_messages(200)
    assert spooler.wait_queue(0) == []
    assert len(smarthost.messages()) == 200
