"""Local delivery beside and through the real programs of a Debian machine: procmail and Dovecot."""

from __future__ import annotations

import contextlib
import json
import mailbox
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.peers.machine import VENV, Machine, wait_for

ONCE = Path(__file__).with_name("deliver_once.py")
BODY = b"Subject: NUMBER\r\n\r\nFrom here\r\n" + b"our line NUMBER\r\n" * 40 + b"end\r\n"
ACTIONS = """
action "through" mda "procmail -f -"
action "box" mbox
action "lmtp" lmtp "/run/lmtp/socket"
match for any action "box"
"""
DOVECOT = """
base_dir = /run/lmtp/base
state_dir = /run/lmtp/state
log_path = /var/log/lmtp.log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
auth_username_format = %Ln
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = passwd
}
service lmtp {
  unix_listener /run/lmtp/socket {
    mode = 0666
  }
}
protocol lmtp {
  postmaster_address = postmaster@box.example.net
}
"""


@pytest.fixture
def house(machine: Machine) -> Machine:
    machine.add_user("ann")
    machine.write("/etc/smtpd/smtpd.conf", ACTIONS)
    return machine


def deliver(machine: Machine, action: str, count: int = 1, user: str = "ann") -> list[dict[str, str]]:
    python = ["env", f"PYTHONPATH={ONCE.parents[2]}", str(VENV / "python"), str(ONCE)]
    done = machine.run([*python, "/etc/smtpd/smtpd.conf", action, user, str(count)], stdin=BODY)
    return [json.loads(line) for line in done.stdout.splitlines()]


def inbox(machine: Machine) -> list[str]:
    with contextlib.closing(mailbox.mbox(machine.path("/var/mail/ann"), create=False)) as reader:
        return [str(message.get_payload()) for message in reader]


def test_procmail_delivers_as_the_user(house: Machine) -> None:
    (said,) = deliver(house, "through")
    assert said["kind"] == "Delivered"
    text = house.path("/var/mail/ann").read_text()
    assert text.startswith("From ann  ")
    assert "\nReturn-Path: <sender@example.com>\nDelivered-To: ann@box.example.net\nSubject: 0\n" in text
    assert house.path("/var/mail/ann").stat().st_uid == house.path("/home/ann").stat().st_uid


def test_what_a_users_rules_refuse_comes_back_with_procmails_status(house: Machine) -> None:
    house.write("/home/ann/.procmailrc", "EXITCODE=67\n:0\n/dev/null\n")
    house.run(["chown", "ann:", "/home/ann/.procmailrc"])
    (said,) = deliver(house, "through")
    assert said["kind"] == "Failed"
    assert said["reply"].startswith("550 5.1.1 user unknown")


def test_no_message_is_torn_or_doubled_while_procmail_writes_into_the_same_mailbox(house: Machine) -> None:
    # Procmail sleeps for 8 seconds when it finds a lock; here it looks again at once.
    script = (
        'for i in $(seq 40); do { printf "Subject: other\\n\\n"; for n in $(seq 40); do echo "other line $i"; done;'
        " echo end; } | procmail -f other@example.com LOCKSLEEP=0 /dev/null; done"
    )
    house.run(["touch", "/var/mail/ann"])
    house.run(["chown", "ann:mail", "/var/mail/ann"])
    become = ["setpriv", "--reuid=ann", "--regid=ann", "--init-groups", "env", "HOME=/home/ann", "LOGNAME=ann"]
    procmail = subprocess.Popen(house.enter([*become, "sh", "-c", script]), stdin=subprocess.DEVNULL)
    # Nothing is recorded: each run has what the runs before it delivered in flight again, and finds it there.
    said = [one for _ in range(4) for one in deliver(house, "box", 10)]
    assert procmail.wait(60) == 0
    assert Counter(one["kind"] for one in said) == {"Delivered": 10 + 20 + 30 + 40}
    payloads = inbox(house)
    assert len(payloads) == 80
    whole = re.compile(r"(?:>From here\n(our line \d+\n)\1{39}|(other line \d+\n)\2{39})end\n\n?")
    assert [payload for payload in payloads if not whole.fullmatch(payload)] == []


@pytest.fixture
def dovecot(house: Machine) -> Machine:
    house.write("/etc/lmtp.conf", DOVECOT)
    house.run(["mkdir", "-p", "/run/lmtp"])
    house.run(["dovecot", "-c", "/etc/lmtp.conf"])
    wait_for(house.path("/run/lmtp/socket").exists, "dovecot's LMTP socket")
    return house


def test_dovecot_takes_mail_over_lmtp(dovecot: Machine) -> None:
    said = deliver(dovecot, "lmtp", 3)
    assert [one["kind"] for one in said] == ["Delivered"] * 3
    assert all(one["route"] == "lmtp:/run/lmtp/socket" for one in said)
    messages = [path.read_text() for path in dovecot.path("/home/ann/Maildir/new").iterdir()]
    assert sorted(re.findall(r"^Subject: (\d)$", "\n".join(messages), re.MULTILINE)) == ["0", "1", "2"]
    assert all("\nDelivered-To: ann@box.example.net\n" in message for message in messages)


def test_dovecots_refusal_of_a_user_is_final(dovecot: Machine) -> None:
    (said,) = deliver(dovecot, "lmtp", user="nobody-here")
    assert said["kind"] == "Failed"
    assert said["reply"].startswith("550 5.1.1 ")
