"""Where the content of a secret comes from that is not to stand in a file beside the configuration.

`Credential`: a file that systemd puts into the service's own folder (LoadCredential=, LoadCredentialEncrypted=).
`Variable`: the environment, as containers have it. `Program`: what a command prints, such as a password manager.

Guarantees: `read` ends within `PROGRAM_SECONDS` and takes no more than `MAX_OCTETS`; what a program left running is killed
when it has not ended by then. No message holds what was read, nor the command's arguments.

Failure: `TableUnavailable`; `SourceError` from the constructions, for what can never be read.

systemd.exec(5), "Credentials".
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import IO, Final, Protocol

from policy.errors import PolicyError, TableUnavailable

#: Whoever needs a person for longer than this is no password manager of a server.
PROGRAM_SECONDS: Final = 10.0
#: Secrets are lines; this is a thousand times more than anybody has.
MAX_OCTETS: Final = 1 << 20
#: How often a program is asked for changed secrets: revoked ones should not work for long, and it may ask a remote vault.
PROGRAM_LIFETIME: Final = 300.0
#: What of a program's last words is told.
_MAX_WORDS: Final = 200
#: A program that has ended may have left its output to another; so long we wait for more of it.
_DRAIN_SECONDS: Final = 0.1

_CREDENTIAL_NAME: Final = re.compile(r"[^/\0]{1,255}")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\xa0]")


class SourceError(PolicyError):
    """What is written behind the kind of a table cannot mean anything."""


class Source(Protocol):
    """Something that has a text."""

    @property
    def written(self) -> str:
        """As the configuration writes it, with its kind."""

    @property
    def lifetime(self) -> float | None:
        """After so many seconds the text may be another; None when it never is."""

    def read(self) -> bytes:
        """The text now. Raises `TableUnavailable`, whose text does not name the table."""


class Variable:
    """``env:NAME``. What the environment of the daemon says cannot change."""

    lifetime: float | None = None

    def __init__(self, name: str, environment: Mapping[bytes, bytes] = os.environb) -> None:
        if not _VARIABLE_NAME.fullmatch(name):
            raise SourceError(f'"{name}" is no name of a variable: expected env:NAME')
        self.written = f"env:{name}"
        self._name = name
        self._environment = environment

    def read(self) -> bytes:
        """Its value."""
        value = self._environment.get(self._name.encode())
        if value is None:
            raise TableUnavailable(f"{self.written}: the environment has no such variable")
        return value


class Credential:
    """``cred:NAME``: a file in ``$CREDENTIALS_DIRECTORY``, which systemd does not change while the service runs."""

    lifetime: float | None = None

    def __init__(self, name: str, environment: Mapping[str, str] = os.environ) -> None:
        if not _CREDENTIAL_NAME.fullmatch(name) or name in (".", ".."):
            raise SourceError(f'"{name}" is no name of a credential: expected cred:NAME')
        self.written = f"cred:{name}"
        self._name = name
        self._environment = environment

    def read(self) -> bytes:
        """The content of its file."""
        folder = self._environment.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            hint = f"the service needs LoadCredential={self._name}:/path"
            raise TableUnavailable(f"{self.written}: there is no $CREDENTIALS_DIRECTORY ({hint})")
        try:
            with open(
                os.open(os.path.join(folder, self._name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb"
            ) as file:
                data = file.read(MAX_OCTETS + 1)
        except OSError as error:
            raise TableUnavailable(f"{self.written}: {error.strerror}") from error
        if len(data) > MAX_OCTETS:
            raise TableUnavailable(f"{self.written}: longer than {MAX_OCTETS} octets")
        return data


class Program:
    """``exec:COMMAND``: the output of a command, which is split into words as a shell does, and run without one."""

    lifetime: float | None = PROGRAM_LIFETIME

    def __init__(self, command: str, seconds: float = PROGRAM_SECONDS) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise SourceError(f"the command cannot be split into words: {error}") from error
        if not self._words:
            raise SourceError("expected exec:COMMAND, found no command")
        self.written = f"exec:{command}"
        self._seconds = seconds

    def read(self) -> bytes:
        """What it prints when it is run now."""
        try:
            process = subprocess.Popen(  # noqa: S603  (the operator wrote the command)
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise self._failed(getattr(error, "strerror", None) or str(error)) from error
        with process:
            try:
                return self._result(process)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def _result(self, process: subprocess.Popen[bytes]) -> bytes:
        deadline = time.monotonic() + self._seconds
        output, words = self._collect(process, deadline)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        if process.returncode is None:
            raise self._failed(f"not done after {self._seconds:g} seconds")
        if process.returncode:
            raise self._failed(_ending(process.returncode) + _last_words(words))
        return output

    def _collect(self, process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
        assert process.stdout
        assert process.stderr
        taken: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
        with selectors.DefaultSelector() as selector:
            for stream in taken:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map() and time.monotonic() < deadline:
                ready = selector.select(_DRAIN_SECONDS)
                if not ready and process.poll() is not None:
                    break
                for key, _events in ready:
                    self._take(key.fd, taken[key.fileobj], selector)  # type: ignore[index]  # it is what was registered
        return bytes(taken[process.stdout]), bytes(taken[process.stderr])

    def _take(self, descriptor: int, taken: bytearray, selector: selectors.BaseSelector) -> None:
        data = os.read(descriptor, 1 << 16)
        if not data:
            selector.unregister(descriptor)
        taken += data
        if len(taken) > MAX_OCTETS:
            raise self._failed(f"it printed more than {MAX_OCTETS} octets")

    def _failed(self, reason: str) -> TableUnavailable:
        # The arguments may be secret too.
        return TableUnavailable(f"exec:{self._words[0]}: {reason}")


def _ending(returncode: int) -> str:
    return f"exit status {returncode}" if returncode > 0 else f"killed by signal {-returncode}"


def _last_words(octets: bytes) -> str:
    lines = octets.decode(errors="replace").strip().splitlines()
    return f": {_UNPRINTABLE.sub('?', lines[-1])[:_MAX_WORDS]}" if lines else ""
