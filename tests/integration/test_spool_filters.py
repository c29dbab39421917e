"""Envelopes chosen by what they are like: held, removed, listed and counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from spool import selected, tally
from spool.address import NULL_SENDER, parse_address
from spool.entry import QueueEntry
from spool.filter import ANY, Filter, Trait
from spool.lane import Lane
from spool.layout import Layout
from spool.listing import QueueReader
from spool.selection import EVERYTHING, Selection
from spool.state import Kind, State
from spool.writer import SpoolWriter
from tests.tools.spooled import DAY, HOUR, LATER, NEVER, HandClock, Letter, put, record, sole, take

pytestmark = pytest.mark.anyio

OUT = Lane("out", "dead.example")


@pytest.fixture
def reader(spool: SpoolWriter, place: Layout) -> Iterator[QueueReader]:
    with closing(QueueReader.beside(place.spool_dir, spool.clock)) as reader:
        yield reader


def listed(reader: QueueReader, **wanted: object) -> set[str]:
    entries = list(reader.entries(Selection(filter=Filter(**wanted))))  # type: ignore[arg-type]
    assert all(isinstance(entry, QueueEntry) for entry in entries)
    return {str(entry.destination) for entry in entries if isinstance(entry, QueueEntry)}


async def fill(spool: SpoolWriter, clock: HandClock) -> None:
    """An old message for two, tried in vain, from the null sender; and a new one for a local user."""
    await put(spool, Letter(("bob@Dead.example", "eve@dead.example"), sender=NULL_SENDER, lane=OUT))
    for claimed in await take(spool):
        await record(spool, claimed, LATER, spool.clock.now() + DAY)
    clock.advance(3 * DAY)
    await put(spool, Letter(("joe@box.example",), user="joe", lane=Lane("in", "joe")))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"bob", "eve", "joe"}),
        ({"sender": "ann@EXAMPLE.com"}, {"joe"}),
        ({"sender": "Ann@example.com"}, set()),
        ({"sender": "@example.com"}, {"joe"}),
        ({"sender": "<>"}, {"bob", "eve"}),
        ({"recipient": "bob@dead.example"}, {"bob"}),
        ({"recipient": "@dead.example"}, {"bob", "eve"}),
        ({"domain": "DEAD.example"}, {"bob", "eve"}),
        ({"domain": "dead.example", "recipient": "eve@dead.example"}, {"eve"}),
        ({"user": "joe"}, {"joe"}),
        ({"action": "out"}, {"bob", "eve"}),
        ({"state": State.READY}, {"bob", "eve", "joe"}),
        ({"state": State.HELD}, set()),
        ({"kind": Kind.MAIL}, {"bob", "eve", "joe"}),
        ({"kind": Kind.FAILED}, set()),
        ({"error": "TRY again"}, {"bob", "eve"}),
        ({"older": 2 * DAY}, {"bob", "eve"}),
        ({"newer": 2 * DAY}, {"joe"}),
        ({"client": "local"}, {"bob", "eve", "joe"}),
        ({"login": "ann"}, set()),
        ({"uid": 1}, set()),
    ],
    # Sets have no order, and the processes that share the tests must call each the same.
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
async def test_a_filter_chooses_the_same_for_a_listing_a_count_and_a_change(
    spool: SpoolWriter, reader: QueueReader, clock: HandClock, wanted: dict[str, object], found: set[str]
) -> None:
    await fill(spool, clock)
    assert {name.partition("@")[0] for name in listed(reader, **wanted)} == found
    selection = Selection(filter=Filter(**wanted))  # type: ignore[arg-type]
    assert reader.tally(selection, None).total == len(found)
    assert await spool.remove(selection) == len(found)
    left = {str(entry.destination).partition("@")[0] for entry in reader.entries() if isinstance(entry, QueueEntry)}
    assert left == {"bob", "eve", "joe"} - found


async def test_a_filter_narrows_one_message(spool: SpoolWriter, reader: QueueReader) -> None:
    name = await put(spool, Letter(("bob@example.org", "eve@example.net")))
    await put(spool, Letter(("joe@example.net",)))
    selection = Selection(name, filter=Filter(domain="example.net"))
    assert [entry.id for entry in reader.entries(selection)] == [f"{name}.2"]
    assert reader.tally(selection, Trait.DOMAIN).named(Trait.DOMAIN) == [("example.net", 1)]
    assert await spool.hold(selection) == 1
    assert reader.tally(EVERYTHING, Trait.STATE).named(Trait.STATE) == [("ready", 2), ("held", 1)]


async def test_a_few_among_many_are_found_in_bounded_steps(
    spool: SpoolWriter, reader: QueueReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selected, "LOOK", 7)
    monkeypatch.setattr(selected, "STEP", 2)
    monkeypatch.setattr(tally, "WINDOW", 7)
    domains = ["rare.example" if number % 9 == 4 else "many.example" for number in range(50)]
    for domain in domains:
        await put(spool, Letter((f"bob@{domain}",)))
    assert reader.tally(EVERYTHING, Trait.DOMAIN).named(Trait.DOMAIN) == [("many.example", 44), ("rare.example", 6)]
    assert await spool.remove(Selection(filter=Filter(domain="rare.example"))) == 6
    assert await spool.remove(Selection(filter=Filter(domain="many.example"))) == 44
    assert reader.tally(EVERYTHING, Trait.DOMAIN).total == 0


async def test_an_age_counts_from_the_command_however_long_it_takes(spool: SpoolWriter, clock: HandClock) -> None:
    await put(spool)
    clock.advance(HOUR)
    rest = selected.resolve(spool._committer._store.connection, Selection(filter=Filter(older=HOUR)), spool.clock.now())
    assert rest.sieve.values == {"older": spool.clock.now() - HOUR}


async def test_values_beyond_the_bound_are_counted_together(
    spool: SpoolWriter, reader: QueueReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "WINDOW", 2)
    monkeypatch.setattr(tally, "MAX_VALUES", 2)
    for domain in ("a", "b", "c", "b"):
        await put(spool, Letter((f"bob@{domain}.example",)))
    counted = reader.tally(EVERYTHING, Trait.DOMAIN)
    assert (counted.named(Trait.DOMAIN), counted.others, counted.total) == ([("b.example", 2), ("a.example", 1)], 1, 4)


async def test_reports_are_chosen_by_their_kind_and_counted_with_their_sender(
    spool: SpoolWriter, reader: QueueReader
) -> None:
    await put(spool, Letter(sender=parse_address("ann@example.com")))
    await record(spool, await sole(spool), NEVER)
    assert listed(reader, kind=Kind.FAILED) == {"ann@example.com"}
    assert reader.tally(EVERYTHING, Trait.KIND).named(Trait.KIND) == [("failed", 1)]
    assert reader.tally(EVERYTHING, Trait.SENDER).named(Trait.SENDER) == [("ann@example.com", 1)]


async def test_everything_passes_an_empty_filter(spool: SpoolWriter, reader: QueueReader) -> None:
    await put(spool)
    assert reader.tally(Selection(filter=ANY), None).total == 1
