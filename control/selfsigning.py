"""``smtpctl tls selfsigned``: a key, and a certificate that it signs itself, where the configuration looks for them.

For a machine that nobody has certified yet, for demonstrations and for tests: who is to trust such a certificate must be
given it.

Guarantees: never writes over a file. A key can be read by its owner alone from its first octet on.

Failure: `ControlError`, and neither of the two files is there that was not there before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from control.client import ControlError
from policy.config import Pki
from policy.errors import ConfigError
from policy.parser import declared_pkis
from policy.pki import make_selfsigned
from spool.layout import Layout

#: Where certificates lie that the configuration does not mention yet, as in smtpd.conf(5)'s examples.
_CERTIFICATES: Final = "/etc/ssl"
_KEYS: Final = "/etc/ssl/private"
#: Host names, one wildcard label in front, or addresses; nothing that could lead a path elsewhere.
_NAME: Final = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?|[A-Fa-f0-9.]*:[A-Fa-f0-9:.]+")


@dataclass(frozen=True, slots=True)
class Made:
    """What there is now."""

    names: tuple[str, ...]
    cert: str
    key: str
    #: Whether the configuration has a pki of that name.
    declared: bool


def selfsign(layout: Layout, names: Sequence[str]) -> Made:
    """Make a certificate for these names; the first is the one that the pki is called by."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ControlError(f'"{name}": expected a host name or an IP address')
    declared = _declared(layout, names[0])
    pki = declared or Pki(
        names[0], layout.inside(f"{_CERTIFICATES}/{names[0]}.crt"), layout.inside(f"{_KEYS}/{names[0]}.key")
    )
    try:
        os.makedirs(os.path.dirname(pki.cert), 0o755, exist_ok=True)
        # The mode counts for the last folder alone.
        os.makedirs(os.path.dirname(pki.key), 0o700, exist_ok=True)
        make_selfsigned(pki, names)
    except FileExistsError as error:
        raise ControlError(
            f"{error.filename} is there already: remove it first if another shall take its place"
        ) from None
    except OSError as error:
        raise ControlError(f"{error.filename}: {error.strerror}") from None
    return Made(tuple(names), pki.cert, pki.key, declared is not None)


def lines(made: Made, *, as_json: bool) -> list[str]:
    """What is said of it."""
    if as_json:
        return [msgspec.json.encode(made).decode()]
    said = [f"{made.cert}: a certificate for {', '.join(made.names)}", f"{made.key}: its key"]
    if not made.declared:
        name = made.names[0]
        said += ["in smtpd.conf they would be:", f'pki "{name}" cert "{made.cert}"', f'pki "{name}" key "{made.key}"']
    return said


def _declared(layout: Layout, name: str) -> Pki | None:
    with suppress(ConfigError):
        return next((pki for pki in declared_pkis(layout.conf_file, layout) if pki.name == name.lower()), None)
    return None
