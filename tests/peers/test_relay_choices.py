"""Which host a relay chooses, with Debian's Postfix as each of them: by a table of domains, and as a backup MX."""

from __future__ import annotations

import pytest

from tests.peers.machine import Machine, wait_for
from tests.peers.postfix import make_postfix
from tests.peers.spooler import Spooler
from tests.peers.test_mx import start_dns

pytestmark = pytest.mark.timeout(240)

BY_DOMAIN = """
table smarthosts "/etc/smtpd/smarthosts"
action "relay" relay domain <smarthosts>
match for any action "relay"
"""
BACKUP = """
action "relay" relay backup mx "backup.remote.example"
match for any action "relay"
"""


def start(machine: Machine, conf: str) -> Spooler:
    machine.write("/etc/smtpd/smtpd.conf", conf)
    spooler = Spooler(machine)
    spooler.start()
    return spooler


def send(machine: Machine, recipient: str, text: str) -> None:
    machine.run(["/usr/sbin/sendmail", "-i", recipient], stdin=f"Subject: m\n\n{text}\n")


def test_a_table_names_the_smarthost_of_each_domain_and_a_line_added_later_counts(machine: Machine) -> None:
    one = make_postfix(machine, "one", "127.0.0.5", "one.example")
    other = make_postfix(machine, "other", "127.0.0.6", "other.example")
    one.start()
    other.start()
    machine.write("/etc/smtpd/smarthosts", "example.org  one.example\n")
    spooler = start(machine, BY_DOMAIN)
    send(machine, "ann@example.org", "for one")
    assert b"for one" in one.wait_messages(1)[0]
    send(machine, "bob@example.net", "for the other")
    wait_for(
        lambda: "Cannot retrieve smarthost for example.net" in spooler.smtpctl("show", "queue").stdout,
        "the reason in the queue",
    )
    machine.write("/etc/smtpd/smarthosts", "example.org  one.example\nexample.net  smtp://other.example:25\n")
    spooler.smtpctl("schedule", "all")
    assert b"for the other" in other.wait_messages(1)[0]
    spooler.wait_queue(0)
    assert len(one.messages()) == 1


def test_a_backup_gives_mail_to_better_hosts_only_and_keeps_it_while_they_are_down(machine: Machine) -> None:
    best = make_postfix(machine, "best", "127.0.0.5", "best.remote.example")
    worse = make_postfix(machine, "worse", "127.0.0.6", "worse.remote.example")
    worse.start()
    start_dns(
        machine,
        "mx-host=remote.example,best.remote.example,10",
        "mx-host=remote.example,backup.remote.example,20",
        "mx-host=remote.example,worse.remote.example,30",
        "host-record=best.remote.example,127.0.0.5",
        "host-record=backup.remote.example,192.0.2.200",
        "host-record=worse.remote.example,127.0.0.6",
    )
    spooler = start(machine, BACKUP)
    send(machine, "ann@remote.example", "kept for the best")
    wait_for(
        lambda: "127.0.0.5:25: Connection refused" in spooler.smtpctl("show", "queue").stdout, "the reason in the queue"
    )
    best.start()
    spooler.smtpctl("schedule", "all")
    assert b"kept for the best" in best.wait_messages(1)[0]
    spooler.wait_queue(0)
    assert worse.messages() == []


def test_the_best_host_keeps_mail_that_would_come_back_to_it(machine: Machine) -> None:
    worse = make_postfix(machine, "worse", "127.0.0.6", "worse.remote.example")
    worse.start()
    start_dns(
        machine,
        "mx-host=remote.example,backup.remote.example,10",
        "mx-host=remote.example,worse.remote.example,30",
        "host-record=backup.remote.example,192.0.2.200",
        "host-record=worse.remote.example,127.0.0.6",
    )
    spooler = start(machine, BACKUP)
    send(machine, "ann@remote.example", "round and round")
    wait_for(
        lambda: "would loop back to this host" in spooler.smtpctl("show", "queue").stdout, "the reason in the queue"
    )
    assert worse.messages() == []
