"""The keys of a table that stand for more than themselves: domains with stars, networks, regular expressions.

Guarantees: each kind is found at its first use, since most tables are never asked for any; a content never changes, so
what was found holds for as long as the content does.

Failure: `policy.tables.expressions.ExpressionError` from `Patterns.expressions` alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
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
    def wildcards(self) -> Wildcards:
        """Keys with a ``*``."""
        return Wildcards(key for key in self._keys() if "*" in key)

    @cached_property
    def networks(self) -> Networks:
        """Keys that are networks, and IPv6 addresses, which have many spellings."""
        candidates = (network_of(key) for key in self._keys() if "/" in key or ":" in key)
        return Networks(network for network in candidates if network)

    @cached_property
    def expressions(self) -> Expressions:
        """The keys of a list as regular expressions."""
        return Expressions.of(self._texts())


class Wildcards:
    """Patterns with stars. Those of the form ``*.domain``, which nearly all are, are found without looking at each."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.all = tuple(patterns)
        self._suffixes = frozenset(each[1:] for each in self.all if each.startswith("*.") and "*" not in each[1:])
        self._others = tuple(each for each in self.all if each[1:] not in self._suffixes)

    def match(self, text: str) -> bool:
        """Whether one of them is ``text``, which is lower-case, with its stars."""
        if self._suffixes and any(text[dot:] in self._suffixes for dot in _dots(text)):
            return True
        return any(glob_matches(each, text) for each in self._others)


def _dots(text: str) -> Iterator[int]:
    dot = text.find(".")
    while dot >= 0:
        yield dot
        dot = text.find(".", dot + 1)


def glob_matches(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern``, where each ``*`` stands for any text; in time linear in both for each ``*``."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


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
