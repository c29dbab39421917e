"""What the supervisor gives to each role of a configuration, and nothing more.

Guarantees: the passwords for smarthosts go to delivery alone, those of clients and the keys of certificates to ingress
alone, the keys of the queue to the queue alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from control.separated.accounts import Role
from ingress.openings import Place
from policy.config import Config, Listener, Relay
from policy.pem import PemFiles
from policy.tables.held import portable
from policy.tables.table import Table
from spool.layout import Layout
from spool.seal import Sealing

if TYPE_CHECKING:
    # All of x509, which a daemon without certificates does not need.
    from policy.pki import KeyMaterial


@dataclass(frozen=True, slots=True)
class Counter:
    """A listener, whether a socket for it comes along, and its certificates."""

    listener: Listener
    has_socket: bool
    keys: KeyMaterial | None

    @property
    def place(self) -> Place:
        """What only one listener can have."""
        return self.listener.address, self.listener.port


@dataclass(frozen=True, slots=True)
class ForQueue:
    """For the queue; at first the control socket comes along."""

    config: Config
    places: Layout
    sealing: Sealing
    paused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForIngress:
    """For ingress; the sockets come in the order of the counters that have one."""

    config: Config
    places: Layout
    counters: tuple[Counter, ...]
    #: Whether a wire to the drop comes along, which one process reads.
    reads_drop: bool


@dataclass(frozen=True, slots=True)
class ForDelivery:
    """For delivery."""

    config: Config
    places: Layout
    #: What the files hold that its TLS is made from, by their paths.
    pem: Mapping[str, bytes]


def pem_of(config: Config) -> dict[str, bytes]:
    """The certificates and keys that relaying needs; a file that cannot be read is left out and missed later."""
    relays = [action for action in config.actions.values() if isinstance(action, Relay)]
    pkis = [relay.pki for relay in relays if relay.pki]
    paths = {relay.ca for relay in relays if relay.ca} | {pki.cert for pki in pkis} | {pki.key for pki in pkis}
    found = {}
    for path in paths:
        with suppress(OSError):
            found[path] = PemFiles().read(path)
    return found


def written(role: Role, what: ForQueue | ForIngress | ForDelivery) -> bytes:
    """``what`` for the process of that role."""
    return portable(what, withheld(role, what.config))


def withheld(role: Role, config: Config) -> frozenset[str]:
    """The tables that a role has no business with: those of secrets that are used for nothing else."""
    elsewhere = _names(_tables_in(config.rules))
    secrets = _names(_relay_secrets(config)) - elsewhere
    credentials = _names(listener.credentials for listener in config.listeners) - elsewhere
    match role:
        case Role.QUEUE | Role.HELPER:
            return secrets | credentials
        case Role.INGRESS:
            return secrets - credentials
        case Role.DELIVERY:
            return credentials - secrets


def _relay_secrets(config: Config) -> Iterator[Table | None]:
    for action in config.actions.values():
        if isinstance(action, Relay):
            yield action.auth


def _tables_in(value: object) -> Iterator[Table | None]:
    """Every table that a part of the configuration names."""
    if isinstance(value, tuple | list):
        for one in value:
            yield from _tables_in(one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tables_in(getattr(value, field.name))
    elif hasattr(value, "lookup"):
        yield cast("Table", value)


def _names(tables: Iterator[Table | None]) -> frozenset[str]:
    return frozenset(table.name for table in tables if table is not None)
