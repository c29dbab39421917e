"""Addresses in headers and operands, as sendmail reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.mailboxes import BadAddress, mailboxes


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
    [b'"open', b"(open", b"<open", b"a@[1", b"a b", b"<a b>", b"<a> <b>", b"a\0b", b"a\rb@c", b"a>b", b"(" * 500],
)
def test_what_is_no_list_of_addresses_is_refused(text: bytes) -> None:
    with pytest.raises(BadAddress):
        mailboxes(text)


@given(st.binary(max_size=60) | st.text('a@<>,;:"\\()[] \r\n', max_size=40).map(str.encode))
def test_nothing_that_comes_out_can_leave_its_angle_brackets(text: bytes) -> None:
    try:
        found = mailboxes(text)
    except BadAddress:
        return
    for address in found:
        assert not any(octet < 32 or octet == 127 for octet in address)
        assert address.startswith(b'"') or not set(address) & set(b" <>")
