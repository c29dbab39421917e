"""Each configuration in ``examples`` is put on a machine as it is, started there, and takes a message for its action."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policy.pki import selfsigned
from tests.peers.machine import VENV, Machine, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
ALIASES = {"aliases": "postmaster: root\n"}


@dataclass(frozen=True)
class Example:
    #: A recipient, and the action that its mail should wait for or be delivered by.
    recipient: str
    action: str
    tables: dict[str, str] = field(default_factory=dict)


CASES = {
    "local-only.conf": Example("root", "local", ALIASES),
    "hybrid.conf": Example("bob@example.net", "relay", ALIASES),
    "smarthost.conf": Example("bob@example.net", "relay", {**ALIASES, "secrets": "isp  user:password\n"}),
    "satellite.conf": Example("root", "relay"),
    "mail-server.conf": Example(
        "ann@example.org",
        "receive",
        {"creds": "ann  $6$salt$x\n", "vdoms": "example.org\n", "vusers": "ann@example.org  root\n"},
    ),
    "dovecot.conf": Example("ann@example.org", "mailboxes"),
    "backup-mx.conf": Example("ann@example.org", "onward", ALIASES),
    "laptop.conf": Example("bob@example.net", "relay", {**ALIASES, "secrets": "me  ann@example.org:password\n"}),
    "office-relay.conf": Example("bob@example.net", "outside"),
    "virtual-domains.conf": Example("someone@example.com", "mailboxes", {"vusers": "@example.com  root\n"}),
    "per-sender-smarthost.conf": Example(
        "bob@example.net", "by-home", {**ALIASES, "secrets": "home  a:b\nwork  c:d\n"}
    ),
}


def test_every_example_has_its_case() -> None:
    assert {path.name for path in EXAMPLES.glob("*.conf")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_an_example_starts_and_takes_mail_for_its_action(machine: Machine, tmp_path: Path, name: str) -> None:
    example = CASES[name]
    machine.write("/etc/smtpd/smtpd.conf", (EXAMPLES / name).read_text())
    for table, content in example.tables.items():
        machine.write(f"/etc/smtpd/{table}", content, 0o600)
    machine.add_user("ann")
    pki = selfsigned(str(tmp_path), "mx.example.org")
    for path in (pki.cert, pki.key):
        machine.write(f"/etc/smtpd/tls/{Path(path).name}", Path(path).read_bytes(), 0o600)
    assert machine.run([str(VENV / "smtpd"), "-n"]).stderr == "configuration OK\n"
    machine.start([str(VENV / "smtpd"), "-d"], "/var/log/smtpd.log")
    smtpctl = str(VENV / "smtpctl")
    wait_for(lambda: machine.run([smtpctl, "show", "status"], check=False).returncode == 0, "smtpd to start")
    for part in ("mda", "mta"):
        machine.run([smtpctl, "pause", part])
    machine.run([str(VENV / "sendmail"), "-i", example.recipient], stdin="Subject: x\n\nx\n")
    (line,) = machine.run([smtpctl, "show", "queue", "--json"]).stdout.splitlines()
    assert json.loads(line)["action"] == example.action
