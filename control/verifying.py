"""``smtpctl verify``: the spool looked through, and damage set aside, with the daemon or without it.

Guarantees: beside a daemon it rests as long as it works. A repair deletes nothing, and says each thing it did.

Failure: `SpoolError` when the spool cannot be read, or is somebody else's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing
from typing import Final

import anyio
import anyio.to_thread

from control.protocol import FindingRow, VerifiedRow
from control.sealing import keys_at_hand
from spool.door import SpoolDoor
from spool.inspection import Finding, Seen
from spool.layout import Layout
from spool.listing import QueueReader
from spool.writer import SpoolWriter

#: Seconds of work between two rests, in which whoever asked hears how far it is.
SLICE: Final = 0.2
#: Findings that are kept before they are told.
AT_A_TIME: Final = 100


async def verify(reader: QueueReader, door: SpoolDoor | None) -> AsyncGenerator[FindingRow | VerifiedRow]:
    """Findings as they are made, repaired through ``door`` if there is one, and how much was looked at so far."""
    with reader.inspection() as inspection:
        findings = inspection.findings()
        is_done = False
        while not is_done:
            began = time.monotonic()
            some, is_done = await anyio.to_thread.run_sync(_some, findings)
            for finding in some:
                yield _row(finding, door is not None and await door.repair(finding))
            yield _so_far(inspection.seen)
            if not is_done:
                await anyio.sleep(time.monotonic() - began)


async def verify_stopped(layout: Layout, *, repairs: bool) -> AsyncGenerator[FindingRow | VerifiedRow]:
    """The same for a spool that no daemon has open."""
    if not repairs:
        with closing(QueueReader.stopped(layout.spool_dir)) as reader:
            reader.open_with(keys_at_hand(layout))
            async with aclosing(verify(reader, None)) as rows:
                async for row in rows:
                    yield row
        return
    writer = await SpoolWriter.open(layout)
    writer.seal_with(keys_at_hand(layout))
    try:
        with closing(QueueReader.beside(layout.spool_dir, writer.clock, writer.bodies)) as reader:
            async with aclosing(verify(reader, writer)) as rows:
                async for row in rows:
                    yield row
    finally:
        await writer.aclose()


def _some(findings: Iterator[Finding | None]) -> tuple[list[Finding], bool]:
    """The next findings, and whether these were the last."""
    some: list[Finding] = []
    deadline = time.monotonic() + SLICE
    for finding in findings:
        if finding is not None:
            some.append(finding)
        if len(some) >= AT_A_TIME or time.monotonic() >= deadline:
            return some, False
    return some, True


def _row(finding: Finding, repaired: bool) -> FindingRow:
    return FindingRow(finding.subject, finding.trouble, finding.remedy.value, repaired)


def _so_far(seen: Seen) -> VerifiedRow:
    return VerifiedRow(seen.messages, seen.envelopes, seen.lanes, seen.octets, seen.set_aside, seen.orphans)
