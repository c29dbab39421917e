"""A real daemon below a folder of its own, from a configuration's text to its exit status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

BIN = Path(sys.executable).parent
#: Seconds until something that was waited for counts as never happening: a machine under load is slow, not broken.
PATIENCE = 30.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return when ``condition`` holds; fail with ``what`` when it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@dataclass
class Daemon:
    """``smtpd --root FOLDER``. As a context manager it runs inside and is stopped at the end.

    ``configuration`` may say ``$port``: a free port of 127.0.0.1, the same one at every start.
    """

    root: Path
    configuration: str
    arguments: tuple[str, ...] = ("-d", "-v")
    tables: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    #: Whether all roles share a process, as they do for an ordinary user.
    one_process: bool = True
    #: A command that becomes the daemon, such as ``strace -D``.
    under: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.folder = self.root / "etc/smtpd"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write("mailname", "box.example.net\n")
        for name, content in self.tables.items():
            self.write(name, content)
        self.configure(self.configuration)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is None:
            return
        if error is not None:
            self.kill()
            sys.stderr.write(self.log)
            return
        assert self.stop() == 0, self.log
        assert "Traceback" not in self.log
        assert "\nerror: " not in self.log

    # -- its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            # An abstract name: the folder's path may be too long for a socket, and nothing is left behind.
            name = f"mailspool-test-{os.getpid()}-{id(self)}"
            manager.bind(f"\0{name}")
            manager.settimeout(0.1)
            self.launch({"NOTIFY_SOCKET": f"@{name}"})
            wait_for(lambda: self._hears_ready(manager), "smtpd to be ready")

    def launch(self, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start it, and wait for nothing."""
        command = [
            *self.under,
            str(BIN / "smtpd"),
            *(("--one-process",) if self.one_process else ()),
            *self.arguments,
            "--root",
            str(self.root),
            "-D",
            f"port={self.port}",
        ]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(environment)
            )
        return self.process

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        return self.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power failure would."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> int:
        """Send it a last signal; its exit status."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        return process.wait(2 * PATIENCE)

    def reload(self) -> None:
        """Have it read its configuration again, and wait for what comes of it."""
        assert self.process is not None
        before = self._reloads()
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self._reloads() > before, "a reload")

    # -- what it reads and says ---------------------------------------------------------------------------------------

    def configure(self, text: str) -> None:
        """Write its configuration."""
        self.write("smtpd.conf", text)

    def write(self, name: str, text: str) -> Path:
        """A file beside its configuration, which others cannot read."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    @property
    def log(self) -> str:
        """What it has said since its folder was made."""
        path = self.root / "log"
        return path.read_text() if path.exists() else ""

    def wait_log(self, text: str) -> None:
        """Wait until it says ``text``."""
        wait_for(lambda: text in self.log, f"{text!r} in the log:\n{self.log}")

    def resident_kib(self) -> int:
        """Its resident memory."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    # -- its commands -------------------------------------------------------------------------------------------------

    def run(self, program: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """One of our commands, with its own environment's ``SMTPD_ROOT``."""
        return subprocess.run(
            [str(BIN / program), *words],
            env={**os.environ, "SMTPD_ROOT": str(self.root)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def smtpctl(self, *words: str) -> str:
        """What ``smtpctl`` prints; it must succeed."""
        done = self.run("smtpctl", *words)
        assert done.returncode == 0, done
        return done.stdout

    def sendmail(self, *words: str, message: str) -> None:
        """Send ``message``; it must be taken."""
        done = self.run("sendmail", *words, stdin=message)
        assert done.returncode == 0, done

    def queue(self) -> list[dict[str, Any]]:
        """Every envelope as JSON shows it."""
        return [json.loads(line) for line in self.smtpctl("show", "queue", "--json").splitlines()]

    def wait_queue(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many envelopes are queued."""
        wait_for(lambda: len(self.queue()) == count, f"{count} envelopes in the queue")
        return self.queue()

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "SMTPD_ROOT")}
        return {**inherited, **self.environment, **(more or {})}

    def _hears_ready(self, manager: socket.socket) -> bool:
        assert self.process is not None
        try:
            return b"READY=1" in manager.recv(4096)
        except TimeoutError:
            status = self.process.poll()
            assert status is None, f"smtpd ended with {status}:\n{self.log}"
            return False

    def _reloads(self) -> int:
        return self.log.count("configuration reloaded") + self.log.count("configuration was not reloaded")
