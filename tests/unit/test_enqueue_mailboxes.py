"""Addresses in headers and operands, as sendmail reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.mailboxes import BadAddress, mailboxes
from ingress.paths import read_rcpt
from spool.address import parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"ann", [b"ann"]),
        (b" ann@example.org\n", [b"ann@example.org"]),
        (b"a@b, c@d", [b"a@b", b"c@d"]),
        (b"a@b,\n\tc@d,", [b"a@b", b"c@d"]),
        (b"root (Cron Daemon)", [b"root"]),
        (b"(nested (comments \\) here)) a@b (too)", [b"a@b"]),
        (b"Ann Lee <ann@b>", [b"ann@b"]),
        (b'"Lee, Ann" <ann@b>, "x\\"<y>" <c@d>', [b"ann@b", b"c@d"]),
        (b"team: a@b, C <c@d>;", [b"a@b", b"c@d"]),
        (b"undisclosed-recipients:;", []),
        (b'"ann lee"@b', [b'"ann lee"@b']),
        (b'<"a>b"@c>', [b'"a>b"@c']),
        (b"<@relay,@other:ann@b>", [b"ann@b"]),
        (b"a@[IPv6:2001:db8::1], <b@[192.0.2.1]>", [b"a@[IPv6:2001:db8::1]", b"b@[192.0.2.1]"]),
        (b"ann @ example.org", [b"ann@example.org"]),
        (b"<>", [b""]),
        (b"", []),
        ("jürgen@bücher.example".encode(), ["jürgen@bücher.example".encode()]),
    ],
)
def test_the_addresses_of_a_list_are_found(text: bytes, expected: list[bytes]) -> None:
    assert mailboxes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b'"open',
        b"(open",
        b"<open",
        b"a@[1",
        b"a b",
        b"<a b>",
        b"<a> <b>",
        b"a\0b",
        b"a\rb@c",
        b"a>b",
        b"(" * 500,
        b"a..b@c",
        b".a@b",
        b"a@",
        b"@b",
        b"a@b..c",
        b"a@-b",
        b"a@b-",
        b"a@[1.2.3]",
        b"a@[IPv6:1]",
        b"\xff@b",
        "a@b\u2028c".encode(),
        b"a" * 256,
        b'""@b',
        b'"a"b@c',
        b"a@b@c",
    ],
)
def test_what_is_no_list_of_addresses_is_refused(text: bytes) -> None:
    with pytest.raises(BadAddress):
        mailboxes(text)


_PIECES = [
    "a",
    "@",
    ".",
    "-",
    "_",
    "+",
    '"',
    "\\",
    " ",
    "<",
    ">",
    ",",
    ":",
    ";",
    "(",
    ")",
    "[",
    "]",
    "ü",
    "\x85",
    "\u2028",
    "\0",
    "\r\n",
]
_LITERALS = ["[192.0.2.1]", "[IPv6:::1]", "[IPv6:1]", "[01.2.3.4]", "[]", "[x]", "IPv6:"]


@given(
    st.lists(st.sampled_from(_PIECES + _LITERALS), max_size=12).map("".join).map(str.encode) | st.binary(max_size=20)
)
def test_what_comes_out_is_an_address_for_the_daemon_too(text: bytes) -> None:
    try:
        found = mailboxes(text)
    except BadAddress:
        return
    for address in filter(None, found):
        parsed = parse_address(address.decode(), default_domain="here.example")
        assert str(parsed) in (address.decode(), address.decode() + "@here.example") or address.startswith(b'"')
        read_rcpt(f"TO:<{address.decode()}>", "here.example", dsn=True, smtputf8=True)
