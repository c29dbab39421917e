"""Statements that are made of filters look at no more than the envelopes they are given."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

import pytest

from spool.filter import ANY, Filter, FilterError, Trait
from spool.migrations import create
from spool.sieve import Sieve
from spool.state import Kind, State

FILTERS = [
    ANY,
    Filter(sender="ann@example.org"),
    Filter(sender="@example.org"),
    Filter(recipient="bob@example.net"),
    Filter(recipient="@example.net"),
    Filter(domain="example.net"),
    Filter(user="bob"),
    Filter(action="out"),
    *(Filter(state=state) for state in State),
    *(Filter(kind=kind) for kind in Kind),
    Filter(error="refused"),
    Filter(client="192.0.2.1"),
    Filter(login="ann"),
    Filter(uid=1000),
    Filter(older=1000),
    Filter(newer=1000),
]
#: What may be read: envelopes between two ids, of one message or by their ids, and one row beside each.
BOUNDED = re.compile(
    r"SEARCH (envelope USING INTEGER PRIMARY KEY \(rowid(>\? AND rowid<)?=?\?\)"
    r"|envelope USING (COVERING )?INDEX envelope_name \(message=\? AND ordinal>\? AND ordinal<\?\)"
    r"|(message|lane) USING INTEGER PRIMARY KEY \(rowid=\?\)"
    r"|recipient USING PRIMARY KEY \(message=\? AND number=\?\)).*|SCAN json_each.*"
    r"|LIST SUBQUERY \d+|CREATE BLOOM FILTER"
)


@pytest.fixture(scope="module")
def tables() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection)
    yield connection
    connection.close()


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
@pytest.mark.parametrize("name", ["chosen", "chosen_of_message", "passing", "counted", "counted_by"])
def test_a_filter_reads_what_it_is_given_and_sorts_nothing(
    name: str, wanted: Filter, tables: sqlite3.Connection
) -> None:
    sieve = Sieve.of(wanted, 5_000)
    traits = list(Trait) if name == "counted_by" else [None]
    for trait in traits:
        counts = name.startswith("counted")
        statement = sieve.counted(trait, of_message=False) if counts else getattr(sieve, name)
        values = sieve.parameters(after=0, end=9, message=1, limit=5, ids="[]")
        steps = [row[3] for row in tables.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert steps
        assert [step for step in steps if not BOUNDED.fullmatch(step)] == [], statement


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(FilterError, match=r"sender 'example.org': no domain.*expected an address, or @ and a domain"):
        Sieve.of(Filter(sender="example.org"), 0)
