"""``smtpctl backup``: a copy of the spool, beside a daemon or of a stopped one.

Guarantees: whoever asks hears every `EVERY` seconds that it goes on; when he goes away, the copy is given up and taken away.

Failure: `spool.backup.BackupError`; `SpoolError` when the spool cannot be read, or is somebody else's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from typing import Final

import anyio
import anyio.to_thread

from control.protocol import BackupRow, FindingRow
from control.sealing import keys_at_hand
from spool.backup import Backup, BackupStopped, Copied
from spool.layout import Layout
from spool.listing import QueueReader

_log: Final = logging.getLogger(__name__)

#: Seconds between two signs of life.
EVERY: Final = 5.0


async def back_up(reader: QueueReader, path: str) -> AsyncGenerator[BackupRow | FindingRow]:
    """Make the copy; signs of life, damage that the spool has, and last what the copy holds."""
    began = time.monotonic()
    with reader.backup() as backup:
        work = asyncio.ensure_future(anyio.to_thread.run_sync(backup.make, path))
        try:
            while not (await asyncio.wait([work], timeout=EVERY))[0]:
                yield BackupRow(path, 0, 0, 0, 0, time.monotonic() - began, is_made=False)
        finally:
            if not work.done():
                await _give_up(work, backup)
        copied = work.result()
    for finding in copied.findings:
        yield FindingRow(finding.subject, finding.trouble, "none", False)
    seconds = time.monotonic() - began
    yield BackupRow(path, copied.messages, copied.envelopes, copied.octets, copied.drops, seconds)


async def back_up_stopped(layout: Layout, path: str) -> AsyncGenerator[BackupRow | FindingRow]:
    """The same for a spool that no daemon has open."""
    with closing(QueueReader.stopped(layout.spool_dir)) as reader:
        reader.open_with(keys_at_hand(layout))
        async with aclosing(back_up(reader, path)) as rows:
            async for row in rows:
                yield row


async def back_up_beside(layout: Layout, path: str) -> AsyncGenerator[BackupRow | FindingRow]:
    """The same for a spool that a daemon has open, in another process than that."""
    with closing(QueueReader(layout.spool_dir)) as reader:
        reader.open_with(keys_at_hand(layout))
        async with aclosing(back_up(reader, path)) as rows:
            async for row in rows:
                yield row


async def _give_up(work: asyncio.Future[Copied], backup: Backup) -> None:
    backup.stop()
    with anyio.CancelScope(shield=True):
        await asyncio.wait([work])
    if (error := work.exception()) is not None and not isinstance(error, BackupStopped):
        _log.warning("a backup that nobody waited for failed", extra={"reason": str(error)})
