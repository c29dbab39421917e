"""A daemon in a folder of its own for one measurement, and what it costs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.tools.certificates import Issued

BIN = Path(sys.executable).parent
#: How long a measurement may take before it counts as hanging, in seconds.
PATIENCE = 120.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class System:
    """``smtpd -d --root FOLDER`` with one configuration, from start to stop."""

    def __init__(self, configuration: str, paused: str = "", secured: Issued | None = None) -> None:
        """With a certificate, its listener has TLS from the start."""
        self.root = Path(tempfile.mkdtemp(prefix="mailspool-bench-"))
        # The users of a daemon that root starts have to reach their own folders in it.
        self.root.chmod(0o755)
        self.port = free_port()
        self._paused = paused
        self._is_secure = secured is not None
        folder = self.root / "etc/smtpd"
        folder.mkdir(parents=True)
        (folder / "mailname").write_text("bench.example\n")
        # The default of 100 messages a session would cut the load generator off.
        common = f'smtp limit max-mails 1000000\nlisten on "127.0.0.1" port {self.port}'
        if secured is not None:
            pki = f'pki "{secured.name}"'
            for word, path in (("cert", secured.cert), ("key", secured.key)):
                shutil.copy(path, folder / word)
                common = f'{pki} {word} "/etc/smtpd/{word}"\n{common}'
            common += f" smtps {pki}"
        (folder / "smtpd.conf").write_text(f"{common}\n{configuration}")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it greets."""
        log = (self.root / "log").open("wb")
        self._process = subprocess.Popen([BIN / "smtpd", "-d", "--root", self.root], stdout=log, stderr=log)
        log.close()
        self._wait_for_greeting()
        if self._paused:
            self.smtpctl("pause", self._paused)

    def kill(self) -> None:
        """End it as a power failure would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def remove(self) -> None:
        """Remove its folder, and end it if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.root)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        if error is not None:
            sys.stderr.write((self.root / "log").read_text()[-2000:])
        shutil.rmtree(self.root)

    def _wait_for_greeting(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                    if self._is_secure or client.recv(3) == b"220":
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"smtpd did not start:\n{(self.root / 'log').read_text()}")

    def smtpctl(self, *words: str) -> str:
        """What ``smtpctl`` prints."""
        command = [str(BIN / "smtpctl"), "--root", str(self.root), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def wait_empty(self) -> None:
        """Return when nothing is queued any more."""
        deadline = time.monotonic() + PATIENCE
        while "Mail queue is empty" not in self._mailq():
            if time.monotonic() > deadline:
                raise RuntimeError("the queue does not drain")
            time.sleep(0.02)

    def _mailq(self) -> str:
        command = [str(BIN / "mailq"), "--root", str(self.root)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def cpu_seconds(self) -> float:
        """User and system time of the daemon and the children it has waited for."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self, peak: bool = False) -> float:
        """Resident memory of the daemon, now or at its peak, in MiB."""
        assert self._process is not None
        wanted = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(wanted):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the kernel does not tell")

    def tree_kib(self) -> int:
        """Resident memory of the daemon and all its children together, without what they share, in KiB."""
        total = 0
        for pid in self._tree():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
        return total

    def tree_descriptors(self) -> int:
        """How many descriptors the daemon and all its children have open."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self._tree())

    def _tree(self) -> list[int]:
        assert self._process is not None
        found = [self._process.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task").glob("*/children")
            found += [int(child) for path in children for child in path.read_text().split()]
        return found
