"""Options that choose envelopes, as they are typed."""

from __future__ import annotations

import getopt

import pytest

from control.choosing import CHOOSING, COUNTING, chosen, counted, listed
from control.client import ControlError
from control.smtpctl import LONG_OPTIONS
from spool.filter import ANY, Filter, Trait
from spool.state import Kind, State

DAY = 24 * 3600 * 1000


def typed(*words: str) -> list[tuple[str, str]]:
    return getopt.gnu_getopt(list(words), "", LONG_OPTIONS)[0]


def test_options_become_a_filter_of_everything() -> None:
    options = typed(
        "--sender", "<>", "--domain=dead.example", "--state", "held", "--kind", "failed", "--older", "1d12h"
    )
    wanted = Filter(sender="<>", domain="dead.example", state=State.HELD, kind=Kind.FAILED, older=DAY + DAY // 2)
    assert chosen((), options) == ("all", wanted)
    assert chosen(("0dqe8uk7v0",), options) == ("0dqe8uk7v0", wanted)


def test_an_option_that_is_shortened_is_the_same() -> None:
    assert listed((), typed("--dom", "dead.example")) == ("all", Filter(domain="dead.example"))


def test_nothing_said_is_everything_for_a_listing_and_an_error_for_a_change() -> None:
    assert listed((), []) == ("all", ANY)
    with pytest.raises(ControlError, match="which envelopes"):
        chosen((), [])


def test_every_choice_is_an_option() -> None:
    assert {name.rstrip("=") for name in CHOOSING} == set(Filter.__struct_fields__) - {"uid"}


def test_what_is_counted_by_is_a_trait() -> None:
    assert COUNTING == ("count", "by=")
    assert counted(typed("--count")) is None
    assert counted(typed("--by", "domain")) is Trait.DOMAIN


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--older", "3"], "--older 3: expected a time such as 90s"),
        (["--newer", "3d2"], "--newer 3d2: expected a time"),
        (["--older", "99999999999d"], "expected a time"),
        (["--state", "open"], "--state open: expected one of ready, inflight, held, damaged"),
        (["--kind", "spam"], "expected one of mail, failed"),
        (["--domain", ""], "--domain needs a value"),
        (["--domain", "a.example", "--domain", "b.example"], "--domain is given twice"),
    ],
)
def test_what_makes_no_sense_is_said(words: list[str], complaint: str) -> None:
    with pytest.raises(ControlError, match=complaint):
        chosen((), typed(*words))


def test_counting_by_what_is_no_trait_names_those_that_are() -> None:
    with pytest.raises(ControlError, match="--by size: expected one of domain, action, state"):
        counted(typed("--by", "size"))
