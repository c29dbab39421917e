"""Which rule decides: every form of ``from`` and ``for``, every condition, and negation."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.config import Condition, Facts
from policy.errors import TableUnavailable
from policy.ruleset import match
from spool.address import NULL_SENDER, Address, parse_address
from tests.tools.configured import Configured

SENDER = Address("ann", "example.net")
STRANGER = Facts("198.51.100.7", SENDER, helo="mx.example.net")
NAMED = Facts("198.51.100.7", SENDER, rdns="MX.Example.net")
LOOPBACK = Facts("127.0.0.1", SENDER)
SOCKET = Facts("local", SENDER, login="")


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def holds(configured: Configured, conditions: str, facts: Facts, recipient: str = "bob@example.com") -> bool:
    """Whether a rule with these conditions matches."""
    config = configured.load(f'action "a" mbox\nmatch {conditions} action "a"\n')
    return match(config, facts, parse_address(recipient)) is not None


def changed(facts: Facts, **changes: object) -> Facts:
    values = {name: getattr(facts, name) for name in Facts.__slots__}
    return Facts(**{**values, **changes})


FROM = [
    ("from any", STRANGER, True),
    ("from any", SOCKET, True),
    ("from local", SOCKET, True),
    ("from local", LOOPBACK, True),
    ("from local", changed(STRANGER, source="::1"), True),
    ("from local", changed(STRANGER, source="192.0.2.25"), True),
    ("from local", changed(STRANGER, source="fe80::25%2"), True),
    ("from local", changed(STRANGER, source="::ffff:127.0.0.1"), True),
    ("from local", changed(STRANGER, source="192.0.2.26"), False),
    ("from local", STRANGER, False),
    ("! from local", STRANGER, True),
    ("!from local", LOOPBACK, False),
    ("", STRANGER, False),
    ("", LOOPBACK, True),
    ("from socket", SOCKET, True),
    ("from socket", LOOPBACK, False),
    ('from src "198.51.100.7"', STRANGER, True),
    ("from src 198.51.100.0/24", STRANGER, True),
    ("from src 198.51.100.0/29", changed(STRANGER, source="198.51.100.8"), False),
    ("from src { 10.0.0.0/8, 198.51.100.0/24 }", STRANGER, True),
    ('from src "2001:db8::/32"', changed(STRANGER, source="2001:db8:0::7"), True),
    ('from src "[2001:0DB8::7]"', changed(STRANGER, source="2001:db8::7"), True),
    ('from src "IPv6:2001:db8::7"', changed(STRANGER, source="2001:db8::7"), True),
    ('from src "0.0.0.0/0"', changed(STRANGER, source="2001:db8::7"), False),
    ('from src "local"', SOCKET, True),
    ("! from src 198.51.100.0/24", STRANGER, False),
    ("from auth", STRANGER, False),
    ("from auth", changed(STRANGER, login="ann"), True),
    ("from auth", SOCKET, True),
    ('from auth "ann"', changed(STRANGER, login="Ann"), True),
    ('from auth "ann"', changed(STRANGER, login="bob"), False),
    ('from auth "ann"', SOCKET, False),
    ("! from auth", STRANGER, True),
    ('! from auth "ann"', changed(STRANGER, login="bob"), True),
    ("from rdns", STRANGER, False),
    ("from rdns", NAMED, True),
    ("! from rdns", STRANGER, True),
    ("! from rdns", NAMED, False),
    ('from rdns "mx.example.net"', NAMED, True),
    ('from rdns "*.example.net"', NAMED, True),
    ('from rdns "*.example.org"', NAMED, False),
    ('from rdns "*"', STRANGER, False),
    ('! from rdns "*.example.org"', NAMED, True),
    ('! from rdns "*.example.org"', STRANGER, False),
    ('from mail-from "@example.net"', STRANGER, True),
    ('! from mail-from "@example.net"', STRANGER, False),
    ('! from mail-from "@example.org"', STRANGER, True),
]


@pytest.mark.parametrize(("conditions", "facts", "expected"), FROM)
def test_from_looks_at_where_the_client_is(
    configured: Configured, conditions: str, facts: Facts, expected: bool
) -> None:
    assert holds(configured, f"{conditions} for any", facts) is expected


FOR = [
    ("for any", "bob@example.com", True),
    ("for local", "bob@localhost", True),
    ("for local", "bob@mail.example.org", True),
    ("for local", "bob@MAIL", True),
    ("for local", "bob@127.0.0.1", True),
    ("for local", "bob@[127.0.0.1]", True),
    ("for local", "bob@[IPv6:::1]", True),
    ("for local", "bob@[192.0.2.25]", True),
    ("for local", "bob@[192.0.2.26]", False),
    ("for local", "bob@example.org", False),
    ("", "bob@localhost", True),
    ("", "bob@example.com", False),
    ("! for local", "bob@example.com", True),
    ('for domain "example.com"', "bob@Example.COM", True),
    ('for domain "example.com"', "bob@sub.example.com", False),
    ('for domain "*.example.com"', "bob@sub.example.com", True),
    ('for domain "*.example.com"', "bob@a.b.example.com", True),
    ('for domain "*.example.com"', "bob@example.com", False),
    ('for domain "*"', "bob@anything.example", True),
    ('for domain "mx*.example.*"', "bob@mx1.sub.example.org", True),
    ('for domain { "example.org", "example.com" }', "bob@example.com", True),
    ('! for domain "example.com"', "bob@example.com", False),
    ('for rcpt-to "bob@example.com"', "Bob@Example.com", True),
    ('for rcpt-to "bob"', "bob@example.com", True),
    ('for rcpt-to "@example.com"', "bob@example.com", True),
    ('for rcpt-to "@*.com"', "bob@example.com", True),
    ('for rcpt-to "bob@*.com"', "ann@example.com", False),
    ('for rcpt-to "@"', "bob@example.com", True),
    ('for rcpt-to "bob@example.com"', "bob+tag@example.com", True),
    ('for rcpt-to "bob+tag@example.com"', "bob@example.com", False),
    ('for rcpt-to "bob+tag@example.com"', "bob+tag@example.com", True),
]


@pytest.mark.parametrize(("conditions", "recipient", "expected"), FOR)
def test_for_looks_at_the_recipient(configured: Configured, conditions: str, recipient: str, expected: bool) -> None:
    assert holds(configured, f"from any {conditions}", STRANGER, recipient) is expected


FURTHER = [
    ("auth", STRANGER, False),
    ("auth", changed(STRANGER, login="ann"), True),
    ("! auth", STRANGER, True),
    ('auth "ann@example.net"', changed(STRANGER, login="ann+x@example.net"), True),
    ('auth "@example.net"', changed(STRANGER, login="ann@example.net"), True),
    ('auth "ann"', changed(STRANGER, login="ann"), True),
    ('auth "@example.net"', changed(STRANGER, login="ann@@"), False),
    ("tls", STRANGER, False),
    ("tls", changed(STRANGER, tls=True), True),
    ("! tls", STRANGER, True),
    ('tag "Inside"', changed(STRANGER, tag="inside"), True),
    ('tag "inside"', STRANGER, False),
    ('! tag "inside"', STRANGER, True),
    ('helo "*.example.net"', STRANGER, True),
    ('helo "*.example.org"', STRANGER, False),
    ('! helo "*.example.net"', STRANGER, False),
    ('helo "*"', changed(STRANGER, helo=""), False),
    ('mail-from "ann"', STRANGER, True),
    ('mail-from "@example.net"', STRANGER, True),
    ('mail-from "bob@example.net"', STRANGER, False),
    ('mail-from "@"', changed(STRANGER, mail_from=NULL_SENDER), True),
    ('mail-from "@example.net"', changed(STRANGER, mail_from=NULL_SENDER), False),
    ('! mail-from "@example.net"', STRANGER, False),
    ('rcpt-to "bob"', STRANGER, True),
    ('! rcpt-to "bob"', STRANGER, False),
    ('tls auth mail-from "ann"', changed(STRANGER, tls=True, login="ann"), True),
    ('tls auth mail-from "ann"', changed(STRANGER, tls=True), False),
]


@pytest.mark.parametrize(("conditions", "facts", "expected"), FURTHER)
def test_every_condition_of_a_rule_must_hold(
    configured: Configured, conditions: str, facts: Facts, expected: bool
) -> None:
    assert holds(configured, f"from any for any {conditions}", facts) is expected


REGEX = [
    ('tag regex "^in"', changed(STRANGER, tag="Inside"), True),
    ('tag regex "^side"', changed(STRANGER, tag="Inside"), False),
    ('helo regex { "^x", "EXAMPLE\\.net$" }', STRANGER, True),
    ('! helo regex "example"', STRANGER, False),
    ('auth regex "^a..$"', changed(STRANGER, login="ann"), True),
    ('auth regex "@example"', changed(STRANGER, login="ann@example.net"), True),
    ('auth regex "."', changed(STRANGER, login=""), False),
    ('mail-from regex "^ann@"', STRANGER, True),
    ('mail-from regex "^@$"', changed(STRANGER, mail_from=NULL_SENDER), True),
    ('rcpt-to regex "[0-9]"', STRANGER, False),
    ('rcpt-to regex "^bob@.*\\.com$"', STRANGER, True),
]


@pytest.mark.parametrize(("conditions", "facts", "expected"), REGEX)
def test_regular_expressions_are_found_anywhere_whatever_the_case(
    configured: Configured, conditions: str, facts: Facts, expected: bool
) -> None:
    assert holds(configured, f"from any for any {conditions}", facts) is expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ('from src regex "^198\\.51\\." for any', True),
        ('! from src regex "^198\\.51\\." for any', False),
        ('from rdns regex "^mx[0-9]*\\.Example" for any', True),
        ('from auth regex "." for any', False),
        ('from mail-from regex "^ann" for any', True),
        ('from any for domain regex "^example\\.(com|org)$"', True),
        ('from any ! for domain regex "ample"', False),
        ('from any for rcpt-to regex "^BOB@"', True),
    ],
)
def test_from_and_for_take_regular_expressions(configured: Configured, conditions: str, expected: bool) -> None:
    assert holds(configured, conditions, NAMED) is expected


def test_a_wrong_expression_is_found_when_the_configuration_is_read(configured: Configured) -> None:
    (error,) = configured.errors('match mail-from regex { "a", "(b" } for any reject\n')
    assert error.startswith('1:30: "(b" is no regular expression')


INTERNAL = [
    ("from local", True),
    ("from any", True),
    ('from src "local"', True),
    ("from src 198.51.100.0/24", False),
    ("from socket", False),
    ("! from socket", False),
    ("from rdns", False),
    ("! from rdns", False),
    ('from rdns "mx.example.net"', False),
    ('from rdns "local"', True),
]


@pytest.mark.parametrize(("conditions", "expected"), INTERNAL)
def test_an_address_out_of_an_alias_comes_from_here_and_has_neither_socket_nor_name(
    configured: Configured, conditions: str, expected: bool
) -> None:
    assert holds(configured, f"{conditions} for any", changed(NAMED, is_internal=True)) is expected


def test_conditions_are_asked_in_the_order_of_opensmtpd_however_they_are_written(configured: Configured) -> None:
    config = configured.load(
        'match rcpt-to "bob" mail-from "ann" tls auth helo "mx" for any from any tag "in" reject\n'
    )
    (rule,) = config.rules
    asked = [each.what if isinstance(each, Condition) else type(each).__name__ for each in rule.asked]
    assert asked == ["tag", "From", "For", "helo", "auth", "tls", "mail-from", "rcpt-to"]


def test_a_table_behind_the_first_condition_that_fails_is_not_asked(configured: Configured) -> None:
    path = configured.write("froms", "ann@example.net\n")
    config = configured.load("match mail-from <froms> for local reject\nmatch from any for any reject\n")
    path.unlink()
    assert match(config, STRANGER, Address("bob", "example.com")) is config.rules[1]


def test_the_first_rule_that_matches_decides(configured: Configured) -> None:
    config = configured.load(
        'action "a" mbox\naction "b" relay\n'
        'match from any for domain "example.com" action "a"\n'
        'match from any for any action "b"\n'
    )
    found = match(config, STRANGER, Address("bob", "example.com"))
    assert found is not None
    assert found.action == "a"
    assert found.place.endswith("smtpd.conf:3")


def test_no_rule_is_none(configured: Configured) -> None:
    config = configured.load('action "a" mbox\nmatch for local action "a"\n')
    assert match(config, STRANGER, Address("bob", "localhost")) is None


def test_a_table_that_is_gone_stops_the_search_instead_of_matching_nothing(configured: Configured) -> None:
    path = configured.write("vdoms", "example.com\n")
    config = configured.load(
        'action "a" mbox\nmatch from any for domain <vdoms> action "a"\nmatch from any for any reject\n'
    )
    path.unlink()
    with pytest.raises(TableUnavailable):
        match(config, STRANGER, Address("bob", "example.com"))


def test_a_table_behind_the_deciding_rule_is_not_asked(configured: Configured) -> None:
    path = configured.write("vdoms", "example.com\n")
    config = configured.load(
        'action "a" mbox\nmatch from any for any action "a"\nmatch from any for domain <vdoms> action "a"\n'
    )
    path.unlink()
    assert match(config, STRANGER, Address("bob", "example.com")) is not None


@pytest.mark.parametrize("condition", ["from rdns", "! from rdns", 'from rdns "*"'])
def test_a_name_that_the_dns_does_not_give_stops_the_search(configured: Configured, condition: str) -> None:
    config = configured.load(f"match {condition} for any reject\n")
    with pytest.raises(TableUnavailable):
        match(config, changed(STRANGER, is_rdns_known=False), parse_address("bob@example.org"))
    assert match(config, changed(NAMED, is_rdns_known=False), parse_address("bob@example.org")) or "!" in condition
