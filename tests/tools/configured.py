"""Configurations in a folder of their own, on a machine whose name, interfaces and users are the test's choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from policy.config import Config
from policy.errors import ConfigError
from policy.parser import Loaded, load_config
from policy.tables.passwd import Found, User
from spool.layout import Layout, layout


@dataclass(frozen=True, slots=True)
class FakeHost:
    """A machine called ``mail.example.org`` with a loopback and one network interface."""

    hostname: str = "mail.example.org"
    canonical: Mapping[str, str] = field(default_factory=dict)
    dns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"localhost": ("127.0.0.1",)})
    network: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"lo": ("127.0.0.1", "::1"), "eth0": ("192.0.2.25", "2001:db8::25", "fe80::25%2")}
    )

    def name(self) -> str:
        return self.hostname

    def canonical_name(self, name: str) -> str:
        return self.canonical.get(name, "")

    def addresses(self, name: str) -> tuple[str, ...]:
        return self.dns.get(name, ())

    def interfaces(self) -> Mapping[str, tuple[str, ...]]:
        return self.network


class FakeUsers:
    """Exactly these users."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def known(self, name: str) -> Found:
        return Found(User(name, 1000, 1000, f"/home/{name}") if name in self._names else None)

    async def fetch(self, name: str) -> Found:
        return self.known(name)


class Configured:
    """A root folder with a configuration folder in it; ``load`` reads a text as its smtpd.conf."""

    def __init__(self, root: Path, host: FakeHost | None = None) -> None:
        self.layout: Layout = layout(str(root))
        self.folder = Path(self.layout.conf_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host = host or FakeHost()

    def write(self, name: str, text: str, mode: int = 0o640) -> Path:
        """A file beside the configuration."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def read(self, text: str, macros: Mapping[str, str] | None = None) -> Loaded:
        """What the configuration ``text`` is understood as."""
        path = self.write("smtpd.conf", text)
        return load_config(str(path), self.layout, macros or {}, self.host)

    def load(self, text: str) -> Config:
        """The configuration alone."""
        return self.read(text).config

    def errors(self, text: str) -> list[str]:
        """The messages of a wrong configuration, with line and column but without the path."""
        try:
            self.read(text)
        except ConfigError as error:
            return [f"{found.line}:{found.column}: {found.message}" for found in error.findings]
        return []

    def warnings(self, text: str) -> list[str]:
        """The messages of the warnings, with the line."""
        return [f"{found.line}: {found.message}" for found in self.read(text).warnings]
