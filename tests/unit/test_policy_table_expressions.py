"""Regular expressions of tables: what they match, and what is said of those that are none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from policy.tables.expressions import Expressions, expression_fault
from policy.tables.file import FileTable
from policy.tables.format import TableSyntaxError
from policy.tables.inline import InlineTable
from policy.tables.service import REGEX
from policy.tables.services import has_regex
from policy.tables.table import Shape


@pytest.mark.parametrize(
    ("expression", "key", "is_found"),
    [
        ("spam", "no.SPAM.example.org", True),
        ("^spam", "no.spam.example.org", False),
        ("^[^.]+$", "localhost", True),
        ("^[^.]+$", "mail.example.org", False),
        ("[A-Z]oo", "foo", True),
        ("(?i)FOO", "foo", True),
        ("[[:digit:]]{1,3}-[[:digit:]]+", "host-12-345.example", True),
        ("[]x]", "a]", True),
        (r"^\S+@x$", "a@x", True),
        (r"\<mx[0-9]*\>", "the.mx1.example", True),
        (r"\<mx[0-9]*\>", "thmx1.example", False),
        ("[[:<:]]mx", "a mx", True),
        (r"\\<", r"a\<", True),
        ("@(a|b)[.]org$", "x@b.org", True),
        ("^@$", "@", True),
        ("m.x", "müx", True),
    ],
)
def test_an_expression_is_found_anywhere_and_in_any_case(expression: str, key: str, is_found: bool) -> None:
    assert Expressions.of([expression]).match(key) is is_found


def test_one_of_several_expressions_is_enough() -> None:
    assert has_regex(InlineTable.of_list("t", ["^a", "b$"]), "xb")
    assert not has_regex(InlineTable.of_list("t", ["^a", "b$"]), "xbx")


def test_a_table_without_expressions_has_nothing() -> None:
    assert not has_regex(InlineTable.of_list("t", []), "")


@pytest.mark.parametrize("expression", ["(a", "a)", "[z-a]", "*a", "a**", r"(a)\1", "(?=a)", "a{1,2000}", "\udcff"])
def test_what_is_no_expression_is_told_with_its_text(expression: str) -> None:
    fault = expression_fault(expression)
    assert fault is not None
    assert f'"{expression}" is no regular expression: ' in fault


def test_an_expression_that_others_take_hours_for_takes_no_time() -> None:
    expressions = Expressions.of(["(a+)+$", "^(a|a)*$", "(.*a){20}$"])
    began = time.process_time()
    assert not expressions.match("a" * 5000 + "b")
    assert time.process_time() - began < 1


def test_a_key_that_is_not_utf8_can_be_asked_for() -> None:
    assert has_regex(InlineTable.of_list("t", ["^a.b$"]), "a\udcffb")


def test_a_file_keeps_the_text_of_its_expressions(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("# @list\n^\\S+$\n^a\\s+b$\n")
    table = FileTable("t", str(path))
    table.load()
    assert has_regex(table, "word")
    assert has_regex(table, "A  B")
    assert not has_regex(table, "two words")


def test_two_expressions_that_differ_in_case_alone_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("# @list\n^a\\S+$\n^a\\s+$\n")
    table = FileTable("t", str(path))
    table.load()
    assert has_regex(table, "ab")
    assert has_regex(table, "a ")


def test_a_table_of_expressions_with_one_that_is_none_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("^a\n(b\n")
    table = FileTable("t", str(path))
    table.load()
    with pytest.raises(TableSyntaxError) as raised:
        table.serving(Shape.LIST, REGEX)
    assert (raised.value.line, str(raised.value)) == (2, '"(b" is no regular expression: missing ): (b')


def test_an_expression_that_breaks_later_keeps_the_old_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t"
    path.write_text("^a\n")
    table = FileTable("t", str(path))
    table.load()
    table.serving(Shape.LIST, REGEX)
    path.write_text("^a\n(bbb\n")
    assert has_regex(table, "a")
    assert not has_regex(table, "b")
    assert f"{path}:2:" in caplog.text
