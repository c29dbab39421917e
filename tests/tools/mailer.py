"""The real ``sendmail`` of this environment, in a system of its own below a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from spool.layout import Layout, layout
from tests.tools.recording_sink import RecordingSink

COMMAND = Path(sys.executable).with_name("sendmail")


@dataclass(frozen=True, slots=True)
class Left:
    """A message that was left in the drop."""

    name: str
    mail: str
    rcpts: tuple[str, ...]
    body: bytes


class Mailer:
    """``sendmail`` and where it leaves what it cannot deliver. The drop is there, the daemon is not."""

    def __init__(self, root: Path) -> None:
        self.layout: Layout = layout(str(root))
        self.drop = Path(self.layout.drop_dir)
        self.drop.mkdir(parents=True)
        self.drop.chmod(0o1733)
        Path(self.layout.run_dir).mkdir(parents=True)

    def environment(self) -> dict[str, str]:
        """What a command of this system runs with."""
        kept = {name: value for name, value in os.environ.items() if name not in ("NAME", "PYTHONPATH")}
        return {**kept, "SMTPD_ROOT": self.layout.root}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """``sendmail``, which waits for its message."""
        return subprocess.Popen(
            [str(COMMAND), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
        )

    def send(self, arguments: Sequence[str], message: str | bytes = "") -> subprocess.CompletedProcess[str]:
        """Run ``sendmail`` to its end."""
        process = self.start(*arguments)
        output, errors = process.communicate(message.encode() if isinstance(message, str) else message, 60)
        return subprocess.CompletedProcess(process.args, process.returncode, output.decode(), errors.decode())

    def left(self) -> list[Left]:
        """Everything in the drop, which must be whole."""
        return [_read(path) for path in sorted(self.drop.iterdir())]

    @contextmanager
    def daemon(self) -> Iterator[RecordingSink]:
        """Something that listens where the daemon would, and records."""
        with start_blocking_portal() as portal:
            sink = RecordingSink(path=self.layout.submission_socket)
            with portal.wrap_async_context_manager(sink):
                yield sink


def _read(path: Path) -> Left:
    content, _, last = path.read_bytes().rpartition(b"end ")
    octets, _ = last.split()
    assert int(octets) == len(content), f"{path} is not whole"
    head, body = content.split(b"\n\n", 1)
    first, mail, *rcpts = head.decode().split("\n")
    assert first == "mailspool drop 1"
    return Left(path.name, mail, tuple(rcpts), body)
