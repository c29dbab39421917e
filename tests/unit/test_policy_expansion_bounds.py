"""Whatever aliases, virtual addresses and .forward files say, an expansion ends, with each destination once or a refusal."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.admit import Refused, admit
from policy.circles import find_circles
from policy.config import REPORT_FACTS, AnyAction, Config, ExpandOnly, Facts, Maildir, Mbox, Relay, Rule
from policy.expand import MAX_DEPTH, MAX_DESTINATIONS, expand
from policy.forward import Forward
from policy.tables.inline import InlineTable
from policy.trail import FinalDestination, Refusal, Trail
from spool.address import Address, parse_address
from spool.message import Recipient
from spool.reply import Reply
from tests.tools.configured import Configured, FakeUsers
from tests.tools.forwarding import FakeForwards, Heard

NAMES = ("a", "b", "c", "d", "e+t", "e")
USERS = FakeUsers("a", "b", "e")
STRANGER = Facts("198.51.100.7", Address("sender", "example.net"))
CONFIGS = """
action "alias" mbox alias <aliases>
action "virtual" maildir virtual <vusers>
action "away" expand-only alias <aliases>
action "out" relay
match from any for domain "virtual.example" action "virtual"
match from any for domain "away.example" action "away"
match from any for local action "alias"
match for domain "closed.example" reject
match for any action "out"
"""
DOMAINS = ("localhost", "virtual.example", "away.example", "closed.example", "example.net")
ADDRESSES = st.builds("{}@{}".format, st.sampled_from(NAMES), st.sampled_from(DOMAINS))
TARGETS = st.sampled_from([*NAMES, "|cmd", "/dev/null", "error:550 no", "me"]) | ADDRESSES
VALUES = st.lists(TARGETS, min_size=1, max_size=4).map(", ".join)
ALIASES = st.dictionaries(st.sampled_from(NAMES), VALUES)
VUSERS = st.dictionaries(ADDRESSES | st.sampled_from([*NAMES, "a@", "@", "@virtual.example"]), VALUES)
FILES = st.dictionaries(st.sampled_from(["a", "b", "e"]), VALUES.map(lambda text: Forward(text.encode())))


@pytest.fixture(scope="module")
def frame() -> Iterator[Config]:
    with tempfile.TemporaryDirectory() as folder:
        configured = Configured(Path(folder))
        configured.write("aliases", "")
        configured.write("vusers", "")
        yield configured.load(CONFIGS)


def filled(frame: Config, aliases: dict[str, str], vusers: dict[str, str]) -> Config:
    by_name, by_address = InlineTable.of_mapping("aliases", aliases), InlineTable.of_mapping("vusers", vusers)
    actions: dict[str, AnyAction] = {
        "alias": Mbox(name="alias", alias=by_name),
        "virtual": Maildir(name="virtual", virtual=by_address),
        "away": ExpandOnly(name="away", alias=by_name),
        "out": Relay(name="out"),
    }
    return replace(frame, actions=actions)


class Steps(Heard):
    """Notes the longest way."""

    longest = 0

    def name(self, trail: Trail, name: str) -> None:
        self.longest = max(self.longest, len(trail.steps))

    def address(self, trail: Trail, address: Address, rule: Rule | None) -> None:
        self.longest = max(self.longest, len(trail.steps))


def identity(final: FinalDestination) -> tuple[str, ...]:
    """What makes two destinations one."""
    end = final.destination
    where = "" if end.user or end.target else f"{end.address.local}@{end.address.domain.lower()}"
    return final.action.name, end.user, end.extension, end.target, where


@given(ALIASES, VUSERS, FILES, ADDRESSES, st.booleans())
def test_an_expansion_ends_with_each_destination_once_or_with_a_refusal(
    frame: Config, aliases: dict[str, str], vusers: dict[str, str], files: dict[str, Forward], to: str, strange: bool
) -> None:
    config, watch = filled(frame, aliases, vusers), Steps()
    facts = STRANGER if strange else REPORT_FACTS
    forwards = FakeForwards(files, known_at_once=True)
    try:
        found = expand(config, facts, USERS, parse_address(to), forwards, watch)
    except Refusal as refusal:
        reply = refusal.reply
        found = ()
    else:
        reply = Reply(250, "2.1.5", f"<{to}>")
        assert 0 < len(found) <= MAX_DESTINATIONS
    assert (reply.code == 250) is bool(found)
    assert f"<{to}>" in reply.text
    assert len({identity(final) for final in found}) == len(found)
    assert watch.longest <= MAX_DEPTH


@given(ALIASES, VUSERS, FILES, ADDRESSES)
@settings(max_examples=40)
def test_fetching_files_in_rounds_finds_what_knowing_them_at_once_does(
    frame: Config, aliases: dict[str, str], vusers: dict[str, str], files: dict[str, Forward], to: str
) -> None:
    config, recipient = filled(frame, aliases, vusers), Recipient(parse_address(to))
    answers = []
    with start_blocking_portal() as portal:
        for known in (True, False):
            forwards = FakeForwards(files, known_at_once=known)
            answers.append(portal.call(partial(admit, config, REPORT_FACTS, recipient, USERS, forwards)))
    first, second = answers
    # Which of several reasons for a refusal is met first depends on what is known when.
    assert first == second or isinstance(first, Refused) is isinstance(second, Refused) is True


@given(ALIASES)
def test_mail_for_a_circle_is_refused(frame: Config, aliases: dict[str, str]) -> None:
    config = filled(frame, aliases, {})
    for circle in find_circles(config, Mbox(name="alias", alias=InlineTable.of_mapping("aliases", aliases))):
        first = circle.nodes[0].what
        to = first if isinstance(first, Address) else Address(first, "localhost")
        with pytest.raises(Refusal):
            expand(config, REPORT_FACTS, USERS, to)


@given(ALIASES, st.sampled_from(NAMES))
def test_a_refusal_for_leading_back_was_warned_of(frame: Config, aliases: dict[str, str], name: str) -> None:
    config = filled(frame, aliases, {})
    warned = list(find_circles(config, Mbox(name="alias", alias=InlineTable.of_mapping("aliases", aliases))))
    try:
        expand(config, REPORT_FACTS, USERS, Address(name, "localhost"))
    except Refusal as refusal:
        refused = str(refusal)
    else:
        refused = ""
    assert warned or "leads back to itself" not in refused
