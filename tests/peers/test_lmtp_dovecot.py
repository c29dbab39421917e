"""Dovecot's LMTP server takes local mail."""

from __future__ import annotations

from tests.peers.machine import Machine, wait_for
from tests.peers.spooler import Spooler

_DOVECOT = """
base_dir = /run/dovecot-lmtp
state_dir = /run/dovecot-lmtp
log_path = /var/log/dovecot-lmtp.log
protocols = lmtp
ssl = no
mail_location = maildir:/var/dovecot-mail/%n
postmaster_address = postmaster@localhost
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=/var/dovecot-mail/%n
}
service lmtp {
  unix_listener /run/lmtp.sock {
    mode = 0666
  }
}
"""


def test_dovecot_files_what_lmtp_brings(machine: Machine) -> None:
    machine.add_user("roger")
    machine.write("/etc/dovecot-lmtp.conf", _DOVECOT)
    machine.run(["install", "-d", "-o", "65534", "-g", "65534", "/var/dovecot-mail"])
    machine.run(["dovecot", "-c", "/etc/dovecot-lmtp.conf"])
    wait_for(machine.path("/run/lmtp.sock").exists, "dovecot's LMTP socket")
    spooler = Spooler(machine)
    spooler.configure('listen on localhost\naction "in" lmtp "/run/lmtp.sock"\nmatch for local action "in"\n')
    spooler.start()
    machine.run(["/usr/sbin/sendmail", "-i", "roger"], stdin="Subject: l\n\nthrough lmtp\n")
    new = machine.path("/var/dovecot-mail/roger/new")
    wait_for(lambda: new.exists() and any(new.iterdir()), "the message in dovecot's Maildir")
    (message,) = new.iterdir()
    assert "through lmtp" in message.read_text()
