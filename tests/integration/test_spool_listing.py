"""The queue as people see it, beside the daemon and without it, and with rows that cannot be read."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from spool.entry import CorruptEntry, PastAttempt, QueueEntry
from spool.errors import SpoolError, SpoolForbidden, SpoolInUse, UnknownEnvelope
from spool.ids import MessageId
from spool.lane import Lane, LaneFailed
from spool.layout import Layout
from spool.listing import QueueReader
from spool.opening import database_path
from spool.selection import Selection, select
from spool.state import Event, Kind, State
from spool.writer import SpoolWriter
from tests.tools.spooled import (
    DONE,
    HOUR,
    LATER,
    NEVER,
    HandClock,
    Letter,
    due_lanes,
    put,
    record,
    settlement,
    submission,
    take,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def reader(spool: SpoolWriter, place: Layout) -> Iterator[QueueReader]:
    reader = QueueReader.beside(place.spool_dir, spool.clock)
    yield reader
    reader.close()


def spoil(place: Layout, statement: str, *parameters: object) -> None:
    """Damage a stopped spool behind its back."""
    with closing(sqlite3.connect(database_path(place.spool_dir), isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        assert connection.execute(statement, parameters).rowcount == 1


async def leave(place: Layout, *letters: Letter) -> list[MessageId]:
    """Messages in a spool that is stopped again."""
    spool = await SpoolWriter.open(place)
    names = [await put(spool, letter) for letter in letters]
    await spool.aclose()
    return names


async def test_an_entry_shows_all_that_a_listing_prints(
    spool: SpoolWriter, reader: QueueReader, clock: HandClock
) -> None:
    sent = submission(spool.clock.now())
    await spool.accept(sent)
    (claimed,) = await take(spool)
    due = spool.clock.now() + HOUR
    await record(spool, claimed, LATER, due)
    (entry,) = reader.entries()
    assert isinstance(entry, QueueEntry)
    assert entry.id == claimed.envelope.id
    assert (entry.kind, entry.state, entry.attempts) == (Kind.MAIL, State.READY, 1)
    assert entry.sender == sent.message.return_path
    assert entry.recipient == sent.envelopes[0].recipient.address
    assert entry.destination == sent.envelopes[0].destination.address
    assert (entry.client, entry.login, entry.uid) == ("local", "", None)
    assert (entry.received_at, entry.last_try, entry.wakes) == (sent.message.received_at, spool.clock.now(), due)
    assert entry.deadline == sent.message.arrived + sent.envelopes[0].ttl
    assert entry.reason == "451 4.2.0 try again"


async def test_an_entry_without_trouble_of_its_own_shows_its_lanes(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool)
    (lane,) = await due_lanes(spool)
    later = spool.clock.now() + HOUR
    await spool.record([], [LaneFailed(lane.id, spool.clock.now(), later, "connection refused")])
    (entry,) = reader.entries()
    assert isinstance(entry, QueueEntry)
    assert (entry.reason, entry.wakes) == ("connection refused", later)


async def test_a_listing_is_in_the_order_of_ids_whatever_the_size_of_its_pages(
    spool: SpoolWriter, reader: QueueReader
) -> None:
    for _ in range(7):
        await put(spool, Letter(to=("a@example.org", "b@example.org", "c@example.org")))
    paged: list[str] = []
    page = reader.page(limit=4)
    while True:
        paged += [entry.id for entry in page.entries]
        if page.next is None:
            break
        page = reader.page(after=page.next, limit=4)
    assert len(paged) == 21
    assert paged == sorted(paged) == [entry.id for entry in reader.entries()]


async def test_a_beginning_of_an_id_selects_what_begins_like_it(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await put(spool)
    await put(spool)
    assert [entry.id for entry in reader.entries(Selection(name[:17]))] == [f"{name}.1"]


async def test_an_envelope_is_found_by_its_id_and_no_other(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await put(spool)
    assert reader.envelope(select(f"{name}.1")).id == f"{name}.1"
    with pytest.raises(UnknownEnvelope, match=r"\.2"):
        reader.envelope(select(f"{name}.2"))


async def test_a_beginning_that_two_messages_share_is_refused(spool: SpoolWriter, reader: QueueReader) -> None:
    first = await put(spool)
    second = await put(spool)
    shared = first[:5]
    assert second.startswith(shared), "ids of one day begin alike"
    with pytest.raises(UnknownEnvelope, match="more than one"):
        reader.message(Selection(shared))


async def test_a_message_is_shown_with_its_body(spool: SpoolWriter, reader: QueueReader) -> None:
    sent = submission(spool.clock.now())
    await spool.accept(sent)
    message, body = reader.message(Selection(sent.message.id[:19]))
    assert (message, body.read()) == (sent.message, sent.body)


async def test_the_history_answers_why_after_the_message_is_gone(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await put(spool)
    for outcome in (LATER, DONE):
        (claimed,) = await take(spool)
        settled = settlement(spool, claimed, outcome, spool.clock.now())
        await spool.record([settled])
        last = settled.attempt
    assert list(reader.entries()) == []
    first, second = reader.attempts(Selection(name))
    assert isinstance(first, PastAttempt)
    assert isinstance(second, PastAttempt)
    assert (first.event, first.attempt.outcome) == (Event.DEFERRED, LATER)
    assert second == PastAttempt(last, Event.DELIVERED, "ann@example.com", "bob@example.org", "")


async def test_reports_and_damaged_ones_are_listed_by_themselves(
    spool: SpoolWriter, reader: QueueReader, clock: HandClock
) -> None:
    await put(spool, Letter(to=("a@example.org", "b@example.org")))
    failing, torn = await take(spool)
    await record(spool, failing, NEVER)
    await spool.set_aside(torn.envelope.id, "torn")
    (report,) = reader.reports()
    assert isinstance(report, QueueEntry)
    assert (report.kind, report.recipient) == (Kind.FAILED, torn.message.return_path)
    (damaged,) = reader.damaged()
    assert isinstance(damaged, QueueEntry)
    assert (damaged.id, damaged.error) == (torn.envelope.id, "torn")


async def test_counts_are_by_state_and_lane(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await put(spool)
    await put(spool, Letter(lane=Lane("relay", "example.net")))
    await spool.hold(Selection(name))
    counts = reader.counts()
    assert (counts.messages, counts.reports) == (2, 0)
    assert counts.by_state == {State.READY: 1, State.HELD: 1}
    lanes = reader.lanes()
    waiting = reader.waiting(lanes[0].id, lanes[-1].id)
    assert {status.lane: waiting[status.id] for status in lanes} == {
        Lane("relay", ""): 1,
        Lane("relay", "example.net"): 1,
    }


async def test_a_reader_changes_nothing(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool)
    with pytest.raises(SpoolError, match="readonly"), reader._looking() as connection:
        connection.execute("DELETE FROM envelope")


async def test_a_stopped_spool_is_listed_from_its_files(place: Layout) -> None:
    names = await leave(place, Letter(), Letter())
    with closing(QueueReader.stopped(place.spool_dir)) as reader:
        assert [entry.id for entry in reader.entries()] == [f"{name}.1" for name in sorted(names)]


async def test_a_spool_that_was_killed_is_listed_and_not_touched(place: Layout) -> None:
    spool = await SpoolWriter.open(place)
    name = await put(spool)
    copy = Path(place.spool_dir).with_name("copy")
    copy.mkdir()
    for file in ("state.db", "state.db-wal", "lock.readers"):
        shutil.copy(f"{place.spool_dir}/{file}", copy)
    await spool.aclose()
    before = (copy / "state.db").read_bytes(), (copy / "state.db-wal").read_bytes()
    with closing(QueueReader.stopped(str(copy))) as reader:
        assert [entry.id for entry in reader.entries()] == [f"{name}.1"]
    assert ((copy / "state.db").read_bytes(), (copy / "state.db-wal").read_bytes()) == before


async def test_a_spool_that_is_written_is_not_read_from_its_files(spool: SpoolWriter, place: Layout) -> None:
    with pytest.raises(SpoolInUse, match=str(os.getpid())):
        QueueReader.stopped(place.spool_dir)


async def test_several_may_read_a_stopped_spool(place: Layout) -> None:
    await leave(place, Letter())
    with closing(QueueReader.stopped(place.spool_dir)), closing(QueueReader.stopped(place.spool_dir)) as second:
        assert len(list(second.entries())) == 1


async def test_where_no_spool_is_the_reader_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no spool"):
        QueueReader.stopped(str(tmp_path))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_stranger_may_not_read_a_stopped_spool(place: Layout, tmp_path: Path) -> None:
    await leave(place, Letter())
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        with pytest.raises(SpoolForbidden):
            QueueReader.stopped(place.spool_dir)
    finally:
        os.seteuid(0)


UNREADABLE = "UPDATE envelope SET user = CAST(X'fffe' AS TEXT) WHERE id = 2"
SPOILT: dict[str, Callable[[Layout], None]] = {
    "text that is no text": lambda place: spoil(place, UNREADABLE),
    "an impossible state": lambda place: spoil(place, "UPDATE envelope SET state = 9 WHERE id = 2"),
    "a lane that is not there": lambda place: spoil(place, "UPDATE envelope SET lane = 99 WHERE id = 2"),
    "a recipient that is not there": lambda place: spoil(place, "DELETE FROM recipient WHERE message = 2"),
}


@pytest.mark.parametrize("damage", SPOILT)
async def test_an_unreadable_row_is_an_entry_among_the_others(place: Layout, damage: str) -> None:
    first, second, third = await leave(place, Letter(), Letter(), Letter())
    SPOILT[damage](place)
    with closing(QueueReader.stopped(place.spool_dir)) as reader:
        shown = {entry.id: type(entry) for entry in reader.entries()}
    assert shown == {f"{first}.1": QueueEntry, f"{second}.1": CorruptEntry, f"{third}.1": QueueEntry}


@pytest.mark.parametrize("damage", [name for name in SPOILT if name != "text that is no text"])
async def test_the_brief_listing_leaves_no_unreadable_row_out(place: Layout, damage: str) -> None:
    names = await leave(place, Letter(), Letter(), Letter())
    SPOILT[damage](place)
    with closing(QueueReader.stopped(place.spool_dir)) as reader:
        page, strays = reader.brief()
    assert isinstance(page, list)
    assert [entry.id for entry in page] == sorted(f"{name}.1" for name in names)
    assert strays == []


async def test_the_brief_listing_of_ordinary_mail_is_written_by_the_database(
    spool: SpoolWriter, reader: QueueReader
) -> None:
    name = await put(spool)
    page, _ = reader.brief()
    assert isinstance(page, str)
    assert json.loads(page)[0][0] == name


async def test_an_envelope_whose_message_is_gone_is_shown_once_it_was_set_aside(place: Layout) -> None:
    await leave(place, Letter())
    spoil(place, "DELETE FROM message")
    spool = await SpoolWriter.open(place)
    assert await take(spool) == []
    await spool.aclose()
    with closing(QueueReader.stopped(place.spool_dir)) as reader:
        assert list(reader.entries()) == [CorruptEntry("row 1", "its message is not there")]
