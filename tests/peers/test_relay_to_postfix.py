"""Our relay and Debian's Postfix: as a smarthost with TLS and password, and as an MX that dnsmasq names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.peers.machine import VENV, Machine
from tests.peers.postfix import Authority, Postfix, make_postfix, make_smarthost

BODY = b"Subject: caf\xc3\xa9\r\n\r\n.\r\n..dots\r\n" + b"x" * 900 + b"\r\n"
RELAY_ONLY = """
table secrets { label = "user:password" }
action "relay" relay host "smtps://label@smtp.foo.bar" auth <secrets> mail-from "@foo.bar"
match for any action "relay"
"""
BY_MX = """
action "relay" relay
match for any action "relay"
"""
REFUSES = "smtpd_recipient_restrictions = check_recipient_access hash:/etc/mx/bad\n"
ONCE = Path(__file__).with_name("relay_once.py")


def relay(machine: Machine, conf: str, *recipients: str, body: bytes = BODY) -> list[dict[str, str]]:
    machine.write("/etc/smtpd/smtpd.conf", conf)
    command = ["env", f"PYTHONPATH={ONCE.parents[2]}", str(VENV / "python"), str(ONCE), "/etc/smtpd/smtpd.conf"]
    done = machine.run([*command, "relay", "root@box.example.net", *recipients], stdin=body)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def smarthost(machine: Machine, tmp_path: Path) -> Postfix:
    smarthost = make_smarthost(machine, Authority.make(machine, tmp_path / "ca"), "127.0.0.2", "smtp.foo.bar")
    smarthost.start()
    return smarthost


def test_a_smarthost_gets_the_body_octet_for_octet_inside_verified_tls(machine: Machine, smarthost: Postfix) -> None:
    (said,) = relay(machine, RELAY_ONLY, "bob@example.org")
    assert (said["kind"], said["stage"]) == ("Delivered", "dot")
    assert said["reply"].startswith("250 2.0.0 Ok: queued as ")
    assert said["route"].startswith("smtps://smtp.foo.bar:465 TLSv1.3:")
    assert said["route"].endswith(" verified")
    (message,) = smarthost.wait_messages(1)
    assert message.endswith(BODY.replace(b"\r\n", b"\n"))
    assert message.startswith(b"Return-Path: <root@foo.bar>\n")


def test_a_wrong_password_or_name_defers_with_the_reason(machine: Machine, smarthost: Postfix) -> None:
    (said,) = relay(machine, RELAY_ONLY.replace("user:password", "user:wrong"), "bob@example.org")
    assert (said["kind"], said["stage"]) == ("Deferred", "auth")
    assert "535 5.7.8 Error: authentication failed" in said["reply"]
    machine.name("127.0.0.2", "smtp.other.example")
    (said,) = relay(machine, RELAY_ONLY.replace("smtp.foo.bar", "smtp.other.example"), "bob@example.org")
    assert (said["kind"], said["stage"]) == ("Deferred", "tls")
    assert "Hostname mismatch" in said["reply"]
    assert smarthost.messages() == []


def test_recipients_that_a_smarthost_refuses_fail_alone(machine: Machine) -> None:
    mx = make_postfix(machine, "mx", "127.0.0.3", "smtp.foo.bar", REFUSES)
    machine.write("/etc/mx/bad", "bad@example.org 550 5.1.1 nobody here\nlater@example.org 450 4.2.1 not now\n")
    machine.run(["postmap", "/etc/mx/bad"])
    mx.start()
    plain = 'action "relay" relay host "smtp://smtp.foo.bar"\nmatch for any action "relay"\n'
    said = relay(machine, plain, "good@example.org", "bad@example.org", "later@example.org")
    assert [(each["kind"], each["stage"]) for each in said] == [
        ("Delivered", "dot"),
        ("Failed", "rcpt"),
        ("Deferred", "rcpt"),
    ]
    mx.wait_messages(1)


def test_a_domain_is_served_by_the_mx_that_the_dns_names(machine: Machine) -> None:
    mx = make_postfix(machine, "mx", "127.0.0.3", "mx.remote.example")
    mx.start()
    machine.start(
        [
            *["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces"],
            *["--mx-host=remote.example,mx.remote.example,10", "--host-record=mx.remote.example,127.0.0.3"],
            *["--local=/remote.example/", "--local=/nowhere.example/"],
        ],
        "/var/log/dnsmasq.log",
    )
    machine.wait_port("127.0.0.1", 53)
    (said,) = relay(machine, BY_MX, "bob@remote.example")
    assert said["kind"] == "Delivered"
    assert said["remote"] == "mx.remote.example [127.0.0.3]"
    mx.wait_messages(1)
    (said,) = relay(machine, BY_MX, "bob@nowhere.example")
    assert (said["kind"], said["stage"]) == ("Failed", "route")
    assert said["reply"].startswith("550 5.1.2 ")
