"""A drop and its reader over a real spool, with policy as simple as a test needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingress.drop import DropReader
from ingress.dropdoor import DropFolder, make_drop
from ingress.dropfile import DropFile, first_lines
from ingress.transaction import House
from policy.config import Config
from spool.layout import Layout
from spool.writer import SpoolWriter
from tests.tools.smtp_server import HOST, SimplePolicy

HEADER = b"From: ann@example.org\r\nSubject: x\r\nDate: today\r\nMessage-ID: <x@y>\r\n"
MESSAGE = HEADER + b"\r\nhello\r\n"


@dataclass
class Drop:
    """A drop directory in ``place``; a test may change `config` and `policy`."""

    place: Layout
    spool: SpoolWriter
    config: Config
    policy: SimplePolicy

    @classmethod
    def make(cls, place: Layout, spool: SpoolWriter) -> Drop:
        make_drop(place)
        return cls(place, spool, Config("smtpd.conf", HOST, (), {}, ()), SimplePolicy())

    @property
    def path(self) -> Path:
        return Path(self.place.drop_dir)

    def reader(self) -> DropReader:
        return DropReader(DropFolder.of(self.place), House(lambda: self.config, self.policy.admit, self.spool))

    def leave(
        self, message: bytes = MESSAGE, mail: str = "MAIL FROM:<ann@example.org>", rcpts: Sequence[str] = ("<bob>",)
    ) -> Path:
        """Put a message there as ``sendmail`` does."""
        path = self.begin(message, mail, rcpts)
        path.file.finish()
        return path.path

    def begin(
        self, message: bytes = MESSAGE, mail: str = "MAIL FROM:<ann@example.org>", rcpts: Sequence[str] = ("<bob>",)
    ) -> Begun:
        """Put all of it there but its last line."""
        before = set(self.path.iterdir())
        start = first_lines(mail.encode(), [f"RCPT TO:{rcpt}".encode() for rcpt in rcpts])
        file = DropFile(str(self.path), start)
        file.write(message)
        (path,) = set(self.path.iterdir()) - before
        return Begun(file, path)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())

    def damaged(self) -> list[str]:
        damaged = Path(self.place.drop_damaged_dir)
        return sorted(path.name for path in damaged.iterdir()) if damaged.exists() else []


@dataclass
class Begun:
    """A file that is not whole yet."""

    file: DropFile
    path: Path
