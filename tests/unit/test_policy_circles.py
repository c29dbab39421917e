"""Aliases that lead back to themselves draw a warning with the whole circle, and others draw none."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.check_circles import MAX_TOLD
from policy.circles import MAX_ENTRIES
from tests.tools.configured import Configured

OFFICE = """
action "local" mbox alias <aliases>
action "out" relay
match from any for local action "local"
match for any action "out"
"""
VIRTUAL = """
action "virtual" maildir virtual <vusers>
action "out" relay
match from any for domain { "example.com", "example.org" } action "virtual"
match for any action "out"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def office(configured: Configured, aliases: str) -> list[str]:
    configured.write("aliases", aliases)
    return told(configured, OFFICE)


def virtual(configured: Configured, vusers: str) -> list[str]:
    configured.write("vusers", vusers)
    return told(configured, VIRTUAL)


def told(configured: Configured, text: str) -> list[str]:
    """The circles, each with the file and line where it is said to be."""
    warnings = configured.read(text).warnings
    found = [
        (Path(each.path).name, each.line, each.message)
        for each in warnings
        if "to themselves" in each.message or "to itself" in each.message
    ]
    return [f"{name}:{line}: {message.rpartition(': ')[2]}" for name, line, message in found]


@pytest.mark.parametrize(
    ("aliases", "circles"),
    [
        ("a b\nb a\n", ["aliases:1: a -> b -> a"]),
        ("# x\nroot ann\na b, ann\nb: c\nc zoe@example.net, a\n", ["aliases:3: a -> b -> c -> a"]),
        ("x a\na b\nb a\n", ["aliases:2: a -> b -> a"]),
        ("a b\nb a\nc d\nd c\n", ["aliases:1: a -> b -> a", "aliases:3: c -> d -> c"]),
        ("a b+tag\nb a\n", ["aliases:1: a -> b+tag -> a"]),
        ("a b@localhost\nb a\n", ["aliases:1: a -> b@localhost -> b -> a"]),
        ("a b@[127.0.0.1]\nb a@mail.example.org\n", ["aliases:1: a -> b@[127.0.0.1] -> b -> a@mail.example.org -> a"]),
    ],
)
def test_aliases_that_lead_back_to_themselves_are_told_with_the_whole_circle(
    configured: Configured, aliases: str, circles: list[str]
) -> None:
    assert office(configured, aliases) == circles


@pytest.mark.parametrize(
    "aliases",
    [
        "",
        "ann ann, bob\n",
        "ann ann@localhost, bob\n",
        "a b, c\nb c\nc ann\n",
        "a b@example.net\nb a\n",
        "a error:550 a, b\nb a\n",
        "a a+x\na+x ann\n",
        "bad a b\n",
    ],
)
def test_aliases_that_end_somewhere_are_not_told(configured: Configured, aliases: str) -> None:
    assert office(configured, aliases) == []


@pytest.mark.parametrize(
    ("vusers", "circles"),
    [
        (
            "a@example.com b@example.org\nb@example.org a@example.com\n",
            ["vusers:1: a@example.com -> b@example.org -> a@example.com"],
        ),
        ("@example.com info@example.com\n", ["vusers:1: info@example.com -> info@example.com"]),
        ("a@example.com x\nx y\ny@ x\n", ["vusers:2: x -> y -> x"]),
        ("a@example.com ann\nann ann\n", []),
        ("a@example.com a@example.net\n", []),
        ("a@example.com b@example.com\n@example.com ann\n", []),
    ],
)
def test_virtual_addresses_that_lead_back_to_themselves_are_told(
    configured: Configured, vusers: str, circles: list[str]
) -> None:
    assert virtual(configured, vusers) == circles


def test_a_circle_in_the_configuration_itself_is_told_where_it_is_written(configured: Configured) -> None:
    text = 'table t { x = ann,\n a = b, b = a }\naction "local" mbox alias <t>\nmatch for local action "local"\n'
    assert told(configured, text) == ["smtpd.conf:2: a -> b -> a"]
    text = 'action "local" mbox alias {\n a = b, b = a }\nmatch for local action "local"\n'
    assert told(configured, text) == ["smtpd.conf:2: a -> b -> a"]


def test_a_circle_of_two_actions_with_one_table_is_told_once(configured: Configured) -> None:
    configured.write("aliases", "a b\nb a\n")
    assert len(told(configured, OFFICE + 'action "more" maildir alias <aliases>\n')) == 1


def test_so_many_circles_are_told_and_then_that_there_are_more(configured: Configured) -> None:
    warnings = office(
        configured, "".join(f"a{number} b{number}\nb{number} a{number}\n" for number in range(MAX_TOLD + 3))
    )
    assert len(warnings) == MAX_TOLD + 1
    assert warnings[0].startswith("smtpd.conf:2: ")


def test_a_long_chain_needs_no_deep_stack(configured: Configured) -> None:
    length = 5000
    (circle,) = office(configured, "".join(f"a{number} a{(number + 1) % length}\n" for number in range(length)))
    assert circle.count(" -> ") == length


def test_a_large_table_is_looked_through_in_part_and_says_so_to_who_wants_to_know(configured: Configured) -> None:
    ordinary = "".join(f"name{number} ann\n" for number in range(MAX_ENTRIES))
    assert office(configured, f"a b\nb a\n{ordinary}y z\nz y\n") == ["aliases:1: a -> b -> a"]
    notes = configured.read(OFFICE).notes
    assert f"table aliases: only its first {MAX_ENTRIES} entries were searched for aliases that lead back" in notes


def test_aliases_are_not_looked_through_while_a_rule_names_no_action(configured: Configured) -> None:
    configured.write("aliases", "ann bob@example.net\nbob ann@example.net\n")
    wrong = OFFICE.replace('match for any action "out"', 'match for any action "away"')
    assert configured.errors(wrong) == ['5:22: no action "away" is declared; declared are: local, out']
