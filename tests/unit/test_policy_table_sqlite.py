"""Tables that ask a SQLite database of somebody else."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from policy.errors import TableUnavailable
from policy.tables.format import TableSyntaxError
from policy.tables.secret import Secret, secret_of
from policy.tables.service import (
    ALIAS,
    CREDENTIALS,
    DOMAIN,
    MAILADDR,
    MAILADDRMAP,
    NETADDR,
    REGEX,
    SECRETS,
    SOURCE,
    USERINFO,
    Service,
)
from policy.tables.services import find_userinfo, has_address, has_domain, has_mailaddr_for, has_source
from policy.tables.sqlite import SqliteTable, parse_queries
from policy.tables.table import Shape
from spool.address import parse_address

SCHEMA = """
    CREATE TABLE aliases (name TEXT, target TEXT);
    INSERT INTO aliases VALUES ('root', 'ann'), ('team', 'bob'), ('team', 'ann@example.org');
    CREATE TABLE users (login TEXT, password TEXT, uid INT, gid INT, home TEXT);
    INSERT INTO users VALUES ('ann', 'pass:word', 1000, 100, '/home/ann');
    CREATE TABLE names (name TEXT);
    INSERT INTO names VALUES ('example.org'), ('*.example.net'), ('192.0.2.1'), ('@example.com'), ('bob@example.org');
"""
QUERIES = """
# how to ask
dbpath {path}
query_alias SELECT target FROM aliases WHERE name = ?
query_credentials SELECT login, password FROM users WHERE login = $1;
query_userinfo SELECT uid, gid, home FROM users WHERE login = ?1
query_domain SELECT 1 FROM names WHERE ?1 GLOB name
query_netaddr SELECT name FROM names WHERE name = ?
query_mailaddr SELECT name FROM names WHERE name = ?
query_mailaddrmap SELECT target FROM aliases WHERE name = ?
fetch_source SELECT name FROM names WHERE name GLOB '[0-9]*'
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mail?.db"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.close()
    return path


def a_table(database: Path, service: Service, queries: str = QUERIES, shape: Shape = Shape.MAPPING) -> SqliteTable:
    path = database.parent / "sqlite.conf"
    path.write_text(queries.format(path=database))
    table = SqliteTable("t", str(path))
    table.load()
    return table.serving(shape, service)


def test_several_rows_are_one_list_of_targets(database: Path) -> None:
    table = a_table(database, ALIAS)
    assert table.lookup("Root") == "ann"
    assert table.lookup("team") == "bob, ann@example.org"
    assert table.lookup("nobody") is None
    assert table.lookup("\udcff") is None


def test_columns_are_joined_as_a_file_would_write_them(database: Path) -> None:
    assert secret_of(a_table(database, SECRETS), "ann") == Secret("ann", "pass:word")
    assert a_table(database, CREDENTIALS).lookup("ann") == "ann:pass:word"
    user = find_userinfo(a_table(database, USERINFO), "ann")
    assert user is not None
    assert (user.uid, user.gid, user.home) == (1000, 100, "/home/ann")


def test_every_use_asks_its_own_query(database: Path) -> None:
    assert has_domain(a_table(database, DOMAIN), "a.example.net")
    assert has_source(a_table(database, NETADDR), "192.0.2.1")
    assert not has_source(a_table(database, NETADDR), "192.0.2.2")
    assert has_address(a_table(database, MAILADDR), parse_address("x@example.com"), "+")
    assert not has_address(a_table(database, MAILADDR), parse_address("x@example.org"), "+")
    assert has_mailaddr_for(a_table(database, MAILADDRMAP), "team", parse_address("ann@example.org"))
    assert list(a_table(database, SOURCE, shape=Shape.EITHER).keys()) == ["192.0.2.1"]


def test_a_use_that_the_file_does_not_speak_of_is_told(database: Path) -> None:
    with pytest.raises(TableSyntaxError, match='no line "query_alias", which the configuration needs'):
        a_table(database, ALIAS, "dbpath {path}\n")
    with pytest.raises(TableSyntaxError, match="regular expressions"):
        a_table(database, REGEX)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("query_alias SELECT ?\n", 1, 'expected a line "dbpath /path"'),
        ("dbpath x\n", 1, 'expected an absolute path, found "x"'),
        ("dbpath\n", 1, 'nothing behind "dbpath"'),
        ("dbpath /a\ndbpath /b\n", 2, '"dbpath" stands here twice'),
        ("dbpath /a\n\n# x\nquery_aliases SELECT ?\n", 4, 'unknown word "query_aliases"; did you mean "query_alias"?'),
        ("dbpath /a\nask SELECT ?\n", 2, 'unknown word "ask": expected dbpath, query_USE or fetch_USE'),
        ("dbpath /a\nquery_regex SELECT ?\n", 2, 'unknown word "query_regex"'),
    ],
)
def test_a_line_that_means_nothing_is_told(text: str, line: int, said: str) -> None:
    with pytest.raises(TableSyntaxError) as raised:
        parse_queries(text)
    assert raised.value.line == line
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT target FROM nowhere WHERE name = ?", "no such table: nowhere"),
        ("SELECT", "incomplete input"),
        ("SELECT target FROM aliases", "uses 0"),
        ("SELECT target FROM aliases WHERE name = ? OR name = ?", "uses 2"),
        ("SELECT 1; SELECT ?", "one statement at a time"),
    ],
)
def test_a_query_that_cannot_work_is_told_when_the_table_is_loaded(database: Path, query: str, said: str) -> None:
    with pytest.raises(TableUnavailable, match=said):
        a_table(database, ALIAS, f"dbpath {{path}}\nquery_alias {query}\n")


def test_a_query_writes_nothing(database: Path) -> None:
    table = a_table(database, ALIAS, "dbpath {path}\nquery_alias DELETE FROM aliases WHERE name = ? RETURNING target\n")
    with pytest.raises(TableUnavailable, match="readonly"):
        table.lookup("root")


def test_a_query_that_takes_too_long_makes_the_table_unavailable(database: Path) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n WHERE x != ?"
    table = a_table(database, ALIAS, f"dbpath {{path}}\nquery_alias {endless}\n")
    began = time.monotonic()
    with pytest.raises(TableUnavailable, match="interrupted"):
        table.lookup("root")
    assert time.monotonic() - began < 5


def test_a_database_that_is_gone_makes_the_table_unavailable_and_its_return_ends_that(database: Path) -> None:
    table = a_table(database, ALIAS)
    database.rename(database.parent / "away")
    table.refresh()
    assert "No such file" in table.trouble
    with pytest.raises(TableUnavailable, match="No such file"):
        table.lookup("root")
    (database.parent / "away").rename(database)
    assert table.lookup("root") == "ann"
    assert table.trouble == ""


def test_a_change_is_seen_at_the_next_lookup_and_so_is_another_database(database: Path) -> None:
    table = a_table(database, ALIAS)
    writer = sqlite3.connect(database)
    with writer:
        writer.execute("UPDATE aliases SET target = 'bob' WHERE name = 'root'")
    writer.close()
    assert table.lookup("root") == "bob"
    other = sqlite3.connect(database.parent / "new")
    other.executescript("CREATE TABLE aliases (name, target); INSERT INTO aliases VALUES ('root', 'eve')")
    other.close()
    (database.parent / "new").rename(database)
    assert table.lookup("root") == "eve"


def test_a_database_that_somebody_writes_to_for_long_makes_the_table_unavailable(database: Path) -> None:
    table = a_table(database, ALIAS)
    writer = sqlite3.connect(database, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TableUnavailable, match="locked"):
        table.lookup("root")
    writer.execute("ROLLBACK")
    writer.close()
    assert table.lookup("root") == "ann"


def test_several_threads_may_ask_at_once(database: Path) -> None:
    table = a_table(database, ALIAS)
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.extend(table.lookup("root") for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["ann"] * 200
