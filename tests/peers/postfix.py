"""Debian's Postfix as the other side: a smarthost that demands TLS and a password, or somebody's MX.

It listens on a loopback address of the machine, takes mail for every domain and files all of it into one Maildir.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers.machine import Machine, wait_for

_MASTER = """
{port}      inet  n - n - - smtpd
smtps       inet  n - n - - smtpd -o smtpd_tls_wrappermode=yes
submission  inet  n - n - - smtpd -o smtpd_tls_security_level=encrypt
pickup      unix  n - n 60 1 pickup
cleanup     unix  n - n - 0 cleanup
qmgr        unix  n - n 300 1 qmgr
rewrite     unix  - - n - - trivial-rewrite
bounce      unix  - - n - 0 bounce
defer       unix  - - n - 0 bounce
trace       unix  - - n - 0 bounce
error       unix  - - n - - error
retry       unix  - - n - - error
virtual     unix  - n n - - virtual
tlsmgr      unix  - - n 1000? 1 tlsmgr
anvil       unix  - - n - 1 anvil
scache      unix  - - n - 1 scache
proxymap    unix  - - n - - proxymap
postlog     unix-dgram n - n - 1 postlogd
"""

_MAIN = """
compatibility_level = 3.6
myhostname = {name}
mydestination =
queue_directory = /var/spool/{instance}
data_directory = /var/lib/{instance}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = /var/log/{instance}.log
inet_interfaces = {address}
inet_protocols = ipv4
mynetworks = 127.255.255.255/32
virtual_mailbox_domains = static:everything
virtual_mailbox_maps = static:all/
virtual_mailbox_base = /var/{instance}-mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
message_size_limit = 52428800
virtual_mailbox_limit = 0
biff = no
smtputf8_enable = yes
"""

_AUTHENTICATED = """
smtpd_tls_security_level = may
smtpd_tls_chain_files = /etc/{instance}/key.pem, /etc/{instance}/cert.pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = /run/{instance}-auth
smtpd_relay_restrictions =
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
"""

_DOVECOT_AUTH = """
base_dir = /run/{instance}-dovecot
state_dir = /run/{instance}-dovecot
log_path = /var/log/{instance}-dovecot.log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
passdb {{
  driver = passwd-file
  args = scheme=PLAIN /etc/{instance}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener /run/{instance}-auth {{
    mode = 0666
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """One Postfix of a machine."""

    machine: Machine
    instance: str
    address: str
    name: str

    @property
    def config(self) -> str:
        """Its folder of configuration."""
        return f"/etc/{self.instance}"

    def start(self) -> None:
        """Start it, and wait for its port."""
        self.machine.run(["postfix", "-c", self.config, "start"])
        self.machine.wait_port(self.address, 25)

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        self.machine.run(["postfix", "-c", self.config, "stop"])

    def messages(self) -> list[bytes]:
        """What it has received, in the order of arrival, as its Maildir keeps it."""
        new = self.machine.path(f"/var/{self.instance}-mail/all/new")
        if not new.exists():
            return []
        return [path.read_bytes() for path in sorted(new.iterdir(), key=lambda path: path.stat().st_mtime_ns)]

    def wait_messages(self, count: int, patience: float = 60) -> list[bytes]:
        """Wait until it has ``count`` messages."""
        wait_for(lambda: len(self.messages()) >= count, f"{count} messages at {self.name}", patience)
        return self.messages()

    def log(self) -> str:
        """Its log so far."""
        return self.machine.path(f"/var/log/{self.instance}.log").read_text()

    def set_password(self, user: str, password: str) -> None:
        """The one account that it knows."""
        self.machine.write(f"{self.config}/users", f"{user}:{password}\n")


def make_postfix(machine: Machine, instance: str, address: str, name: str, extra: str = "") -> Postfix:
    """Configure a Postfix that takes mail from anybody for any domain: somebody's MX. Not yet started."""
    postfix = Postfix(machine, instance, address, name)
    values = {"instance": instance, "address": address, "name": name, "port": "smtp"}
    machine.write(f"{postfix.config}/main.cf", _MAIN.format(**values) + extra)
    machine.write(f"{postfix.config}/master.cf", _MASTER.format(**values))
    machine.run(["mkdir", "-p", f"/var/spool/{instance}", f"/var/lib/{instance}", f"/var/{instance}-mail"])
    machine.run(["chown", "postfix", f"/var/lib/{instance}"])
    machine.run(["chown", "65534:65534", f"/var/{instance}-mail"])
    machine.name(address, name)
    return postfix


def make_smarthost(machine: Machine, authority: Authority, address: str, name: str) -> Postfix:
    """Configure a Postfix that relays for authenticated users only, inside TLS. Not yet started."""
    instance = "smarthost"
    postfix = make_postfix(machine, instance, address, name, _AUTHENTICATED.format(instance=instance))
    certificate, key = authority.issue(name)
    machine.write(f"{postfix.config}/cert.pem", certificate)
    machine.write(f"{postfix.config}/key.pem", key, 0o600)
    postfix.set_password("user", "password")
    machine.write(f"{postfix.config}/dovecot.conf", _DOVECOT_AUTH.format(instance=instance))
    machine.run(["dovecot", "-c", f"{postfix.config}/dovecot.conf"])
    wait_for(machine.path(f"/run/{instance}-auth").exists, "dovecot's authentication socket")
    return postfix


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that a machine trusts."""

    folder: Path

    @classmethod
    def make(cls, machine: Machine, folder: Path) -> Authority:
        """Make one, and add it to the machine's trusted certificates."""
        folder.mkdir(parents=True, exist_ok=True)
        _openssl(folder, "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=Test-CA")
        with machine.path("/etc/ssl/certs/ca-certificates.crt").open("a") as trusted:
            trusted.write((folder / "ca.pem").read_text())
        return cls(folder)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """A certificate for ``name`` and its key, in PEM."""
        folder = self.folder
        _openssl(folder, f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}")
        (folder / "extensions").write_text(f"subjectAltName=DNS:{name}\n")
        signing = "-CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -days 2"
        _openssl(folder, f"x509 -req -in {name}.csr -out {name}.pem {signing}")
        return (folder / f"{name}.pem").read_bytes(), (folder / f"{name}.key").read_bytes()


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
