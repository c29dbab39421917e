"""Tables: the lists and mappings that rules, aliases and credentials are kept in.

A lookup answers found, not found (None), or raises `policy.errors.TableUnavailable`, which is always temporary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Table(Protocol):
    """What every kind of table can do. Keys are compared without regard to case."""

    @property
    def name(self) -> str:
        """The name by which the configuration calls it."""

    def lookup(self, key: str) -> str | None:
        """The value of ``key`` (of a list: the key itself), None when it is not there."""

    def keys(self) -> Iterable[str]:
        """All keys, in the order they are written."""
