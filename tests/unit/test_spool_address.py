"""Addresses: what is one, what is not, and that writing and reading agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.address import (
    MAX_DOMAIN_OCTETS,
    MAX_LOCAL_OCTETS,
    NULL_SENDER,
    Address,
    AddressSyntaxError,
    is_domain,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ann@example.org", Address("ann", "example.org")),
        ("Ann.B+tag@Example.ORG", Address("Ann.B+tag", "Example.ORG")),
        ('"a b"@example.org', Address("a b", "example.org")),
        (r'"a\"b\\c"@example.org', Address(r'a"b\c', "example.org")),
        ('"a@b"@example.org', Address("a@b", "example.org")),
        ("jörg@müller.example", Address("jörg", "müller.example")),
        ("ann@[192.0.2.1]", Address("ann", "[192.0.2.1]")),
        ("ann@[IPv6:2001:db8::1]", Address("ann", "[IPv6:2001:db8::1]")),
        ("!#$%&'*+/=?^_`{|}~-@x", Address("!#$%&'*+/=?^_`{|}~-", "x")),
        ("with_underscore@my_host", Address("with_underscore", "my_host")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@example.org",
        "ann@",
        "ann",
        "ann@.example",
        "ann@example..org",
        "ann@-example.org",
        "ann@example-.org",
        "ann@example.-org",
        "ann@example.org-",
        "ann@example.org.",
        ".ann@example.org",
        "ann.@example.org",
        "a..b@example.org",
        "a b@example.org",
        '"ann@example.org',
        '"ann"x@example.org',
        "ann@[192.0.2.256]",
        "ann@[192.0.2.1",
        "ann@[IPv6:zz]",
        "ann@exa mple.org",
        "ann\r\n@example.org",
        "ann\x00@example.org",
        "ann\x7f@example.org",
        "ann\x85@example.org",
        "ann\u2028@example.org",
        "ann\udcff@example.org",
        "a" * (MAX_LOCAL_OCTETS + 1) + "@example.org",
        "ann@" + "a" * (MAX_DOMAIN_OCTETS + 1),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_address(text)


def test_a_bare_name_takes_the_default_domain() -> None:
    assert parse_address("root", "example.org") == Address("root", "example.org")


def test_the_null_sender_is_written_as_nothing() -> None:
    assert (str(NULL_SENDER), NULL_SENDER.is_null) == ("", True)


def test_only_the_domain_is_without_case() -> None:
    ann = parse_address("ann@example.org")
    assert ann.same_mailbox(parse_address("ann@EXAMPLE.org"))
    assert not ann.same_mailbox(parse_address("Ann@example.org"))


def test_an_address_beyond_ascii_is_known() -> None:
    assert parse_address("ann@example.org").is_ascii
    assert not parse_address("jörg@example.org").is_ascii
    assert not parse_address("ann@müller.example").is_ascii


def test_a_domain_is_a_name_or_a_literal() -> None:
    assert is_domain("example.org")
    assert is_domain("[192.0.2.1]")
    assert not is_domain("a b")


LOCALS = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=30)


@given(LOCALS)
def test_what_is_written_is_read_back(local: str) -> None:
    address = Address(local, "example.org")
    assert parse_address(str(address)) == address


@given(st.text(max_size=40))
def test_no_text_makes_the_reader_stumble(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressSyntaxError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize("zone", ["%lo", "%25", "%) by trusted.example (x", "%$(id)", "%"])
def test_an_address_literal_has_no_zone(zone: str) -> None:
    assert not is_domain(f"[IPv6:fe80::1{zone}]")
