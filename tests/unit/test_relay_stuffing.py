"""Dots, and the ends of lines, on their way out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.stuffing import DotStuffer, NotWireForm, stuffed

lines = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x.", b"text"]), max_size=12)


def in_pieces(body: bytes, cuts: list[int]) -> bytes:
    stuffer = DotStuffer()
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    out = b"".join(stuffer.feed(body[start:end]) for start, end in itertools.pairwise(places))
    return out + stuffer.end()


def as_a_server_reads(octets: bytes) -> bytes:
    """RFC 5321 4.5.2, as plainly as it can be said."""
    *content, last, nothing = octets.split(b"\r\n")
    assert (last, nothing) == (b".", b"")
    assert b"." not in content
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in content)


@given(lines, st.lists(st.integers(1, 80), max_size=6))
def test_a_server_reads_what_was_sent_wherever_pieces_end(content: list[bytes], cuts: list[int]) -> None:
    body = b"".join(line + b"\r\n" for line in content)
    assert as_a_server_reads(in_pieces(body, cuts)) == body


def test_a_last_line_without_end_gets_one() -> None:
    assert stuffed(b"x") == b"x\r\n.\r\n"


def test_an_empty_body_is_only_the_dot() -> None:
    assert stuffed(b"") == b".\r\n"


@given(lines, st.sampled_from([b"\n", b"\r", b"\n.\n", b"\r.\r", b"\r\r\n", b"\n\r\n"]), st.lists(st.integers(1, 80)))
def test_a_cr_or_lf_that_stands_alone_is_never_sent_to_its_end(
    content: list[bytes], bad: bytes, cuts: list[int]
) -> None:
    body = b"".join(line + b"\r\n" for line in content) + b"x" + bad + b"x\r\n"
    with pytest.raises(NotWireForm):
        in_pieces(body, cuts)
