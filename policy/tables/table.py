"""Tables: the lists and mappings that rules, aliases and credentials are kept in.

A lookup answers found, not found (None), or raises `policy.errors.TableUnavailable`, which is always temporary.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

from policy.tables.expressions import Expressions

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Shape(enum.Enum):
    """What the entries of a table are."""

    #: Keys only.
    LIST = "a list"
    #: Keys with values.
    MAPPING = "a mapping"
    #: There is no entry yet, so it may be used as either.
    EITHER = "empty"

    def serves(self, wanted: Shape) -> bool:
        """Whether a table of this shape can be used where ``wanted`` is."""
        return self is wanted or Shape.EITHER in (self, wanted)


@dataclass(frozen=True, slots=True)
class Patterns:
    """The keys that stand for more than themselves."""

    #: Keys with a ``*``.
    wildcards: tuple[str, ...]
    #: Keys that are IP addresses or networks.
    networks: tuple[Network, ...]


class Content:
    """The entries of a table at one moment; never changed. Keys are lower-case; a list maps each key to itself as written.

    ``texts`` are the keys of a list as they are written, those that differ in case alone too.
    """

    def __init__(self, entries: Mapping[str, str], shape: Shape, texts: Sequence[str] = ()) -> None:
        self.entries = entries
        self.shape = shape
        self.texts = texts

    @cached_property
    def patterns(self) -> Patterns:
        """Found at the first use: most tables are never asked for patterns."""
        networks = (network_of(key) for key in self.entries if "/" in key or ":" in key or key[:1].isdigit())
        return Patterns(
            tuple(key for key in self.entries if "*" in key), tuple(network for network in networks if network)
        )

    @cached_property
    def expressions(self) -> Expressions:
        """Compiled at the first use."""
        return Expressions.of(self.texts)


class Table(Protocol):
    """What every kind of table can do. Keys are compared without regard to case."""

    @property
    def name(self) -> str:
        """The name by which the configuration calls it."""

    @property
    def written(self) -> str:
        """What stands behind ``table NAME`` in smtpd.conf: ``"file:/path"``, or the elements in braces."""

    @property
    def shape(self) -> Shape:
        """What its entries are."""

    def lookup(self, key: str) -> str | None:
        """The value of ``key`` (of a list: the key as it is written), None when it is not there."""

    def keys(self) -> Iterable[str]:
        """All keys, in the order they are written."""

    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""

    def expressions(self) -> Expressions:
        """The keys of a list as regular expressions. Raises `policy.tables.expressions.ExpressionError`."""


def network_of(text: str) -> Network | None:
    """The network that ``10.0.0.0/8``, ``[::1]``, ``IPv6:fd00::/8`` or an address alone means; None for other text."""
    inside = text.replace("[", "").replace("]", "")
    if inside[:5].lower() == "ipv6:":
        inside = inside[5:]
    try:
        return ipaddress.ip_network(inside, strict=False)
    except ValueError:
        return None
