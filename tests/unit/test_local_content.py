from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.content import is_marked_as_spam, rd_quoted, unix_lines, was_delivered_to
from spool.bodies import SmallBody

PIECES = st.lists(st.sampled_from([b"From ", b">", b"\n", b"\r\n", b"\r", b"x", b"From", b" ", b"\n\n"]), max_size=30)


def unquoted(text: bytes) -> bytes:
    return re.sub(rb"(?m)^>(>*From )", rb"\1", text)


@given(PIECES)
def test_quoting_by_the_mboxrd_rule_can_be_undone_however_the_body_is_cut(pieces: list[bytes]) -> None:
    assert unquoted(b"".join(rd_quoted(pieces))) == b"".join(pieces)


@given(PIECES)
def test_no_quoted_line_looks_like_a_separator(pieces: list[bytes]) -> None:
    assert not re.search(rb"(?m)^From ", b"".join(rd_quoted(pieces)))


@given(PIECES)
def test_line_ends_become_lf_however_the_body_is_cut(pieces: list[bytes]) -> None:
    assert b"".join(unix_lines(pieces)) == b"".join(pieces).replace(b"\r\n", b"\n")


def test_a_line_of_many_pieces_is_not_collected() -> None:
    pieces = [b"x" * 65536] * 100
    assert max(map(len, rd_quoted(pieces))) < 2 * 65536


def test_a_separator_after_a_very_long_line_is_quoted() -> None:
    assert b"".join(rd_quoted([b"x" * 5000, b"From a\nFrom b\n"])) == b"x" * 5000 + b"From a\n>From b\n"


@pytest.mark.parametrize(
    "header",
    [
        b"Delivered-To: bob@example.org\r\n",
        b"delivered-to:BOB@Example.ORG\r\n",
        b"Subject: x\r\nDelivered-To:\r\n\t<bob@example.org>\r\nTo: y\r\n",
    ],
)
def test_a_message_that_was_delivered_to_an_address_is_recognised(header: bytes) -> None:
    assert was_delivered_to(SmallBody(header + b"\r\nhello\r\n"), "bob@example.org")


@pytest.mark.parametrize(
    "message",
    [
        b"Delivered-To: bobby@example.org\r\n\r\nhello\r\n",
        b"Subject: Delivered-To: bob@example.org\r\n\r\nhello\r\n",
        b"Subject: x\r\n\r\nDelivered-To: bob@example.org\r\n",
        b"X: y\r\n Delivered-To: bob@example.org\r\n\r\n",
        b"",
    ],
)
def test_other_mentions_of_an_address_are_no_loop(message: bytes) -> None:
    assert not was_delivered_to(SmallBody(message), "bob@example.org")


@pytest.mark.parametrize("header", [b"X-Spam: yes\r\n", b"Subject: x\r\nx-spam-flag: YES\r\nTo: a\r\n", b"X-SPAM: Yes"])
def test_a_mark_of_spam_is_a_whole_line_of_the_header_in_any_case(header: bytes) -> None:
    assert is_marked_as_spam(SmallBody(header + b"\r\nhello\r\n"))


@pytest.mark.parametrize(
    "message",
    [
        b"X-Spam: yes, maybe\r\n\r\n",
        b"X-Spam:yes\r\n\r\n",
        b"X-Spam-Level: yes\r\n\r\n",
        b"Subject: x\r\n\r\nX-Spam: yes\r\n",
        b"Subject: X-Spam: yes\r\n\r\n",
    ],
)
def test_what_only_resembles_a_mark_of_spam_is_none(message: bytes) -> None:
    assert not is_marked_as_spam(SmallBody(message))
