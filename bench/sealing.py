"""Print what compression and encryption at rest cost: ``python -m bench.sealing``.

For each way: processor time of a 4 KiB message in the spool, accepted (acceptance and its share of a commit) and claimed,
read and recorded; octets on disk; and the throughput of a body of 50 MB with the memory that it takes.
"""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

import anyio

from spool.bodies import CHUNK
from spool.ids import MessageId, new_message_id
from spool.layout import layout
from spool.seal import Compression, Sealing, SealKey
from spool.writer import SpoolWriter
from tests.tools.spooled import DONE, Letter, settlement, submission, take

RUNS: Final = 5
MESSAGES: Final = 2000
AT_ONCE: Final = 50
SIZE: Final = 4096
LARGE: Final = 50_000_000
KEY: Final = SealKey(bytes(range(32)))
WAYS: Final = {
    "open": Sealing(),
    "zstd": Sealing(Compression.ZSTD),
    "gzip": Sealing(Compression.GZIP),
    "encrypted": Sealing(key=KEY),
    "zstd, encrypted": Sealing(Compression.ZSTD, KEY),
    "gzip, encrypted": Sealing(Compression.GZIP, KEY),
}


def text(octets: int, seed: int) -> bytes:
    """Words of a vocabulary of thousands, as people write them: zstd makes a third to a half of it."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlucmfw", k=rng.randint(2, 9))) for _ in range(4000)]
    common = range(len(words), 0, -1)
    lines = (" ".join(rng.choices(words, weights=common, k=12)) for _ in range(octets // 40))
    return "\r\n".join(lines).encode()[:octets]


async def per_message(way: Sealing, content: bytes) -> tuple[float, float, int]:
    """Milliseconds of processor time to accept and to deliver one, and its octets on disk."""
    with tempfile.TemporaryDirectory() as folder:
        spool = await SpoolWriter.open(layout(folder))
        spool.seal_with(way)
        started = time.process_time()
        for _ in range(MESSAGES // AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE):
                    tasks.start_soon(spool.accept, submission(spool.clock.now(), Letter(body=content)))
        accepted = time.process_time()
        while claimed := await take(spool, AT_ONCE):
            for one in claimed:
                one.body.read()
            await spool.record([settlement(spool, one, DONE) for one in claimed])
        delivered = time.process_time()
        await spool.aclose()
    sealer = way.begin("x")
    on_disk = len(sealer.update(content)) + len(sealer.finish())
    return (accepted - started) * 1000 / MESSAGES, (delivered - accepted) * 1000 / MESSAGES, on_disk


async def large(way: Sealing, content: bytes) -> tuple[float, float]:
    """MB/s to write and to read a large body, on the processor's clock: disks differ."""
    with tempfile.TemporaryDirectory() as folder:
        spool = await SpoolWriter.open(layout(folder))
        spool.seal_with(way)
        started = time.process_time()
        await put_large(spool, content)
        written = time.process_time()
        (claimed,) = await take(spool)
        for _ in claimed.body.chunks():
            pass
        read = time.process_time()
        await spool.aclose()
    return len(content) / 1e6 / (written - started), len(content) / 1e6 / (read - written)


async def put_large(spool: SpoolWriter, content: bytes) -> MessageId:
    """Write it in the pieces in which ingress does."""
    name = new_message_id(0)
    body = await spool.new_body(name)
    for start in range(0, len(content), CHUNK):
        body.write(content[start : start + CHUNK])
    await spool.accept(submission(spool.clock.now(), Letter(body=body.finish()), name))
    return name


async def peak_kib(way: Sealing, content: bytes) -> int:
    """Memory of Python's that writing and reading a large body takes at most, beyond the content itself."""
    gc.collect()
    tracemalloc.start()
    await large(way, content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak // 1024


def median(runs: list[tuple[float, ...]], column: int) -> float:
    """Of one column of several runs."""
    return statistics.median(run[column] for run in runs)


def main() -> None:
    """The command."""
    small, big = text(SIZE, 1), text(1 << 20, 2) * (LARGE >> 20)
    run: Callable[..., tuple[float, ...]] = anyio.run
    print(
        f"{'':<16} {'accept ms':>10} {'deliver ms':>10} {'octets':>7} {'write MB/s':>11} {'read MB/s':>10} {'KiB':>6}"
    )
    for name, way in WAYS.items():
        mails = [run(per_message, way, small) for _ in range(RUNS)]
        bodies = [run(large, way, big) for _ in range(RUNS)]
        peak = anyio.run(peak_kib, way, big)
        shown = f"{median(mails, 0):10.3f} {median(mails, 1):10.3f} {median(mails, 2):7.0f}"
        print(f"{name:<16} {shown} {median(bodies, 0):11.0f} {median(bodies, 1):10.0f} {peak:6}", flush=True)


if __name__ == "__main__":
    main()
