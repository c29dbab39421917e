"""Every statement has a use, is valid on today's tables, and reads no more of them than it must."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool import statements
from spool.migrations import create

SPOOL = Path(statements.__file__).parent
QUERIES = statements.load("queries.sql")
#: Counts look at everything, and nothing waits for them; "stranded" reads an index of nothing but what is in flight; pruning
#: begins at the oldest row and has a LIMIT; the schema is small.
WHOLE = {"count_by_state", "count_messages", "count_reports", "stranded", "prune_attempts", "prune_drops", "tables"}


@pytest.fixture
def tables() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection)
    yield connection
    connection.close()


def names_in_code() -> set[str]:
    text = "".join(path.read_text() for path in SPOOL.glob("*.py"))
    return set(re.findall(r'SQL\["(\w+)"\]', text)) | {
        node.value
        for path in SPOOL.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in QUERIES
    }


def test_every_statement_is_used() -> None:
    assert set(QUERIES) - names_in_code() == set()


def test_every_statement_that_is_named_is_there() -> None:
    text = "".join(path.read_text() for path in SPOOL.glob("*.py"))
    assert set(re.findall(r'SQL\["(\w+)"\]', text)) - set(QUERIES) == set()


@pytest.mark.parametrize("name", QUERIES)
def test_a_statement_finds_its_rows_by_key_or_index(name: str, tables: sqlite3.Connection) -> None:
    parameters = max((int(n) for n in re.findall(r"\?(\d+)", QUERIES[name])), default=0) or QUERIES[name].count("?")
    plan = tables.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", ["[]"] * parameters).fetchall()
    scans = [
        row[3] for row in plan if re.match(r"SCAN (?!\(subquery|json_each|touched|found|page|CONSTANT ROW)", row[3])
    ]
    sorts = [row[3] for row in plan if "TEMP B-TREE" in row[3]]
    if name not in WHOLE:
        assert (scans, sorts) == ([], [])


def test_a_name_that_is_used_twice_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twice.sql").write_text("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n")
    monkeypatch.setattr(statements, "__file__", str(tmp_path / "statements.py"))
    with pytest.raises(ValueError, match="used twice"):
        statements.load("twice.sql")
