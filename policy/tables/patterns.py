"""The keys of a table that stand for more than themselves: domains with stars, networks, regular expressions.

Guarantees: each kind is found at its first use, since most tables are never asked for any; a content never changes, so
what was found holds for as long as the content does.

Failure: `policy.tables.expressions.ExpressionError` from `Patterns.expressions` alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TypeAlias

from policy.tables.expressions import Expressions

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _nothing() -> tuple[str, ...]:
    return ()


class Patterns:
    """What ``keys`` (lower-case) and ``texts`` (as written) stand for. Both are asked at the first need of them."""

    def __init__(
        self, keys: Callable[[], Iterable[str]] = _nothing, texts: Callable[[], Iterable[str]] = _nothing
    ) -> None:
        self._keys = keys
        self._texts = texts

    @cached_property
    def wildcards(self) -> tuple[str, ...]:
        """Keys with a ``*``."""
        return tuple(key for key in self._keys() if "*" in key)

    @cached_property
    def networks(self) -> Networks:
        """Keys that are networks, and IPv6 addresses, which have many spellings."""
        candidates = (network_of(key) for key in self._keys() if "/" in key or ":" in key)
        return Networks(network for network in candidates if network)

    @cached_property
    def expressions(self) -> Expressions:
        """The keys of a list as regular expressions."""
        return Expressions.of(self._texts())


class Networks:
    """A set of networks; the question takes as long as they have lengths of prefix, however many they are."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            self._by_length.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def __contains__(self, address: IpAddress) -> bool:
        number = int(address)
        return any(
            version == address.version and number >> shift in prefixes
            for (version, shift), prefixes in self._by_length.items()
        )


def network_of(text: str) -> Network | None:
    """The network that ``10.0.0.0/8``, ``[::1]``, ``IPv6:fd00::/8`` or an address alone means; None for other text."""
    inside = text.replace("[", "").replace("]", "")
    if inside[:5].lower() == "ipv6:":
        inside = inside[5:]
    try:
        return ipaddress.ip_network(inside, strict=False)
    except ValueError:
        return None
