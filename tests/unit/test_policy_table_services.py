"""How keys are compared, use by use."""

from __future__ import annotations

import pytest

from policy.config import RelayTls, Smarthost
from policy.errors import TableUnavailable
from policy.tables.inline import InlineTable
from policy.tables.passwd import User
from policy.tables.service import ADDRNAME, NETADDR, USERINFO
from policy.tables.services import (
    find_userinfo,
    has_address,
    has_domain,
    has_mailaddr_for,
    has_source,
    hostname_for,
    smarthost_for,
)
from spool.address import NULL_SENDER, Address, parse_address


def a_list(*keys: str) -> InlineTable:
    return InlineTable.of_list("t", keys)


def a_mapping(**entries: str) -> InlineTable:
    return InlineTable.of_mapping("t", entries)


def address(text: str) -> Address:
    return parse_address(text) if text else NULL_SENDER


@pytest.mark.parametrize(
    ("pattern", "domain", "is_found"),
    [
        ("example.org", "EXAMPLE.org", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "a.example.org.invalid", False),
        ("*", "anything", True),
        ("mx*.example.org", "MX12.example.org", True),
        ("*.x.*.org", "a.x.b.x.c.org", True),
    ],
)
def test_a_star_in_a_domain_stands_for_any_depth(pattern: str, domain: str, is_found: bool) -> None:
    assert has_domain(a_list(pattern), domain) is is_found


@pytest.mark.parametrize(
    ("pattern", "source", "is_found"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.0/24", "192.0.2.77", True),
        ("192.0.2.0/24", "192.0.3.1", False),
        ("192.0.2.9/24", "192.0.2.77", True),
        ("0.0.0.0/0", "::1", False),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("[2001:DB8:0:0::1]", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("IPv6:2001:db8::/32", "2001:db8:ffff::1", True),
        ("[2001:db8::]/32", "[2001:db8::7]", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("local", "local", True),
        ("LOCAL", "local", True),
        ("0.0.0.0/0", "local", False),
        ("local", "127.0.0.1", False),
        ("192.0.2.1", "mail.example.org", False),
    ],
)
def test_a_source_is_compared_by_its_network(pattern: str, source: str, is_found: bool) -> None:
    assert has_source(a_list(pattern), source) is is_found


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        ("ann@example.org", "Ann@Example.org", True),
        ("ann@example.org", "ann+tag@example.org", True),
        ("ann+tag@example.org", "ann+tag@example.org", True),
        ("ann+tag@example.org", "ann@example.org", False),
        ("ann+tag@example.org", "ann+other@example.org", False),
        ("ann", "ann@anywhere.example", True),
        ("ann", "ann+tag@anywhere.example", True),
        ("ann", "anna@anywhere.example", False),
        ("@example.org", "bob@example.org", True),
        ("@example.org", "bob@sub.example.org", False),
        ("@*.example.org", "bob@sub.example.org", True),
        ("ann@*.example.org", "ann+x@sub.example.org", True),
        ("ann@*.example.org", "bob@sub.example.org", False),
        ("@", "bob@example.org", True),
        ("@", "", True),
        ("", "bob@example.org", True),
        ("ann@example.org", "", False),
        ("@*", "", False),
        ("ann@example.org", '"ann@example.org"@evil.example', False),
        ("ann@example.org", '"ann@example.org+x"@evil.example', False),
        ("@example.org", '"@example.org"@evil.example', False),
        ("ann@*.example.org", '"ann@a.example.org"@evil.example', False),
        ('"ann@example.org"@evil.example', '"ann@example.org"@evil.example', True),
    ],
)
def test_a_mail_address_is_compared_by_its_parts(pattern: str, text: str, is_found: bool) -> None:
    assert has_address(a_list(pattern), address(text), "+") is is_found


@pytest.mark.parametrize(
    ("senders", "text", "is_found"),
    [
        ("ann@example.org", "ANN@example.org", True),
        ("bob@example.org, ann@example.org", "ann@example.org", True),
        ("bob@example.org,@example.com", "anybody@example.com", True),
        ("@*.example.org", "x@a.example.org", True),
        ("ann@example.org", "ann+tag@example.org", True),
        ("ann", "ann@example.com", True),
        ("@", "x@y.example", True),
        ("bob@example.org", "ann@example.org", False),
        ("bob@example.org,", "ann@example.org", False),
        ("ann@example.org", "", False),
    ],
)
def test_a_login_may_send_as_each_address_of_its_value(senders: str, text: str, is_found: bool) -> None:
    assert has_mailaddr_for(a_mapping(ann=senders), "Ann", address(text)) is is_found


def test_a_login_without_a_value_may_send_as_nobody() -> None:
    assert not has_mailaddr_for(a_mapping(ann="@"), "bob", address("bob@example.org"))


@pytest.mark.parametrize("source", ["2001:db8::1", "[2001:db8::1]", "2001:DB8:0::1"])
def test_a_host_name_is_found_by_an_address_in_any_spelling(source: str) -> None:
    assert hostname_for(InlineTable.of_mapping("t", {"[2001:db8::1]": "six.example.org"}), source) == "six.example.org"


def test_an_address_without_a_host_name_has_none() -> None:
    table = InlineTable.of_mapping("t", {"192.0.2.1": "mx.example.org"})
    assert hostname_for(table, "192.0.2.1") == "mx.example.org"
    assert hostname_for(table, "192.0.2.2") is None


def test_a_value_that_is_no_host_name_is_none() -> None:
    assert hostname_for(InlineTable.of_mapping("t", {"192.0.2.1": "not a name"}), "192.0.2.1") is None


def test_a_user_is_described_by_numbers_and_a_home() -> None:
    assert find_userinfo(a_mapping(ann="1001:100:/srv/a:b"), "Ann") == User("Ann", 1001, 100, "/srv/a:b")
    assert find_userinfo(a_mapping(ann="1001:100:/srv"), "bob") is None


@pytest.mark.parametrize(
    "value", ["1001", "1001:100", "x:100:/srv", "1001:-1:/srv", "1001:100:srv", "4294967295:1:/", "²:1:/"]
)
def test_a_value_that_describes_no_user_makes_its_table_unavailable(value: str) -> None:
    with pytest.raises(TableUnavailable, match='value of "ann" is not uid:gid:home'):
        find_userinfo(a_mapping(ann=value), "ann")


def test_a_domain_has_the_smarthost_that_its_url_says() -> None:
    table = InlineTable.of_mapping("t", {"example.org": "smtp+tls://key@relay.example.net:587", "bad.example": "x://y"})
    assert smarthost_for(table, "Example.org") == Smarthost(RelayTls.REQUIRED, "relay.example.net", 587, "key")
    assert smarthost_for(table, "sub.example.org") is None
    with pytest.raises(TableUnavailable):
        smarthost_for(table, "bad.example")


def test_entries_that_could_never_serve_are_told_when_a_table_is_loaded() -> None:
    assert NETADDR.fault("300.0.0.1", "") == '"300.0.0.1" is no IP address, network or "local"'
    assert USERINFO.fault("ann", "1:2") == 'the value of "ann" is not uid:gid:home'
    assert ADDRNAME.fault("mx", "a") == '"mx" is no IP address: expected ADDRESS = NAME'
    assert ADDRNAME.fault("2001:db8:0::1", "a") == '"2001:db8:0::1" is never asked for: expected "[2001:db8::1]"'
    assert ADDRNAME.fault("192.0.2.1", "a b") == 'the value of "192.0.2.1" is no host name'
    assert ADDRNAME.fault("[2001:db8::1]", "mx.example.org") is None
    said = 'an IPv6 address that is a key stands in brackets: expected "[2001:..."'
    assert ADDRNAME.fault("2001", "db8::1 mx.example.org") == said
