"""Somebody without root runs the daemon for themselves, in the folders that XDG gives them."""

from __future__ import annotations

import signal

from tests.peers.machine import VENV, Machine, wait_for

CONFIGURATION = """\
listen on 127.0.0.1 port 2525
action "inbox" maildir "~/Maildir" virtual { "@" = "ann" }
match from any for any action "inbox"
"""


def test_a_user_runs_a_daemon_and_reads_the_mail_it_delivered(machine: Machine) -> None:
    machine.add_user("ann")
    configuration = "/home/ann/.config/smtpd/smtpd.conf"
    machine.write(configuration, CONFIGURATION)
    machine.run(["chown", "-R", "ann:ann", "/home/ann/.config"])
    started = machine.run([str(VENV / "smtpd")], user="ann")
    assert started.stderr.count("\n") <= 1, started.stderr
    machine.wait_port("127.0.0.1", 2525)
    machine.run([str(VENV / "sendmail"), "-i", "anybody@example.org"], stdin="Subject: x\n\nfor ann\n", user="ann")
    inbox = machine.path("/home/ann/Maildir/new")
    wait_for(lambda: inbox.is_dir() and list(inbox.iterdir()), "mail in the Maildir")
    (message,) = inbox.iterdir()
    assert "for ann\n" in message.read_text()
    assert message.stat().st_uid == int(machine.run(["id", "-u", "ann"]).stdout)
    assert machine.run([str(VENV / "mailq")], user="ann").stdout == "Mail queue is empty\n"
    pid = machine.path("/home/ann/.local/state/smtpd/lock").read_text().strip()
    machine.run(["kill", f"-{signal.SIGTERM}", pid], user="ann")
    wait_for(lambda: not machine.path("/home/ann/.local/state/smtpd.sock").exists(), "the daemon to end")
