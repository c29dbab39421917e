"""A machine of its own for tests: mount, network, host name and process namespaces around real programs.

Inside, ``/etc``, ``/var``, ``/home``, ``/root`` and ``/usr/sbin`` are overlays and ``/run`` is empty, so that daemons run
with their ordinary paths and ports and nothing of it reaches the real system. From outside, `Machine.path` reads and
writes its files. When the machine is stopped, everything that ran in it ends with it. Needs root.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

VENV = Path(__file__).parents[2] / ".venv" / "bin"
OVERLAID = ("/etc", "/var", "/home", "/root", "/usr/sbin")
#: How long anything in a machine may take before a test gives up, in seconds.
PATIENCE = 30.0


class Machine:
    """A private system; every name of `hosts` is an address of its loopback interface."""

    def __init__(self, folder: Path, hostname: str = "box.example.net") -> None:
        self.folder = folder
        self.hostname = hostname
        self._init: subprocess.Popen[str] | None = None
        self._pid = 0
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        namespaces = ["--mount", "--net", "--uts", "--pid", "--mount-proc", "--propagation", "private"]
        self._init = subprocess.Popen(
            ["unshare", *namespaces, "--fork", "--kill-child", "sh", "-ec", self._boot_script()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == "up\n", "the machine did not start"
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children")
        self._pid = int(children.read_text())
        self.path("/etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.0.1 {self.hostname}\n")
        self.path("/etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._init is not None
        self._init.kill()
        self._init.wait()
        if self._init.stdout is not None:
            self._init.stdout.close()
        for process in self._started:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _boot_script(self) -> str:
        lines = []
        closed = _closed_folders()
        for number, target in enumerate((*OVERLAID, *closed)):
            upper, work = self.folder / f"upper{number}", self.folder / f"work{number}"
            upper.mkdir(parents=True)
            work.mkdir()
            options = f"lowerdir={target},upperdir={upper},workdir={work}"
            lines.append(shlex.join(["mount", "-t", "overlay", "overlay", "-o", options, target]))
        lines += [
            "mount -t tmpfs -o mode=755 tmpfs /run",
            f"hostname {shlex.quote(self.hostname)}",
            "ip link set lo up",
            "ip link add eth0 type veth peer name eth0p",
            "ip addr add 192.0.2.10/24 dev eth0",
            "ip link set eth0 up",
            "ip link set eth0p up",
            "rm -f /etc/mailname /etc/aliases",
            # The interpreter may live in root's home, our commands in a private folder; here every user runs them.
            shlex.join(["chmod", "o+x", "/root", *closed]),
            "echo up",
            # The first process waits for whoever has lost its parent.
            "sleep infinity & wait",
        ]
        return "\n".join(lines)

    def path(self, inside: str) -> Path:
        """The file ``inside`` of the machine, as this process can open it."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def write(self, inside: str, text: str | bytes, mode: int = 0o644) -> None:
        """Put a file into the machine, with the folders above it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)

    def name(self, address: str, *names: str) -> None:
        """Let host names mean a loopback address of this machine."""
        self.run(["ip", "address", "replace", f"{address}/8", "dev", "lo"])
        with self.path("/etc/hosts").open("a") as hosts:
            hosts.write(f"{address} {' '.join(names)}\n")

    def add_user(self, login: str) -> None:
        """A system user with a home of its own."""
        self.run(["/usr/sbin/useradd", "--create-home", "--shell", "/bin/sh", login])

    def enter(self, command: Sequence[str]) -> list[str]:
        """The argument vector that runs ``command`` inside."""
        flags = ["--mount", "--net", "--uts", "--pid"]
        return ["nsenter", f"--target={self._pid}", *flags, "--wd=/", *command]

    def run(
        self, command: Sequence[str], *, stdin: str | bytes = b"", user: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, as root or as another user."""
        if user:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env", *command]
        # Into files, not pipes: a daemon that a command leaves behind would hold a pipe open for ever.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            done = subprocess.run(
                self.enter(command),
                input=stdin.encode() if isinstance(stdin, str) else stdin,
                stdout=output,
                stderr=errors,
                timeout=2 * PATIENCE,
                check=False,
            )
            texts = [_text(file) for file in (output, errors)]
        result = subprocess.CompletedProcess(command, done.returncode, *texts)
        if check and result.returncode != 0:
            raise AssertionError(
                f"{shlex.join(command)} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
            )
        return result

    def start(
        self, command: Sequence[str], log: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a daemon; its output goes to the file ``log`` of the machine."""
        with self.path(log).open("a") as output:
            process = subprocess.Popen(
                self.enter(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                text=True,
            )
        self._started.append(process)
        return process

    def wait_port(self, address: str, port: int) -> None:
        """Wait until something listens."""
        wait_for(lambda: self._listens(address, port), f"a listener on {address}:{port}")

    def _listens(self, address: str, port: int) -> bool:
        probe = f"import socket; socket.create_connection(({address!r}, {port}), 1).close()"
        return self.run([str(VENV / "python"), "-I", "-S", "-c", probe], check=False).returncode == 0


def _closed_folders() -> list[str]:
    """Folders on the way to our commands that other users may not enter."""
    repository = VENV.parents[1]
    above = [*reversed(repository.parents), repository]
    return [str(folder) for folder in above if not folder.stat().st_mode & 0o001 and str(folder) not in OVERLAID]


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Poll until ``condition`` holds; fail with ``what`` was awaited."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what}")
        time.sleep(0.05)
