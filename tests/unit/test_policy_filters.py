"""Filters: how they are read, and which of them decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.filtering import NameUnavailable, Seen, decide
from policy.filters import Deed, Filter, Phase
from spool.address import parse_address
from tests.tools.configured import Configured

ANN = Seen(
    "192.0.2.7",
    "mail.a.example",
    is_confirmed=True,
    helo="a.example",
    login="ann",
    sender=parse_address("ann@a.example"),
    recipient=parse_address("bob+tag@b.example"),
)
NOBODY = Seen("2001:db8::7")


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def filters(configured: Configured, *lines: str, option: str = "") -> tuple[Filter, ...]:
    text = "".join(f"filter {line}\n" for line in lines)
    names = option or f"{{ {', '.join(line.split()[0] for line in lines)} }}"
    return configured.load(f"{text}listen on socket filter {names}\nmatch for any reject\n").listeners[0].filters


@pytest.mark.parametrize(
    ("question", "of_ann", "of_nobody"),
    [
        ("fcrdns", True, False),
        ("! fcrdns", False, True),
        ("rdns", True, False),
        ('rdns "*.a.example"', True, False),
        ('! rdns "*.b.example"', True, True),
        ('rdns regex "^mail[.]"', True, False),
        ("src 192.0.2.0/24", True, False),
        ('src "[2001:db8::]/32"', False, True),
        (r'src regex "^\[2001:db8:"', False, True),
        ("helo A.example", True, False),
        ('helo regex { "nothing", "^a[.]" }', True, False),
        ("auth", True, False),
        ("! auth", False, True),
        ("auth { ANN }", True, False),
        ("auth bob", False, False),
        ('mail-from "@a.example"', True, False),
        ('mail-from regex "^@$"', False, True),
        ('mail-from regex "^ann@"', True, False),
        ('rcpt-to "bob@b.example"', True, False),
        ('rcpt-to regex "[+]tag@"', True, False),
    ],
)
def test_a_filter_asks_one_question(configured: Configured, question: str, of_ann: bool, of_nobody: bool) -> None:
    (only,) = filters(configured, f"f phase rcpt-to match {question} junk")
    assert [decide([only], seen).decider is only for seen in (ANN, NOBODY)] == [of_ann, of_nobody]


def test_the_first_that_does_not_only_report_decides(configured: Configured) -> None:
    asked = filters(
        configured,
        "a phase data match fcrdns report one",
        "b phase data match ! fcrdns junk",
        "c phase data match fcrdns report two",
        "d phase data match fcrdns bypass",
        "e phase data match fcrdns junk",
        "f phase data match fcrdns report three",
    )
    decision = decide(asked, ANN)
    assert decision.decider is asked[3]
    assert [each.text for each in decision.reports] == ["one", "two"]


def test_a_chain_is_its_filters_in_their_order_wherever_they_are_declared(configured: Configured) -> None:
    found = filters(
        configured,
        "outer chain { last, inner }",
        "inner chain { first, second }",
        "second phase helo match fcrdns junk",
        "first phase connect match fcrdns junk",
        "last phase data match fcrdns junk",
        option="outer",
    )
    assert [(each.name, each.phase) for each in found] == [
        ("last", Phase.DATA),
        ("first", Phase.CONNECT),
        ("second", Phase.HELO),
    ]


def test_a_listener_takes_one_name_or_several(configured: Configured) -> None:
    lines = ("a phase helo match fcrdns junk", 'b phase data match ! fcrdns reject "550 5.7.1 no"')
    assert [each.name for each in filters(configured, *lines, option="b")] == ["b"]
    (_, second) = filters(configured, *lines)
    assert (second.deed, str(second.reply), second.question.negated) == (Deed.REJECT, "550 5.7.1 no", True)


@pytest.mark.parametrize("question", ["fcrdns", "! fcrdns", "rdns", '! rdns "x.example"'])
def test_a_name_that_nobody_knows_decides_nothing(configured: Configured, question: str) -> None:
    asked = filters(configured, f"f phase helo match {question} junk")
    with pytest.raises(NameUnavailable):
        decide(asked, Seen("192.0.2.7", is_certain=False))
