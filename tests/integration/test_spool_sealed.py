"""Sealed bodies in a spool: mixed with open ones, through changes of keys, and while a key is missing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from spool import migrations
from spool.bodies import CHUNK, SMALL_BODY
from spool.entry import QueueEntry
from spool.errors import BodyDamaged, KeyMissing
from spool.ids import MessageId, new_message_id
from spool.layout import Layout
from spool.listing import QueueReader
from spool.message import Claimed
from spool.opening import database_path
from spool.outcome import Failed
from spool.seal import Compression, Sealing
from spool.selection import EVERYTHING, Selection
from spool.state import State
from spool.writer import SpoolWriter
from tests.tools.sealing import FIRST, SEALED_WAYS, SECOND, WAYS, called, seal_with
from tests.tools.spooled import DONE, NEVER, HandClock, Letter, put, record, submission, take

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("7 at rest")]

every_way = pytest.mark.parametrize("way", WAYS, ids=called)
every_sealed_way = pytest.mark.parametrize("way", SEALED_WAYS, ids=called)

SMALL = b"Subject: small\r\n\r\n" + b"something that can be made smaller\r\n" * 100
LARGE = b"Subject: large\r\n\r\n" + b"".join(b"%d\r\n" % number for number in range(SMALL_BODY))


async def put_large(spool: SpoolWriter, content: bytes = LARGE) -> MessageId:
    name = new_message_id(0)
    writer = await spool.new_body(name)
    for start in range(0, len(content), CHUNK // 3):
        writer.write(content[start : start + CHUNK // 3])
    await spool.accept(submission(spool.clock.now(), Letter(body=writer.finish()), name))
    return name


async def put_both(spool: SpoolWriter, way: Sealing) -> tuple[MessageId, MessageId]:
    await seal_with(spool, way)
    return await put(spool, Letter(body=SMALL)), await put_large(spool)


def on_disk(spool: SpoolWriter, place: Layout, name: MessageId) -> bytes:
    """The octets of a body as they lie there."""
    if os.path.exists(spool.bodies.path(name)):
        return Path(spool.bodies.path(name)).read_bytes()
    with closing(sqlite3.connect(database_path(place.spool_dir))) as connection:
        query = "SELECT content FROM body JOIN message ON message.id = message WHERE name = ?"
        content: bytes = connection.execute(query, (name,)).fetchone()[0]
        return content


def bodies(claimed: list[Claimed]) -> dict[str, bytes]:
    return {one.message.id: b"".join(one.body.chunks()) for one in claimed}


@pytest.fixture
async def reader(spool: SpoolWriter, place: Layout) -> AsyncIterator[QueueReader]:
    with closing(QueueReader.beside(place.spool_dir, spool.clock, spool.bodies)) as reader:
        yield reader


def sole_entry(reader: QueueReader, name: MessageId) -> QueueEntry:
    (entry,) = reader.entries(Selection(name))
    assert isinstance(entry, QueueEntry)
    return entry


@every_way
async def test_small_and_large_bodies_come_back(spool: SpoolWriter, way: Sealing) -> None:
    small, large = await put_both(spool, way)
    claimed = await take(spool)
    assert bodies(claimed) == {small: SMALL, large: LARGE}
    assert {one.message.id: (one.message.size, one.body.size) for one in claimed} == {
        small: (len(SMALL), len(SMALL)),
        large: (len(LARGE), len(LARGE)),
    }


@every_sealed_way
async def test_the_octets_on_disk_are_sealed(spool: SpoolWriter, place: Layout, way: Sealing) -> None:
    for name in await put_both(spool, way):
        octets = on_disk(spool, place, name)
        assert b"Subject" not in octets[:100] if way.key else True
        assert octets not in (SMALL, LARGE)


@every_sealed_way
async def test_a_listing_shows_the_accepted_size_and_the_message(
    spool: SpoolWriter, reader: QueueReader, way: Sealing
) -> None:
    small, large = await put_both(spool, way)
    for name, content in ((small, SMALL), (large, LARGE)):
        assert sole_entry(reader, name).size == len(content)
        _, body = reader.message(Selection(name))
        assert b"".join(body.chunks()) == content


async def test_bodies_sealed_in_every_way_wait_side_by_side(spool: SpoolWriter) -> None:
    names = [name for way in WAYS for name in await put_both(spool, way)]
    found = bodies(await take(spool))
    assert set(found) == set(names)
    assert sorted(found.values()) == sorted([SMALL, LARGE] * len(WAYS))


async def test_a_key_is_changed_while_mail_is_queued(spool: SpoolWriter, reader: QueueReader) -> None:
    before = await put_both(spool, Sealing(Compression.ZSTD, FIRST))
    after = await put_both(spool, Sealing(Compression.ZSTD, SECOND, (FIRST,)))
    assert reader.keys() == {FIRST.fingerprint: 2, SECOND.fingerprint: 2}
    assert set(bodies(await take(spool))) == {*before, *after}


async def test_nothing_needs_a_key_once_its_mail_is_delivered(spool: SpoolWriter, reader: QueueReader) -> None:
    await put_both(spool, Sealing(key=FIRST))
    for claimed in await take(spool):
        await record(spool, claimed, DONE)
    assert reader.keys() == {}


async def without_key(spool: SpoolWriter) -> tuple[MessageId, MessageId]:
    """Mail that was tried while its key was missing."""
    names = await put_both(spool, Sealing(key=FIRST))
    await seal_with(spool, Sealing(key=SECOND))
    assert await take(spool) == []
    return names


async def test_without_its_key_mail_is_held_with_the_reason(spool: SpoolWriter, reader: QueueReader) -> None:
    for name in await without_key(spool):
        entry = sole_entry(reader, name)
        assert entry.state is State.HELD
        assert entry.reason == f"sealed with key {FIRST.fingerprint}, which this daemon does not have"


async def test_without_its_key_mail_wakes_nobody(spool: SpoolWriter) -> None:
    await without_key(spool)
    assert await spool.next_wake() is None


async def test_a_missing_key_keeps_no_other_mail(spool: SpoolWriter) -> None:
    await without_key(spool)
    name = await put(spool, Letter(body=SMALL))
    assert bodies(await take(spool)) == {name: SMALL}


async def test_when_the_key_is_back_mail_flows_again(spool: SpoolWriter, reader: QueueReader) -> None:
    small, large = await without_key(spool)
    assert await seal_with(spool, Sealing(key=SECOND, old=(FIRST,))) == 2
    assert sole_entry(reader, small).reason == ""
    assert bodies(await take(spool)) == {small: SMALL, large: LARGE}


async def test_more_mail_than_one_transaction_frees_flows_again(spool: SpoolWriter) -> None:
    await seal_with(spool, Sealing(key=FIRST))
    for _ in range(300):
        await put(spool)
    await seal_with(spool, Sealing())
    assert await take(spool, 1000) == []
    assert await seal_with(spool, Sealing(key=FIRST)) == 300
    assert len(await take(spool, 1000)) == 300


async def test_what_the_operator_holds_stays_held_when_a_key_comes(spool: SpoolWriter, reader: QueueReader) -> None:
    small, large = await without_key(spool)
    assert await spool.hold(Selection(small)) == 1
    other = await put(spool)
    await spool.hold(Selection(other))
    assert await seal_with(spool, Sealing(key=FIRST)) == 1
    assert set(bodies(await take(spool))) == {large}
    assert {sole_entry(reader, name).state for name in (small, other)} == {State.HELD}


async def test_what_is_released_without_its_key_is_held_again(spool: SpoolWriter, reader: QueueReader) -> None:
    small, _ = await without_key(spool)
    await spool.release(EVERYTHING)
    assert await take(spool) == []
    assert await seal_with(spool, Sealing(key=FIRST)) == 2
    assert sole_entry(reader, small).state is State.READY


async def test_a_key_that_comes_with_the_next_start_frees_what_waits(place: Layout, clock: HandClock) -> None:
    first = await SpoolWriter.open(place, clock)
    small, large = await without_key(first)
    await first.aclose()
    second = await SpoolWriter.open(place, clock)
    assert await seal_with(second, Sealing(key=FIRST)) == 2
    assert bodies(await take(second)) == {small: SMALL, large: LARGE}
    await second.aclose()


async def test_a_report_about_sealed_mail_waits_for_the_key_too(spool: SpoolWriter, clock: HandClock) -> None:
    await seal_with(spool, Sealing(key=FIRST))
    await put(spool, Letter(body=SMALL))
    for claimed in await take(spool):
        await record(spool, claimed, NEVER)
    clock.advance(10_000)
    await seal_with(spool, Sealing())
    assert await take(spool) == []
    await seal_with(spool, Sealing(key=FIRST))
    (report,) = await take(spool)
    assert report.envelope.kind.is_report
    assert report.body.read() == SMALL


async def test_a_message_whose_key_is_missing_is_not_shown_but_said_why(
    spool: SpoolWriter, reader: QueueReader
) -> None:
    small, _ = await without_key(spool)
    with pytest.raises(KeyMissing, match=FIRST.fingerprint):
        reader.message(Selection(small))


async def test_what_was_claimed_before_its_key_went_can_still_be_read(spool: SpoolWriter) -> None:
    _, large = await put_both(spool, Sealing(key=FIRST))
    claimed = await take(spool)
    await seal_with(spool, Sealing())
    assert bodies(claimed)[large] == LARGE


@every_sealed_way
async def test_a_large_body_that_was_altered_is_never_given_out_whole(spool: SpoolWriter, way: Sealing) -> None:
    await seal_with(spool, way)
    name = await put_large(spool)
    _flip_a_bit(Path(spool.bodies.path(name)))
    (claimed,) = await take(spool)
    with pytest.raises(BodyDamaged, match=spool.bodies.path(name)):
        list(claimed.body.chunks())


def _flip_a_bit(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


@every_sealed_way
async def test_a_small_body_that_was_altered_is_set_aside_and_its_sender_told(
    spool: SpoolWriter, place: Layout, reader: QueueReader, clock: HandClock, way: Sealing
) -> None:
    await seal_with(spool, way)
    name = await put(spool, Letter(body=SMALL))
    with closing(sqlite3.connect(database_path(place.spool_dir), isolation_level=None)) as connection:
        connection.execute("UPDATE body SET content = zeroblob(length(content))")
    assert await take(spool) == []
    entries = [entry for entry in reader.entries(Selection(name)) if isinstance(entry, QueueEntry)]
    assert [entry.state for entry in entries if not entry.kind.is_report] == [State.DAMAGED]
    clock.advance(10_000)
    (report,) = await take(spool)
    (line,) = await spool.report_lines(report.envelope.id)
    assert isinstance(line.outcome, Failed)


async def test_an_inspection_says_which_key_it_wants(spool: SpoolWriter, reader: QueueReader) -> None:
    await put_both(spool, Sealing(key=FIRST))
    await seal_with(spool, Sealing())
    with reader.inspection() as inspection:
        (finding,) = [finding for finding in inspection.findings() if finding]
    assert str(finding.subject) == f"key {FIRST.fingerprint}"
    assert finding.trouble == "it is not at hand, so 2 bodies could not be looked into"


async def test_an_inspection_looks_into_sealed_bodies(spool: SpoolWriter, reader: QueueReader) -> None:
    await put_both(spool, Sealing(Compression.ZSTD, FIRST))
    with reader.inspection() as inspection:
        assert [finding for finding in inspection.findings() if finding] == []
    assert inspection.seen.octets == len(SMALL) + len(LARGE)


async def test_bodies_of_a_spool_from_before_lie_open_and_are_read(place: Layout, clock: HandClock) -> None:
    first = await SpoolWriter.open(place, clock)
    small, large = await put_both(first, Sealing())
    await first.aclose()
    _back_to_version_1(place)
    second = await SpoolWriter.open(place, clock)
    sealed = await put_both(second, Sealing(Compression.ZSTD, FIRST))
    assert bodies(await take(second)) == {small: SMALL, large: LARGE, sealed[0]: SMALL, sealed[1]: LARGE}
    await second.aclose()


def _back_to_version_1(place: Layout) -> None:
    with closing(sqlite3.connect(database_path(place.spool_dir), isolation_level=None)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == migrations.VERSION
        connection.execute("DROP INDEX message_key")
        for column in ("compression", "key_id", "salt"):
            connection.execute(f"ALTER TABLE message DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 1")
