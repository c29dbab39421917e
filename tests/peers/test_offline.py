"""sendmail works while the daemon does not."""

from __future__ import annotations

from tests.peers.machine import Machine
from tests.peers.spooler import Spooler


def test_mail_sent_while_the_daemon_is_stopped_is_delivered_when_it_starts(machine: Machine) -> None:
    machine.add_user("roger")
    spooler = Spooler(machine)
    spooler.seed("local-only.conf", {"aliases": "postmaster: root\n"})
    spooler.start()
    assert spooler.stop() == 0
    done = machine.run(["/usr/sbin/sendmail", "-i", "roger"], stdin="Subject: later\n\nkept meanwhile\n", user="roger")
    assert done.returncode == 0
    assert spooler.mailbox("roger") == ""
    spooler.start()
    spooler.wait_mailbox("roger", "kept meanwhile")
