"""The mail servers that are measured side by side, each started afresh for one run, in a private machine.

They listen at the same address in turn, know the same users, and have their spools in folders of the same disk. Defaults
hold, but for those that would cut the load generators off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.peers.machine import VENV, Machine, wait_for
from tests.peers.test_differential import OPENSMTPD

FETCH = Path(__file__).parents[1] / "tests/peers/fetch_opensmtpd.sh"
ADDRESS = "127.0.0.1"
PORT = 2525
DOMAIN = "bench.example"
#: System users of the machine, with homes in its folder.
USERS = tuple(f"bench{number}" for number in range(50))
#: How long a server may take for anything, in seconds.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a server does with its mail: ``hold``, ``relay`` (to the port ``sink``), ``maildir`` or ``mbox``."""

    kind: str
    sink: int = 0


@dataclass(slots=True)
class Place:
    """A machine with its users, and a folder for one run after the other."""

    machine: Machine
    folder: Path
    #: Where mailboxes are: ``homes/USER/Maildir`` or ``mail/USER``.
    homes: Path = field(init=False)
    mail: Path = field(init=False)

    def __post_init__(self) -> None:
        self.homes, self.mail = self.folder / "homes", self.folder / "mail"
        self.folder.mkdir(mode=0o755)
        self.homes.mkdir()
        with self.machine.path("/etc/passwd").open("a") as users, self.machine.path("/etc/group").open("a") as groups:
            for number, name in enumerate(USERS, 33000):
                users.write(f"{name}:x:{number}:{number}::{self.homes}/{name}:/bin/sh\n")
                groups.write(f"{name}:x:{number}:\n")
            for number, name in enumerate(("opensmtpd", "opensmtpq"), 32001):
                users.write(f"{name}:x:{number}:{number}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n")
                groups.write(f"{name}:x:{number}:\n")
        self.clear()

    def clear(self) -> None:
        """Nothing of the run before is left."""
        for folder in (self.homes, self.mail, self.folder / "spool"):
            shutil.rmtree(folder, ignore_errors=True)
        self.homes.mkdir()
        # As Debian has it: the group may make mailboxes and locks.
        self.mail.mkdir()
        os.chown(self.mail, 0, 8)
        self.mail.chmod(0o2775)
        for number, name in enumerate(USERS, 33000):
            home = self.homes / name
            home.mkdir(mode=0o700)
            os.chown(home, number, number)
        (self.folder / "spool").mkdir()

    @property
    def spool(self) -> Path:
        """For the server's own use."""
        return self.folder / "spool"


class House(ABC):
    """A mail server."""

    name: ClassVar[str]
    #: Whether a message is on disk before its 250.
    syncs: ClassVar[bool]
    #: The part of a row's messages that it is given, where it would take minutes for all; by the key of the row.
    parts: ClassVar[Mapping[str, float]] = {}

    #: Its log, in the machine.
    log: ClassVar[str]

    def __init__(self, place: Place) -> None:
        self._place = place

    @classmethod
    def prepare(cls) -> None:
        """Once before everything, in the real system: get what it needs."""
        return

    @abstractmethod
    def start(self, task: Task) -> None:
        """Start it in an empty spool, or in the one that `stop` left; returns when it greets."""

    @abstractmethod
    def stop(self) -> None:
        """End it."""

    @abstractmethod
    def retry(self) -> None:
        """Have it try now what it has deferred."""

    @property
    @abstractmethod
    def list_command(self) -> list[str]:
        """What lists its queue."""

    @abstractmethod
    def deferred(self) -> int:
        """How many messages wait for a later attempt."""


class Mailspool(House):
    """Ours, as root: a process for each role."""

    name = "Mailspool"
    log = "/run/mailspool.log"
    syncs = True
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        #: Everything of it.
        self.root = place.spool

    def start(self, task: Task) -> None:
        """See `House`."""
        root = self.root
        folder = root / "etc/smtpd"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mailname").write_text(f"{DOMAIN}\n")
        (folder / "smtpd.conf").write_text(self._configuration(task))
        (root / "var").mkdir(exist_ok=True)
        if not (root / "var/mail").exists():
            (root / "var/mail").symlink_to(self._place.mail)
        pauses = ["-P", "mda"] if task.kind == "hold" else []
        command = [str(VENV / "smtpd"), "-d", "--root", str(root), *self.options, *pauses]
        self._daemon = self._place.machine.start(command, self.log)
        self._place.machine.wait_port(ADDRESS, PORT)

    def stop(self) -> None:
        """See `House`."""
        self._place.machine.run(["pkill", "-TERM", "-o", "-f", f"{VENV}/smtpd -d --root"], check=False)
        self._daemon.wait(60)

    def retry(self) -> None:
        """See `House`."""
        self.smtpctl("schedule", "all")

    @property
    def list_command(self) -> list[str]:
        """See `House`."""
        return [str(VENV / "mailq"), "--root", str(self.root)]

    def deferred(self) -> int:
        """See `House`."""
        return int(self.smtpctl("show", "queue", "--count").split()[0])

    def smtpctl(self, *words: str) -> str:
        """What it prints."""
        return self._place.machine.run([str(VENV / "smtpctl"), "--root", str(self.root), *words]).stdout

    def _configuration(self, task: Task) -> str:
        action = {
            "relay": f'relay host "smtp://{ADDRESS}:{task.sink}"',
            "mbox": "mbox",
        }.get(task.kind, "maildir")
        lines = [
            "smtp limit max-mails 10000000",
            "smtp max-message-size 50M",
            f'listen on "{ADDRESS}" port {PORT}',
            f'action "go" {action}',
            f'match from any for {"any" if task.kind == "relay" else f"domain {DOMAIN}"} action "go"',
        ]
        return "\n".join(lines) + "\n"


class MailspoolInOne(Mailspool):
    """Ours, all roles in one process."""

    name = "Mailspool, one process"
    options = ("--one-process",)


class MailspoolSeveral(Mailspool):
    """Ours, with two processes that serve clients and two that deliver."""

    name = "Mailspool, two of each"
    extra = "smtp processes 2\nmta processes 2\n"


class Postfix(House):
    """Debian's Postfix."""

    name = "Postfix"
    log = "/var/log/postfix-bench.log"
    syncs = True
    parts: ClassVar[Mapping[str, float]] = {"drain": 0.5, "list": 0.2}
    _MASTER = """
{port}    inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
flush     unix n - n 1000? 0 flush
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
local     unix - n n - - local
tlsmgr    unix - - n 1000? 1 tlsmgr
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
postlog   unix-dgram n - n - 1 postlogd
"""
    _CONFIG = "/etc/postfix-bench"

    def start(self, task: Task) -> None:
        """See `House`."""
        machine, spool = self._place.machine, self._place.spool
        main = {
            "compatibility_level": "3.6",
            "myhostname": f"mx.{DOMAIN}",
            "mydestination": DOMAIN,
            "queue_directory": f"{spool}/queue",
            "data_directory": f"{spool}/data",
            "command_directory": "/usr/sbin",
            "daemon_directory": "/usr/lib/postfix/sbin",
            "maillog_file": self.log,
            "inet_interfaces": ADDRESS,
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "message_size_limit": "52428800",
            "mailbox_size_limit": "0",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "biff": "no",
        }
        match task.kind:
            case "hold":
                main["smtpd_client_restrictions"] = "static:HOLD"
            case "relay":
                main["relayhost"] = f"[{ADDRESS}]:{task.sink}"
            case "maildir":
                main["home_mailbox"] = "Maildir/"
            case "mbox":
                main["mail_spool_directory"] = str(self._place.mail)
        machine.write(f"{self._CONFIG}/main.cf", "".join(f"{name} = {value}\n" for name, value in main.items()))
        machine.write(f"{self._CONFIG}/master.cf", self._MASTER.format(port=PORT))
        for folder in ("queue", "data"):
            (spool / folder).mkdir(exist_ok=True)
        machine.run(["chown", "postfix", f"{spool}/data"])
        self._postfix("start")
        machine.wait_port(ADDRESS, PORT)

    def stop(self) -> None:
        """See `House`."""
        self._postfix("stop")

    def retry(self) -> None:
        """See `House`."""
        self._place.machine.run(["postqueue", "-c", self._CONFIG, "-f"])

    @property
    def list_command(self) -> list[str]:
        """See `House`."""
        return ["postqueue", "-c", self._CONFIG, "-p"]

    def deferred(self) -> int:
        """See `House`."""
        return sum(len(files) for _, _, files in os.walk(self._place.spool / "queue/deferred"))

    def _postfix(self, word: str) -> None:
        self._place.machine.run(["postfix", "-c", self._CONFIG, word])


class OpenSmtpd(House):
    """Debian's OpenSMTPD 6.8, unpacked; fetched where it is missing."""

    name = "OpenSMTPD"
    log = "/run/opensmtpd.log"
    syncs = False
    # It serves strangers who come one by one, and next hops, at some 15 messages a second; one alone takes it a second.
    parts: ClassVar[Mapping[str, float]] = {
        **dict.fromkeys(("relay", "single", "peak", "alone"), 0.02),
        **dict.fromkeys(("accept100", "maildir", "maildir50", "mbox", "mbox50"), 0.1),
        "accept": 0.4,
        "accept100k": 0.4,
    }

    @classmethod
    def prepare(cls) -> None:
        """See `House`."""
        subprocess.run([FETCH], check=True)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        machine = place.machine
        machine.run(["install", "-d", "-m", "711", "/var/lib/opensmtpd/empty", "/var/spool/smtpd"])
        # Its programs for mailboxes are looked for at a fixed place.
        libexec = f"lowerdir={OPENSMTPD}/usr/libexec:/usr/libexec"
        if machine.run(["mountpoint", "-q", "/usr/libexec"], check=False).returncode:
            machine.run(["mount", "-t", "overlay", "overlay", "-o", libexec, "/usr/libexec"])
        libraries = ":".join(map(str, OPENSMTPD.glob("usr/lib/*-linux-gnu")))
        self._environment = ["env", f"LD_LIBRARY_PATH={libraries}"]

    def start(self, task: Task) -> None:
        """See `House`."""
        machine, spool = self._place.machine, self._place.spool
        if not (spool / "smtpd").exists():
            (spool / "smtpd").mkdir(mode=0o711)
        machine.run(["mount", "--bind", str(spool / "smtpd"), "/var/spool/smtpd"])
        if task.kind == "mbox":
            machine.run(["mount", "--bind", str(self._place.mail), "/var/mail"])
        action = {"relay": f'relay host "smtp://{ADDRESS}:{task.sink}"', "mbox": "mbox"}.get(task.kind, "maildir")
        lines = [
            "smtp limit max-mails 10000000",
            "smtp max-message-size 50M",
            f"listen on {ADDRESS} port {PORT} hostname mx.{DOMAIN}",
            f'action "go" {action}',
            f'match from any for {"any" if task.kind == "relay" else f"domain {DOMAIN}"} action "go"',
        ]
        machine.write("/etc/mail/smtpd.conf", "\n".join(lines) + "\n")
        pauses = ["-P", "mda", "-P", "mta"] if task.kind == "hold" else []
        program = str(OPENSMTPD / "usr/sbin/smtpd")
        command = [*self._environment, program, "-d", *pauses, "-f", "/etc/mail/smtpd.conf"]
        self._daemon = machine.start(command, self.log)
        machine.wait_port(ADDRESS, PORT)

    def stop(self) -> None:
        """See `House`."""
        machine = self._place.machine
        machine.run(["pkill", "-TERM", "-o", "-x", "smtpd"])
        self._daemon.wait(30)
        wait_for(
            lambda: machine.run(["pgrep", "-x", "smtpd"], check=False).returncode == 1, "all of it to end", PATIENCE
        )
        machine.path("/run/smtpd.sock").unlink(missing_ok=True)
        machine.run(["umount", "/var/spool/smtpd"])
        machine.run(["umount", "/var/mail"], check=False)

    def retry(self) -> None:
        """See `House`."""
        self._smtpctl("schedule", "all")

    @property
    def list_command(self) -> list[str]:
        """See `House`."""
        return [*self._environment, str(OPENSMTPD / "usr/sbin/smtpctl"), "show", "queue"]

    def deferred(self) -> int:
        """See `House`."""
        return len(self._place.machine.run(self.list_command).stdout.splitlines())

    def _smtpctl(self, *words: str) -> None:
        self._place.machine.run([*self._environment, str(OPENSMTPD / "usr/sbin/smtpctl"), *words])


HOUSES: dict[str, type[House]] = {
    "mailspool": Mailspool,
    "one": MailspoolInOne,
    "several": MailspoolSeveral,
    "postfix": Postfix,
    "opensmtpd": OpenSmtpd,
}
