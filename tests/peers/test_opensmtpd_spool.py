"""A spool that Debian's OpenSMTPD 6.8 has filled, taken over by ``smtpd --import-opensmtpd``.

Its envelopes have version 3, as those of 7.8 have.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.peers.machine import VENV, Machine, wait_for
from tests.peers.test_differential import OPENSMTPD, opensmtpd

__all__ = ["opensmtpd"]

pytestmark = pytest.mark.reliability("9 moving house")

KEY = "0123456789abcdefghijklmnopqrstuv"
#: Both daemons understand it.
CONFIGURATION = """\
listen on lo port 2525
action "out" relay host "smtp://127.0.0.1:9"
action "local" maildir "/proc/nothing"
match for local action "local"
match from any for any action "out"
"""
SEND = """\
import smtplib
with smtplib.SMTP("127.0.0.1", 2525) as client:
    client.ehlo("client.example.org")
    client.mail("ann@example.org", ["RET=HDRS", "ENVID=QQ"])
    client.rcpt("bob@example.com", ["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;bob@example.com"])
    client.rcpt("root@localhost")
    client.data("Subject: from the old house\\n\\nbody\\n")
"""


@pytest.mark.parametrize("packing", ["", "queue compression\n", f"queue compression\nqueue encryption {KEY}\n"])
def test_mail_that_a_real_one_has_queued_is_taken_over(machine: Machine, opensmtpd: Path, packing: str) -> None:
    fill(machine, opensmtpd, packing + CONFIGURATION)
    machine.write("/etc/smtpd/smtpd.conf", packing.replace(KEY, f'"{KEY}"') + CONFIGURATION)
    smtpd = str(VENV / "smtpd")
    listed = machine.run([smtpd, "-n", "--import-opensmtpd", "/var/spool/old"])
    assert listed.stdout.endswith("1 message, 2 envelopes would be imported\n")
    done = machine.run([smtpd, "--import-opensmtpd", "/var/spool/old"])
    assert (done.stdout, done.stderr) == ("1 message, 2 envelopes imported\n", "")
    shown = machine.run([str(VENV / "smtpctl"), "show", "queue", "--json"]).stdout
    rows = sorted((json.loads(line) for line in shown.splitlines()), key=lambda row: str(row["action"]))
    assert [(row["action"], row["sender"], row["recipient"]) for row in rows] == [
        ("local", "ann@example.org", "root@localhost"),
        ("out", "ann@example.org", "bob@example.com"),
    ]
    text = machine.run([str(VENV / "smtpctl"), "show", "message", rows[0]["message"]]).stdout
    assert "Subject: from the old house" in text
    assert text.replace("\r\n", "\n").endswith("\n\nbody\n")


def fill(machine: Machine, program: Path, configuration: str) -> None:
    """Have it accept a message, stop it, and put its spool aside."""
    for number, name in enumerate(("opensmtpd", "opensmtpq"), 7001):
        with machine.path("/etc/passwd").open("a") as users, machine.path("/etc/group").open("a") as groups:
            users.write(f"{name}:x:{number}:{number}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n")
            groups.write(f"{name}:x:{number}:\n")
    machine.write("/etc/mail/smtpd.conf", configuration)
    machine.run(["sh", "-c", "rm -rf /var/spool/smtpd; install -d -m 711 /var/lib/opensmtpd/empty /var/spool/smtpd"])
    libraries = ":".join(map(str, OPENSMTPD.glob("usr/lib/*-linux-gnu")))
    words = ["env", f"LD_LIBRARY_PATH={libraries}", str(program), "-d", "-P", "mda", "-P", "mta"]
    process = machine.start([*words, "-f", "/etc/mail/smtpd.conf"], "/run/opensmtpd.log")
    machine.wait_port("127.0.0.1", 2525)
    machine.run([str(VENV / "python"), "-I", "-c", SEND])
    queue = machine.path("/var/spool/smtpd/queue")
    wait_for(lambda: len(list(queue.glob("*/*/*"))) == 3, "a message and two envelopes")
    # In the machine's own process namespace, where nothing else has this name.
    machine.run(["pkill", "-TERM", "-o", "-x", "smtpd"])
    process.wait(10)
    wait_for(lambda: machine.run(["pgrep", "-x", "smtpd"], check=False).returncode == 1, "all of it to end")
    machine.path("/run/smtpd.sock").unlink(missing_ok=True)
    machine.run(["mv", "/var/spool/smtpd", "/var/spool/old"])
