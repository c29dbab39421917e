"""Keys and ways to seal bodies, for tests."""

from __future__ import annotations

from spool.seal import Compression, Sealing, SealKey
from spool.writer import SpoolWriter

FIRST = SealKey(bytes(range(32)))
SECOND = SealKey(bytes(range(1, 33)))

#: Every way in which a body can lie on disk.
WAYS = [Sealing(compression, key) for key in (None, FIRST) for compression in Compression]
SEALED_WAYS = WAYS[1:]


def called(way: Sealing) -> str:
    """What a test calls this way."""
    words = (way.compression.value, "encrypted" if way.key else "")
    return "-".join(word for word in words if word) or "open"


async def seal_with(spool: SpoolWriter, way: Sealing) -> int:
    """From here on, bodies are sealed this way; how many had waited for their keys."""
    spool.seal_with(way)
    return await spool.unlock()
