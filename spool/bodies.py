"""Bodies of messages: small ones travel with their row, large ones lie in a file of their own.

Guarantees: whoever reads a body to its end without an exception has read what was accepted, octet for octet.

Failure: `spool.errors.BodyDamaged` when a body is short, missing or altered; it comes at the latest with the last octet,
so a delivery must not make the end of the message visible before the iteration has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


class Body(Protocol):
    """A body as delivery sees it, in wire form: lines end in CRLF, no dot-stuffing."""

    @property
    def size(self) -> int:
        """Octets."""

    def chunks(self) -> Iterator[bytes]:
        """The octets from the beginning, a piece at a time; raises `BodyDamaged`. May be called again."""

    def read(self) -> bytes:
        """The whole of it, for bodies known to be small; raises `BodyDamaged`."""


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A large body that is in its file, written but not yet promised to be durable: the commit sees to that."""

    name: str
    size: int
    checksum: bytes
