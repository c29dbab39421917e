"""Addresses in From, To and Cc: completed and replaced, and nothing else touched."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.addressing import MAX_OCTETS, masquerade, qualify

HOST = "mx.example"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ann", "ann@mx.example"),
        ("ann, bob@b.example", "ann@mx.example, bob@b.example"),
        ("Ann Smith <ann>", "Ann Smith <ann@mx.example>"),
        ('"Smith, Ann" <ann>', '"Smith, Ann" <ann@mx.example>'),
        ('"ann@home" <ann>', '"ann@home" <ann@mx.example>'),
        ('"ann smith"', '"ann smith"@mx.example'),
        ('"ann@home"', '"ann@home"@mx.example'),
        ("ann (of mx, you@know)", "ann@mx.example (of mx, you@know)"),
        ("(a (nested) one) ann", "(a (nested) one) ann@mx.example"),
        ("friends: ann, Bob <bob>;", "friends: ann@mx.example, Bob <bob@mx.example>;"),
        ("friends:; , ann", "friends:; , ann@mx.example"),
        ("ann,\r\n\tbob", "ann@mx.example,\r\n\tbob@mx.example"),
        ("< ann >", "< ann@mx.example >"),
        ("ann.smith+tag", "ann.smith+tag@mx.example"),
        ("=?utf-8?q?J=C3=BCrgen?= <j>", "=?utf-8?q?J=C3=BCrgen?= <j@mx.example>"),
        ("gr\xfcn", "gr\xfcn@mx.example"),
    ],
)
def test_an_address_without_a_domain_gets_ours(written: str, meant: str) -> None:
    for name in ("From", "to", "CC "):
        header = f"Subject: ann\r\n{name}: {written}\r\nX: y\r\n"
        assert qualify(header.encode(), HOST).decode() == f"Subject: ann\r\n{name}: {meant}\r\nX: y\r\n"


@pytest.mark.parametrize(
    "written",
    [
        "ann@example.org",
        "Ann <ann@example.org>, bob@b.example",
        "<@relay.example,@b.example:ann@c.example>",
        "ann @ example.org",
        "<>",
        "",
        "undisclosed-recipients:;",
        "ann smith",
        '"open',
        "(open",
        "<open",
        "a <b> <c>",
        "a <b> : c",
        "x)",
        "back\\slash",
        "ann@[192.0.2.1]",
    ],
)
def test_everything_else_stays_as_it_is(written: str) -> None:
    header = f"To: {written}\r\n".encode()
    assert qualify(header, HOST) == header


def test_other_fields_are_left_alone() -> None:
    header = b"Sender: ann\r\nReply-To: ann\r\nX-To: ann\r\nSubject: x\r\n To: ann\r\n"
    assert qualify(header, HOST) == header


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ann@a.example", "s@s.example"),
        ("Ann <ann>, Bob <bob@b.example>", "Ann <s@s.example>, Bob <s@s.example>"),
        ("ann @ a.example (me)", "s@s.example (me)"),
    ],
)
def test_a_masquerade_replaces_every_address_of_from(written: str, meant: str) -> None:
    header = f"To: x@y.example\r\nFrom: {written}\r\n".encode()
    assert masquerade(header, "s@s.example").decode() == f"To: x@y.example\r\nFrom: {meant}\r\n"


@pytest.mark.parametrize(
    "written",
    [
        "CEO <ceo@bank.example",
        "CEO ceo@bank.example>",
        '"CEO <ceo@bank.example>',
        "CEO \\ <ceo@bank.example>",
        "CEO (<ceo@bank.example>",
        "ann <ann@b.example>, ceo@bank.example <>",
        "ceo@bank.example, <",
        "CEO <ceo@bank.example> <ann@b.example>",
        ", ".join(["ceo@bank.example"] * 5000),
    ],
)
def test_a_from_that_is_no_list_of_addresses_does_not_escape_a_masquerade(written: str) -> None:
    assert masquerade(f"From: {written}\r\n".encode(), "ann@b.example") == b"From: ann@b.example\r\n"


def test_long_lists_before_it_do_not_keep_from_from_a_masquerade() -> None:
    others = b"To: " + b"bob@b.example, " * (MAX_OCTETS // 10) + b"bob@b.example\r\n"
    header = masquerade(others + b"From: CEO <ceo@bank.example>\r\n", "ann@b.example")
    assert header == others + b"From: CEO <ann@b.example>\r\n"


def test_a_list_beyond_any_measure_is_left_alone_in_little_time() -> None:
    header = b"To: " + b"," * (MAX_OCTETS - 10) + b"\r\nCc: " + b"a," * 100_000 + b"\r\n"
    started = time.process_time()
    assert qualify(header, HOST) == header
    assert time.process_time() - started < 1


@given(st.text(alphabet='ab@,;:<>()"\\[] \t', max_size=40))
def test_a_field_stays_one_field_and_a_second_time_changes_nothing(value: str) -> None:
    header = f"To: {value}\r\n".encode()
    once = qualify(header, HOST)
    assert once.count(b"\r\n") == 1
    assert once.replace(b"@mx.example", b"") == header
    assert qualify(once, HOST) == once
