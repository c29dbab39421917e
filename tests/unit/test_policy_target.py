"""The right side of an alias."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.tables.patterns import Wildcards, glob_matches
from policy.tables.services import split_tag
from policy.target import (
    MAX_TARGETS,
    DirectTarget,
    ErrorTarget,
    IncludeTarget,
    MailboxTarget,
    TargetSyntaxError,
    UserTarget,
    parse_targets,
)
from spool.address import Address
from spool.reply import Reply


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("ann", UserTarget("ann")),
        ("Ann+Tag", UserTarget("ann+tag")),
        ("\\ann", UserTarget("ann")),
        ("www-data", UserTarget("www-data")),
        ("ann@Example.org", MailboxTarget(Address("ann", "Example.org"))),
        ("ann@[192.0.2.1]", MailboxTarget(Address("ann", "[192.0.2.1]"))),
        ("|/bin/program", DirectTarget("|/bin/program")),
        ("| /bin/program -x", DirectTarget("|/bin/program -x")),
        ('"|/bin/program a, b"', DirectTarget("|/bin/program a, b")),
        ('|"/bin/program a, b"', DirectTarget("|/bin/program a, b")),
        ("\"|program 'a b'\"", DirectTarget("|program 'a b'")),
        ('"|program \\"a b\\""', DirectTarget('|program "a b"')),
        ("/var/log/mail", DirectTarget("/var/log/mail")),
        ('"/var/log/two words"', DirectTarget("/var/log/two words")),
        ("error:550 No such user", ErrorTarget(Reply(550, "5.0.0", "No such user"))),
        (":error:421 4.7.0 Later", ErrorTarget(Reply(421, "4.7.0", "Later"))),
        ("error:450 5.7.0 is a text", ErrorTarget(Reply(450, "4.0.0", "5.7.0 is a text"))),
        ('"error:550 Gone, for good"', ErrorTarget(Reply(550, "5.0.0", "Gone, for good"))),
        (":include:/etc/list", IncludeTarget("/etc/list")),
        ("include:/etc/list", IncludeTarget("/etc/list")),
    ],
)
def test_each_kind_of_target_is_recognised(value: str, target: object) -> None:
    assert parse_targets(value) == (target,)


def test_commas_separate_targets_and_blanks_around_them_mean_nothing() -> None:
    assert parse_targets(" ann ,bob,\t@x, ".replace("@x", "zoe@x.example")) == (
        UserTarget("ann"),
        UserTarget("bob"),
        MailboxTarget(Address("zoe", "x.example")),
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        " , ",
        "ann bob",
        "ann # the boss",
        "a@b@",
        "@example.org",
        "|",
        "/",
        "error:200 fine",
        "error:550",
        ":include:list",
        '"ann',
        "ann!",
        "ann\x00",
        "ann\nbob",
        "|program \x1b[0m",
    ],
)
def test_what_is_no_target_spoils_the_whole_value(value: str) -> None:
    with pytest.raises(TargetSyntaxError):
        parse_targets(value)


@given(st.text())
def test_any_text_is_targets_or_a_syntax_error(value: str) -> None:
    with contextlib.suppress(TargetSyntaxError):
        assert parse_targets(value)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a.b", "a.b", True),
        ("*", "", True),
        ("*.b", "a.b", True),
        ("*.b", "b", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a.b.c", True),
        ("a*b*c", "acb", False),
        ("a*bc*c", "abc", False),
        ("**a", "xa", True),
        ("*a*a*a*a*a*a*a*a*a*b", "a" * 255, False),
    ],
)
def test_a_star_stands_for_any_text(pattern: str, text: str, matches: bool) -> None:
    assert glob_matches(pattern, text) is matches


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_stars_mean_what_they_mean_to_everybody(pattern: str, text: str) -> None:
    import fnmatch

    assert glob_matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


@pytest.mark.parametrize(
    ("user", "expected"),
    [("ann+x", ("ann", "x")), ("ann", ("ann", "")), ("+x", ("+x", "")), ("ann+", ("ann", "")), ("a+b+c", ("a", "b+c"))],
)
def test_a_tag_begins_at_the_first_delimiter(user: str, expected: tuple[str, str]) -> None:
    assert split_tag(user, "+") == expected


@given(st.lists(st.text("a.*", max_size=6), max_size=4), st.text("a.", max_size=8))
def test_many_patterns_mean_what_each_of_them_means(patterns: list[str], text: str) -> None:
    starred = [each for each in patterns if "*" in each]
    assert Wildcards(starred).match(text) is any(glob_matches(each, text) for each in starred)


def test_a_value_that_wants_a_list_server_is_no_list_of_targets() -> None:
    assert len(parse_targets(", ".join(["ann"] * MAX_TARGETS))) == MAX_TARGETS
    with pytest.raises(TargetSyntaxError, match="more than 20000 targets"):
        parse_targets(", ".join(["ann"] * (MAX_TARGETS + 1)))
