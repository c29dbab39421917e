"""The peers are what the other tests take them for."""

from __future__ import annotations

from pathlib import Path

from tests.peers.machine import Machine
from tests.peers.postfix import Authority, make_postfix, make_smarthost


def test_the_mx_takes_mail_from_anybody_for_any_domain(machine: Machine) -> None:
    mx = make_postfix(machine, "mx", "127.0.0.3", "mx.remote.example")
    mx.start()
    machine.run(["swaks", "--server", "127.0.0.3", "--from", "a@b.example", "--to", "c@d.example", "--body", "hello"])
    (message,) = mx.wait_messages(1)
    assert b"hello" in message


def test_the_smarthost_refuses_who_has_no_password(machine: Machine, tmp_path: Path) -> None:
    smarthost = make_smarthost(machine, Authority.make(machine, tmp_path / "ca"), "127.0.0.2", "smtp.foo.bar")
    smarthost.start()
    done = machine.run(["swaks", "--server", "127.0.0.2", "--from", "a@b.example", "--to", "c@d.example"], check=False)
    assert "554 5.7.1" in done.stdout


def test_the_smarthost_takes_mail_with_the_password_inside_verified_tls(machine: Machine, tmp_path: Path) -> None:
    smarthost = make_smarthost(machine, Authority.make(machine, tmp_path / "ca"), "127.0.0.2", "smtp.foo.bar")
    smarthost.start()
    server = ["--host=smtp.foo.bar", "--port=465", "--tls=on", "--tls-starttls=off"]
    trust = ["--tls-trust-file=/etc/ssl/certs/ca-certificates.crt"]
    login = ["--auth=plain", "--user=user", "--passwordeval=echo password"]
    machine.run(["msmtp", *server, *trust, *login, "--from=a@b.example", "c@d.example"], stdin="Subject: x\n\nhello\n")
    (message,) = smarthost.wait_messages(1)
    assert b"hello" in message
