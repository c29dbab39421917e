"""Why a rule did not match is said in words that name the condition as written and the value compared with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from policy.config import Facts
from policy.explain import Trial
from policy.explain_rules import tried
from spool.address import NULL_SENDER, Address, parse_address
from tests.tools.configured import Configured

CLIENT = Facts("198.51.100.7", Address("ann", "example.net"))
SOCKET = Facts("local", NULL_SENDER, login="")


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def trials(configured: Configured, text: str, facts: Facts = CLIENT, **changes: Any) -> tuple[Trial, ...]:
    config = configured.load(f'table t {{ "a", "b" }}\naction "x" mbox\n{text}\n')
    return tried(config, dataclasses.replace(facts, **changes), parse_address("bob@example.com")).trials


REASONS: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, "from local: 198.51.100.7 is not of this machine"),
    ("! from any", {}, "! from any: nobody is left"),
    ("from socket", {}, "from socket: the client is 198.51.100.7"),
    ("! from src 198.51.100.0/24", {}, "! from src 198.51.100.0/24: 198.51.100.7 is in it"),
    ("from src { 10.0.0.0/8, ::1 }", {}, 'from src { 10.0.0.0/8, "::1" }: 198.51.100.7 is not in it'),
    (
        "from src 10.0.0.0/8",
        {"is_internal": True},
        'from src 10.0.0.0/8: "local", as it came out of an alias, is not in it',
    ),
    ("from auth", {}, "from auth: the client is not logged in"),
    ("from auth <t>", {"login": "ann"}, 'from auth <t>: "ann" is not in it'),
    ("from auth <t>", {"source": "local", "login": ""}, "from auth <t>: the socket has no login"),
    ("! from auth", {"login": "ann"}, "! from auth: the client is logged in as ann"),
    ("from rdns", {}, "from rdns: the client has no name in the reverse DNS"),
    ("from rdns <t>", {}, "from rdns <t>: the client has no name in the reverse DNS"),
    ("from rdns <t>", {"rdns": "mx.example.net"}, 'from rdns <t>: "mx.example.net" is not in it'),
    ("from rdns regex <t>", {"rdns": "mx.org"}, 'from rdns regex <t>: "mx.org" fits none of its patterns'),
    ("! from rdns", {"rdns": "mx.org"}, "! from rdns: the client is mx.org"),
    ("from rdns", {"is_internal": True}, "from rdns: it came out of an alias, and has no client"),
    ("from any", {}, 'for local: "example.com" is no name of this machine'),
    ("from any ! for any", {}, "! for any: nobody is left"),
    ("from any for domain <t>", {}, 'for domain <t>: "example.com" is not in it'),
    ("from any ! for rcpt-to bob", {}, '! for rcpt-to bob: "bob@example.com" is in it'),
    ("from any for any tag <t>", {}, "tag <t>: the listener has no tag"),
    ("from any for any tag <t>", {"tag": "c"}, 'tag <t>: "c" is not in it'),
    ("from any for any helo <t>", {}, "helo <t>: the client gave no name"),
    ("from any for any auth", {}, "auth: the client is not logged in"),
    ("from any for any tls", {}, "tls: the session is not in TLS"),
    ("from any for any ! tls", {"tls": True}, "! tls: the session is in TLS"),
    ("from any for any mail-from <t>", {}, "mail-from <t>: <ann@example.net> is not in it"),
    ('from any for any rcpt-to "@x"', {}, 'rcpt-to @x: "bob@example.com" is not in it'),
    (
        r'from any for any rcpt-to regex { "^[A-C]\S$", Bob@X }',
        {},
        r'rcpt-to regex { "^[A-C]\S$", Bob@X }: "bob@example.com" fits none of its patterns',
    ),
    (
        "from any for any rcpt-to { a, b, c, d, e, f }",
        {},
        'rcpt-to { a, b, c, d, and 2 more }: "bob@example.com" is not in it',
    ),
]


@pytest.mark.parametrize(("conditions", "changes", "reason"), REASONS)
def test_a_rule_that_does_not_match_says_why(
    configured: Configured, conditions: str, changes: dict[str, Any], reason: str
) -> None:
    (trial,) = trials(configured, f"match {conditions} reject", **changes)
    assert (trial.matched, trial.reason) == (False, reason)


def test_the_rule_that_decides_says_all_that_holds_and_is_the_last(configured: Configured) -> None:
    first, second = trials(
        configured,
        'match for domain "c" reject\nmatch from auth for any ! tls mail-from ann action "x"\nmatch for any reject',
        login="ann",
    )
    assert (first.matched, first.rule) == (False, "match from local for domain c reject")
    assert (second.matched, second.rule) == (True, "match from auth for any ! tls mail-from ann action x")
    assert second.reason == (
        "from auth: the client is logged in as ann; ! tls: the session is not in TLS; "
        "mail-from ann: <ann@example.net> is in it"
    )
    assert second.place.endswith("smtpd.conf:4")


def test_a_rule_for_everything_says_so(configured: Configured) -> None:
    (trial,) = trials(configured, "match from any for any reject")
    assert (trial.matched, trial.reason) == (True, "it is for everything")


def test_a_table_that_cannot_be_asked_ends_the_story(configured: Configured) -> None:
    path = configured.write("vdoms", "example.com\n")
    config = configured.load("match from any for domain <vdoms> reject\nmatch from any for any reject\n")
    path.unlink()
    (trial,) = tried(config, CLIENT, Address("bob", "example.com")).trials
    assert trial.matched is False
    assert trial.reason.endswith("No such file or directory: nothing can be decided now")


def test_the_socket_is_named(configured: Configured) -> None:
    (trial,) = trials(configured, "match from src 10.0.0.0/8 for any reject", SOCKET)
    assert trial.reason == "from src 10.0.0.0/8: the socket is not in it"
