"""``smtpctl import`` as the daemon does it: an archive is read twice, first to see that it is whole.

Guarantees: nothing is taken from an archive that is wrong anywhere. Each message is one transaction; one that was taken
before, or is queued, is skipped and named. An envelope waits in the lane that the present configuration has for it.

Failure: `spool.archive.ArchiveError` with the place; `SpoolError` when the spool cannot take more. What was taken stays, and
the same archive goes on from there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Iterator
from typing import BinaryIO, Final

import anyio.to_thread

from control.protocol import ImportedRow, LeftRow
from policy.config import Config
from scheduler.planner import lane_by
from spool.archive import Archive, ArchiveError, Found, MovedEnvelope
from spool.bodies import SMALL_BODY, StoredBody
from spool.door import SpoolDoor
from spool.errors import SpoolError, SpoolLost
from spool.ids import MessageId
from spool.lane import Lane
from spool.moving import AlreadyHere, Arrival, destination_of

#: Messages after which whoever waits hears of it.
TELL: Final = 1_000


class CannotTake(SpoolError):
    """Not all of an archive; what was taken stays."""


class House:
    """Where mail moves in."""

    def __init__(self, spool: SpoolDoor, config: Config) -> None:
        self._spool = spool
        self._config = config
        self._unknown: set[str] = set()

    async def take(self, path: str) -> AsyncGenerator[LeftRow | ImportedRow]:
        """All the mail of an archive."""
        file = await anyio.to_thread.run_sync(_open, path)
        try:
            archive = await anyio.to_thread.run_sync(Archive, file)
            await anyio.to_thread.run_sync(archive.check)
            async for row in self._take(archive):
                yield row
        except ArchiveError as error:
            raise ArchiveError(f"{path}: {error}") from None
        finally:
            file.close()

    async def _take(self, archive: Archive) -> AsyncGenerator[LeftRow | ImportedRow]:
        messages = envelopes = octets = skipped = 0
        found = archive.messages()
        while (one := await anyio.to_thread.run_sync(_next, found)) is not None:
            try:
                envelopes += await self._one(archive, one)
            except AlreadyHere as error:
                skipped += 1
                yield LeftRow(one.moved.id, str(error), harmless=True)
                continue
            except SpoolError as error:
                taken = f"{messages} messages were taken, then"
                if isinstance(error, SpoolLost):
                    raise
                raise CannotTake(f"{taken} {one.moved.id} could not be: {error}") from error
            messages += 1
            octets += one.moved.size
            if messages % TELL == 0:
                yield ImportedRow(messages, envelopes, octets, skipped)
        for action in sorted(self._unknown):
            yield LeftRow(
                f"action {action}", "the configuration has none of this name: its mail waits for it", harmless=False
            )
        yield ImportedRow(messages, envelopes, octets, skipped)

    async def _one(self, archive: Archive, found: Found) -> int:
        await self._spool.require_new(archive.header.name, found.moved.id)
        body = await self._body(archive, found)
        return await self._spool.take_in(Arrival(found.moved, body, archive.header.name, self._lane_of))

    async def _body(self, archive: Archive, found: Found) -> bytes | StoredBody:
        pieces = archive.body(found)
        if found.moved.size <= SMALL_BODY:
            return await anyio.to_thread.run_sync(b"".join, pieces)
        writer = await self._spool.new_body(MessageId(found.moved.id))

        def copy() -> StoredBody:
            for piece in pieces:
                writer.write(piece)
            return writer.finish()

        try:
            return await anyio.to_thread.run_sync(copy)
        except BaseException:
            writer.abandon()
            raise

    def _lane_of(self, envelope: MovedEnvelope) -> Lane:
        action = self._config.actions.get(envelope.action)
        if envelope.kind.is_report:
            return Lane(envelope.action, envelope.key)
        if action is None:
            self._unknown.add(envelope.action)
            return Lane(envelope.action, envelope.key)
        return lane_by(action)(destination_of(envelope.destination))


def _open(path: str) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpoolError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SpoolError(f"{path} is no file that can be read twice")
    return os.fdopen(descriptor, "rb", buffering=0)


def _next(found: Iterator[Found]) -> Found | None:
    return next(found, None)
