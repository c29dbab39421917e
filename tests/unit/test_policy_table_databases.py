"""Tables in databases of makemap's: found, replaced, damaged."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from control.table_build import build
from policy.errors import TableUnavailable
from policy.tables.database import DbTable
from policy.tables.format import TableSyntaxError
from policy.tables.service import ALIAS, DOMAIN, REGEX, USERINFO
from policy.tables.services import has_domain, has_regex, has_source
from policy.tables.table import Shape
from spool.files import SystemOps


def a_table(path: Path, entries: dict[str, str], shape: Shape = Shape.MAPPING) -> DbTable:
    build(str(path), shape, entries.items())
    table = DbTable("t", str(path))
    table.load()
    return table


def a_set(path: Path, *keys: str) -> DbTable:
    return a_table(path, {key.lower(): key for key in keys}, Shape.LIST)


def test_keys_are_found_whatever_their_case(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {"root": "Ann"})
    assert table.lookup("ROOT") == "Ann"
    assert table.lookup("nobody") is None
    assert table.lookup("\udcff") is None


def test_a_database_knows_its_shape(tmp_path: Path) -> None:
    assert a_set(tmp_path / "a.db", "a").shape is Shape.LIST
    assert a_table(tmp_path / "b.db", {"a": "b"}).shape is Shape.EITHER


def test_a_mapping_in_a_database_is_also_the_list_of_its_keys(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {"*.example.org": "OK"}).serving(Shape.LIST, DOMAIN)
    assert has_domain(table, "a.example.org")


def test_patterns_are_found_in_a_database(tmp_path: Path) -> None:
    table = a_set(tmp_path / "t.db", "*.Example.org", "10.0.0.0/8", "[2001:DB8::1]", "192.0.2.1", "example.com")
    assert has_domain(table, "a.b.EXAMPLE.org")
    assert not has_domain(table, "example.org")
    assert has_source(table, "10.1.2.3")
    assert has_source(table, "2001:db8::1")
    assert has_source(table, "::ffff:192.0.2.1")
    assert not has_source(table, "192.0.2.2")


def test_regular_expressions_are_kept_in_a_set_as_they_are_written(tmp_path: Path) -> None:
    assert has_regex(a_set(tmp_path / "t.db", r"^\S+$"), "word")


def test_a_database_that_is_replaced_is_noticed_at_the_next_lookup(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {"root": "ann"})
    assert not has_domain(table, "x.example.org")
    build(str(tmp_path / "t.db"), Shape.MAPPING, [("root", "bob"), ("*.example.org", "x")])
    assert table.lookup("root") == "bob"
    assert has_domain(table, "x.example.org")


def test_nothing_is_written_beside_a_database_that_is_read(tmp_path: Path) -> None:
    a_table(tmp_path / "t.db", {"root": "ann"}).lookup("root")
    assert os.listdir(tmp_path) == ["t.db"]


def test_a_database_that_is_gone_makes_the_table_unavailable_and_its_return_ends_that(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {"root": "ann"})
    (tmp_path / "t.db").rename(tmp_path / "away")
    table.refresh()
    assert "No such file" in table.trouble
    with pytest.raises(TableUnavailable, match="No such file"):
        table.lookup("root")
    (tmp_path / "away").rename(tmp_path / "t.db")
    assert table.lookup("root") == "ann"
    assert table.trouble == ""


@pytest.mark.parametrize("damage", [b"root: ann\n" * 100, b"SQLite format 3\0" + b"\0" * 4080])
def test_a_file_that_is_no_database_makes_the_table_unavailable(tmp_path: Path, damage: bytes) -> None:
    table = a_table(tmp_path / "t.db", {"root": "ann"})
    (tmp_path / "new").write_bytes(damage)
    (tmp_path / "new").rename(tmp_path / "t.db")
    with pytest.raises(TableUnavailable, match=r"t\.db: "):
        table.lookup("root")


def test_a_damaged_page_makes_the_table_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    a_table(path, {f"k{number:04}": "v" * 50 for number in range(500)})
    data = bytearray(path.read_bytes())
    data[5 * 4096 : -4096] = b"\xff" * (len(data) - 6 * 4096)
    path.write_bytes(data)
    table = DbTable("t", str(path))
    with pytest.raises(TableUnavailable, match="malformed"):
        [table.lookup(f"k{number:04}") for number in range(500)]


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute("CREATE TABLE entries (key, value)")
    connection.close()
    with pytest.raises(TableUnavailable, match="not a database of makemap"):
        DbTable("t", str(tmp_path / "t.db")).load()


def test_a_fifo_in_the_place_of_a_database_makes_the_table_unavailable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.db")
    with pytest.raises(TableUnavailable, match="not a regular file"):
        DbTable("t", str(tmp_path / "t.db")).load()


def test_a_database_of_another_shape_than_the_configuration_needs_makes_the_table_unavailable(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {"root": "ann"})
    table.serving(Shape.MAPPING, ALIAS)
    build(str(tmp_path / "t.db"), Shape.LIST, [("root", "root")])
    with pytest.raises(TableUnavailable, match="this is a list now, and the configuration needs a mapping"):
        table.lookup("root")


def test_entries_that_cannot_serve_are_told_when_a_database_is_loaded(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {"ann": "1000:1000:/home/ann", "bob": "x"})
    with pytest.raises(TableSyntaxError, match='the value of "bob" is not uid:gid:home'):
        table.serving(Shape.MAPPING, USERINFO)
    with pytest.raises(TableSyntaxError, match="no regular expression"):
        a_set(tmp_path / "s.db", "(a").serving(Shape.LIST, REGEX)


def test_an_empty_database_serves_as_either(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {}, Shape.EITHER)
    assert table.serving(Shape.LIST, DOMAIN).shape is Shape.EITHER
    assert list(table.keys()) == []


class FullDisk(SystemOps):
    """Nothing can be flushed."""

    def fsync(self, _descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_database_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.db", {"root": "ann"})
    with pytest.raises(OSError, match="No space"):
        build(str(tmp_path / "t.db"), Shape.MAPPING, [("root", "bob")], ops=FullDisk())
    assert os.listdir(tmp_path) == ["t.db"]
    assert table.lookup("root") == "ann"


class Recorder(SystemOps):
    """Tells what is done to files, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def fsync(self, _descriptor: int) -> None:
        self.done.append("fsync")

    def rename(self, source: str, target: str) -> None:
        self.done.append("rename")
        super().rename(source, target)

    def fsync_directory(self, _path: str) -> None:
        self.done.append("fsync_directory")


def test_a_database_is_on_disk_before_it_has_its_name_and_its_name_is_too(tmp_path: Path) -> None:
    ops = Recorder()
    build(str(tmp_path / "t.db"), Shape.MAPPING, [("a", "b")], ops=ops)
    assert ops.done == ["fsync", "rename", "fsync_directory"]


def test_a_database_of_nothing_we_can_look_at_is_made_by_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        build(str(tmp_path / "t.db"), Shape.MAPPING, [("a", "b")], "<stdin>")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "t.db").stat().st_mode) == 0o640


def test_a_database_may_have_a_name_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"M\xfcller?#%.db")
    assert a_table(path, {"root": "ann"}).lookup("root") == "ann"
