"""``smtpctl export`` as the daemon answers it, or as it is read from a stopped spool.

Guarantees: nothing is changed. Memory holds one message's description at a time. A message whose body is not what was
accepted is left out and named; one that changes while its body is told ends the answer.

Failure: `SpoolError` for what cannot be read, `BodyDamaged` among it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import msgspec

from control.protocol import CHUNK, Chunk, Export, LeftRow, PackedRow
from spool.entry import CorruptEntry, QueueEntry
from spool.errors import BodyDamaged, UnknownEnvelope
from spool.ids import MessageId
from spool.listing import QueueReader
from spool.moving import Leaving
from spool.rows import CorruptRow
from spool.selection import Selection, select
from spool.state import State


def export(reader: QueueReader, request: Export) -> Iterator[PackedRow | LeftRow | Chunk]:
    """What leaves, a message at a time."""
    selection = select(request.id, request.filter)
    found = False
    for message, group in groupby(reader.entries(selection), _message_of):
        entries = list(group)
        found = True
        for entry in entries:
            if isinstance(entry, CorruptEntry):
                yield LeftRow(entry.id, entry.reason, harmless=False)
        whole = [entry for entry in entries if isinstance(entry, QueueEntry)]
        moving = [one for one in whole if not request.standing or one.state in (State.HELD, State.DAMAGED)]
        for one in whole:
            if one not in moving:
                yield LeftRow(one.id, f"it is {one.state.value}: only what stands still can be removed", harmless=True)
        if moving:
            yield from _packed(reader, MessageId(message), [one.ordinal for one in moving])
    if not found and selection != Selection(filter=request.filter):
        raise UnknownEnvelope(f"no such envelope: {request.id}")


def _message_of(entry: QueueEntry | CorruptEntry) -> str:
    return entry.message if isinstance(entry, QueueEntry) else entry.id


def _packed(reader: QueueReader, message: MessageId, ordinals: list[int]) -> Iterator[PackedRow | LeftRow | Chunk]:
    try:
        leaving: Leaving = reader.pack(message, ordinals)
    except UnknownEnvelope:
        yield LeftRow(message, "it has left meanwhile", harmless=True)
        return
    except (BodyDamaged, CorruptRow) as error:
        yield LeftRow(message, f"{error}: see smtpctl verify", harmless=False)
        return
    document = msgspec.json.encode(leaving.moved)
    yield PackedRow(message, len(leaving.moved.envelopes), len(document), leaving.moved.size)
    for start in range(0, len(document), CHUNK):
        yield Chunk(document[start : start + CHUNK])
    for piece in leaving.body.chunks():
        for start in range(0, len(piece), CHUNK):
            yield Chunk(piece[start : start + CHUNK])
