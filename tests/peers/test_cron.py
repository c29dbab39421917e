"""Debian's cron hands its mail to our sendmail under the seed's configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.machine import Machine
from tests.peers.postfix import make_postfix
from tests.peers.spooler import Spooler

#: cron wakes at the full minute.
A_MINUTE = 75
pytestmark = pytest.mark.timeout(240)


def run_cron(machine: Machine, user: str, output: str, mailto: str = "") -> None:
    """Start Debian's cron with one entry that prints ``output`` every minute."""
    machine.write("/etc/crontab", "")
    machine.run(["rm", "-rf", "/etc/cron.d"])
    lines = ([f"MAILTO={mailto}"] if mailto else []) + [f"* * * * * echo {output}", ""]
    machine.run(["crontab", "-u", user, "-"], stdin="\n".join(lines))
    machine.start(["cron", "-f"], "/var/log/cron.log")


def test_what_a_crontab_entry_prints_arrives_in_the_local_mailbox(machine: Machine) -> None:
    machine.add_user("roger")
    spooler = Spooler(machine)
    spooler.seed("local-only.conf", {"aliases": "postmaster: root\n"})
    spooler.start()
    run_cron(machine, "roger", "the-backup-worked")
    mailbox = spooler.wait_mailbox("roger", "the-backup-worked", A_MINUTE)
    assert "Subject: Cron <roger@box> echo the-backup-worked" in mailbox
    assert machine.path("/var/mail/roger").stat().st_uid == machine.path("/home/roger").stat().st_uid


def test_cron_mail_for_elsewhere_reaches_the_smarthost_with_the_rewritten_sender(
    machine: Machine, tmp_path: Path
) -> None:
    machine.add_user("roger")
    smarthost = make_postfix(machine, "isp", "127.0.0.2", "smtp.foo.bar")
    smarthost.start()
    spooler = Spooler(machine)
    spooler.seed("hybrid.conf", {"aliases": "postmaster: root\n"})
    spooler.start()
    run_cron(machine, "roger", "the-backup-worked", mailto="admin@remote.example")
    (message,) = smarthost.wait_messages(1, A_MINUTE)
    # Debian's cron hands the mail over as root.
    assert b"Return-Path: <root@foo.bar>" in message
    assert b"the-backup-worked" in message
    assert spooler.wait_queue(0) == []
