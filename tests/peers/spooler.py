"""Our own daemon and commands on a test's machine, with the paths they have on a real one."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.peers.machine import VENV, Machine, wait_for

SEED = Path(__file__).parents[1] / "seed"
LOG = "/var/log/smtpd.log"
#: Our commands under the names by which everybody calls them.
COMMANDS = {"/usr/sbin/sendmail": "sendmail", "/usr/sbin/mailq": "mailq", "/usr/sbin/newaliases": "newaliases"}


class Spooler:
    """Mailspool on a `Machine`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._process: subprocess.Popen[str] | None = None
        for place, command in COMMANDS.items():
            machine.run(["ln", "-sf", str(VENV / command), place])

    def configure(self, configuration: str, tables: Mapping[str, str] | None = None) -> None:
        """Write ``/etc/smtpd/smtpd.conf`` and the tables beside it."""
        self.machine.write("/etc/smtpd/smtpd.conf", configuration)
        for name, content in (tables or {}).items():
            mode = 0o600 if name in ("secrets", "creds") else 0o644
            self.machine.write(f"/etc/smtpd/{name}", content, mode)

    def seed(self, name: str, tables: Mapping[str, str] | None = None) -> None:
        """Use one of the seed's configurations, to the letter."""
        self.configure((SEED / name).read_text(), tables)

    def start(self, command: Sequence[str] = (str(VENV / "smtpd"), "-d", "-v")) -> None:
        """Start the daemon in the foreground and wait until it listens."""
        self._process = self.machine.start(command, LOG)
        wait_for(self._answers, f"smtpd to start\n{self.log()}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"smtpd ended with {self._process.returncode}:\n{self.log()}"
        return self.smtpctl("show", "status", check=False).returncode == 0

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power failure would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        name = f"-{number.name.removeprefix('SIG')}"
        self.machine.run(["pkill", name, "-f", f"{VENV}/smtpd -d"])
        return self._process.wait(timeout=40)

    def pid(self) -> str:
        """The daemon's (first) process, by its number inside."""
        return self.machine.run(["pgrep", "-o", "-f", f"{VENV}/smtpd -d"]).stdout.strip()

    def log(self) -> str:
        """What the daemon has said."""
        return self.machine.path(LOG).read_text()

    def smtpctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``smtpctl``."""
        return self.machine.run([str(VENV / "smtpctl"), *words], check=check)

    def queue(self) -> list[dict[str, Any]]:
        """What ``smtpctl show queue --json`` shows."""
        return [json.loads(line) for line in self.smtpctl("show", "queue", "--json").stdout.splitlines()]

    def wait_queue(self, count: int, patience: float = 60) -> list[dict[str, Any]]:
        """Wait until so many envelopes are queued."""
        wait_for(lambda: len(self.queue()) == count, f"{count} queued envelopes", patience)
        return self.queue()

    def mailbox(self, user: str) -> str:
        """A user's mbox, empty when there is none."""
        path = self.machine.path(f"/var/mail/{user}")
        return path.read_text(errors="surrogateescape") if path.exists() else ""

    def wait_mailbox(self, user: str, text: str, patience: float = 30) -> str:
        """Wait until a user's mbox holds ``text``."""
        wait_for(lambda: text in self.mailbox(user), f"{text!r} in the mailbox of {user}", patience)
        return self.mailbox(user)
