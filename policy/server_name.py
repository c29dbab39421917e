"""The name by which this server calls itself.

It is the first line of ``mailname`` in the configuration folder; else the host name, and when that has no dot, the full name
that the resolver has for it.

smtpd.conf(5) of OpenSMTPD, "FILES".
"""

from __future__ import annotations

from dataclasses import dataclass

from policy.host import Host
from spool.address import is_domain
from spool.layout import Layout


@dataclass(frozen=True, slots=True)
class ServerName:
    """The name, and in words where it comes from."""

    name: str
    origin: str
    #: Why ``mailname`` does not count although it is there; empty otherwise.
    trouble: str = ""

    @property
    def is_qualified(self) -> bool:
        """Whether other servers will take it for a full host name."""
        return "." in self.name


def mailname_path(layout: Layout) -> str:
    """The file to set the name in."""
    return layout.conf_dir + "/mailname"


def server_name(layout: Layout, host: Host) -> ServerName:
    """The name, by the rule above."""
    path = mailname_path(layout)
    name, trouble = _mailname(path)
    if name:
        return ServerName(name, path)
    name = host.name()
    if "." in name:
        return ServerName(name, "the host name", trouble)
    canonical = host.canonical_name(name)
    if "." in canonical and is_domain(canonical):
        return ServerName(canonical, f'the full name of host "{name}"', trouble)
    return ServerName(name or "localhost", "the host name", trouble)


def _mailname(path: str) -> tuple[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            name = file.readline(1024).strip()
    except FileNotFoundError:
        return "", ""
    except (OSError, UnicodeDecodeError) as error:
        return "", f"{path}: {getattr(error, 'strerror', '') or 'not UTF-8'}"
    if not is_domain(name):
        return "", f'{path}: "{name}" is no host name'
    return name, ""
