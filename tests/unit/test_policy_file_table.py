"""Tables in files: read by their own rules, and read again when they change."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from policy.errors import TableUnavailable
from policy.tables.file import WRITING_NS, FileTable
from policy.tables.format import MAX_FAULTS, TableSyntaxError, parse_table
from policy.tables.service import ANY
from policy.tables.table import Shape


def table(path: Path, text: str) -> FileTable:
    path.write_text(text)
    found = FileTable("t", str(path))
    found.load()
    return found


def entries(text: str) -> dict[str, str]:
    return dict(parse_table(text).entries)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("root ann", "root", "ann"),
        ("root: ann", "root", "ann"),
        ("root:ann", "root", "ann"),
        ("root : ann", "root", "ann"),
        ("root\t\tann, bob", "root", "ann, bob"),
        ("@ foo@bar", "@", "foo@bar"),
        ("list :include:/etc/list", "list", ":include:/etc/list"),
        ("list: :include:/etc/list", "list", ":include:/etc/list"),
        ("gone: error:550 no such user", "gone", "error:550 no such user"),
        ("[2001:db8::1] name", "[2001:db8::1]", "name"),
        ("[2001:db8::1]:name", "[2001:db8::1]", "name"),
        ("  Root:  Ann  ", "root", "Ann"),
        ("a: b # c", "a", "b # c"),
    ],
)
def test_a_line_of_a_mapping_is_a_key_and_a_value(line: str, key: str, value: str) -> None:
    assert entries(line) == {key: value}


def test_comments_and_empty_lines_are_no_entries() -> None:
    assert entries("# roles\n\n  # more\nroot ann\n") == {"root": "ann"}


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert entries("root ann\nroot bob\n") == {"root": "bob"}


def test_the_first_entry_decides_for_a_list() -> None:
    content = parse_table("Example.ORG\nexample.com and more\n")
    assert content.shape is Shape.LIST
    assert list(content.entries) == ["example.org", "example.com and more"]


def test_a_comment_declares_a_list_whatever_the_entries_look_like() -> None:
    assert parse_table("# @list\n2001:db8::/32\n").shape is Shape.LIST


def test_a_file_without_an_entry_serves_as_list_and_as_mapping() -> None:
    shape = parse_table("# nothing yet\n").shape
    assert shape.serves(Shape.LIST)
    assert shape.serves(Shape.MAPPING)


@pytest.mark.parametrize("text", ["root ann\nbob\n", "root ann\nbob:\n", "root ann\nbob :\n", "root ann\n[::1 x\n"])
def test_an_entry_without_a_value_in_a_mapping_is_an_error_with_its_line(text: str) -> None:
    with pytest.raises(TableSyntaxError) as raised:
        parse_table(text)
    assert raised.value.line == 2


def test_every_line_that_is_no_entry_is_told() -> None:
    with pytest.raises(TableSyntaxError) as raised:
        parse_table("root ann\nbob\n# eve\ncarl x\ndan:\nev\x00e x\n")
    assert [fault.line for fault in raised.value.faults] == [2, 5, 6]


def test_a_file_that_is_no_table_at_all_is_given_up_early() -> None:
    with pytest.raises(TableSyntaxError) as raised:
        parse_table("a b\n" + "x\n" * 10_000)
    assert len(raised.value.faults) == MAX_FAULTS


@pytest.mark.parametrize("text", ["root ann\x00\n", "root \udcff\n", "ro\x1bot ann\n"])
def test_control_characters_and_broken_utf8_are_refused(text: str) -> None:
    with pytest.raises(TableSyntaxError):
        parse_table(text)


def test_a_comment_may_be_written_in_any_encoding() -> None:
    assert entries("# M\udcfcller\nroot ann\n") == {"root": "ann"}


def test_keys_are_found_whatever_their_case(tmp_path: Path) -> None:
    found = table(tmp_path / "t", "Root Ann\n")
    assert found.lookup("ROOT") == "Ann"
    assert found.lookup("nobody") is None


def test_a_file_that_is_replaced_is_noticed_at_the_next_lookup(tmp_path: Path) -> None:
    found = table(tmp_path / "t", "root ann\n")
    (tmp_path / "new").write_text("root bob\n")
    (tmp_path / "new").rename(tmp_path / "t")
    assert found.lookup("root") == "bob"


def test_a_file_that_is_edited_in_place_is_noticed_even_within_one_tick(tmp_path: Path) -> None:
    path = tmp_path / "t"
    found = table(path, "root ann\n")
    before = path.stat()
    path.write_text("root bob\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found.lookup("root") == "bob"


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t"
    path.write_text("root ann\n")
    os.utime(path, (1, 1))
    found = FileTable("t", str(path))
    found.load()
    monkeypatch.setattr("policy.tables.file._read_file", lambda _path: pytest.fail("read again"))
    assert found.lookup("root") == "ann"


def test_broken_new_content_keeps_the_old_and_is_complained_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = table(tmp_path / "t", "root ann\n")
    with caplog.at_level(logging.WARNING, "policy.tables"):
        (tmp_path / "t").write_text("root bob\nbroken\n")
        assert [found.lookup("root"), found.lookup("root")] == ["ann", "ann"]
    assert found.trouble.endswith("its old content is kept")
    assert [record.getMessage() for record in caplog.records] == [
        f"table t: {tmp_path}/t:2: a key without a value, in a table whose first entry has one: "
        "expected KEY VALUE or KEY: VALUE; its old content is kept"
    ]


def test_content_of_another_shape_than_the_configuration_needs_is_broken_content(tmp_path: Path) -> None:
    found = table(tmp_path / "t", "root ann\n")
    found.serving(Shape.MAPPING, ANY)
    (tmp_path / "t").write_text("just-a-key\n")
    assert found.lookup("root") == "ann"
    assert found.lookup("just-a-key") is None


def test_a_file_that_was_emptied_just_now_is_being_written_and_its_old_content_holds(tmp_path: Path) -> None:
    found = table(tmp_path / "t", "root ann\n")
    (tmp_path / "t").write_text("")
    assert found.lookup("root") == "ann"


def test_a_file_that_stays_empty_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("root ann\n")
    found = FileTable("t", str(path), lambda: time.time_ns() + 2 * WRITING_NS)
    found.load()
    path.write_text("")
    assert found.lookup("root") is None


def test_a_file_that_is_gone_makes_the_table_unavailable_and_its_return_ends_that(tmp_path: Path) -> None:
    found = table(tmp_path / "t", "root ann\n")
    (tmp_path / "t").rename(tmp_path / "away")
    with pytest.raises(TableUnavailable, match="No such file"):
        found.lookup("root")
    assert "No such file" in found.trouble
    (tmp_path / "away").rename(tmp_path / "t")
    assert found.lookup("root") == "ann"
    assert found.trouble == ""


def test_a_fifo_in_the_file_s_place_makes_the_table_unavailable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t")
    with pytest.raises(TableUnavailable, match="Not a regular file"):
        FileTable("t", str(tmp_path / "t")).load()
