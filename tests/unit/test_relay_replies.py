"""Replies out of octets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.replies import MAX_LINE, MAX_LINES, GarbledReply, ReplyReader, make_reply


def read(*segments: bytes) -> list[str]:
    reader = ReplyReader()
    for segment in segments:
        reader.feed(segment)
    return [str(reader.pop()) for _ in range(len(reader))]


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 2.1.0 Ok\r\n", "250 2.1.0 Ok"),
        (b"250\r\n", "250"),
        (b"250-2.0.0 first\r\n250-2.0.0 second\r\n250 third\r\n", "250 2.0.0 first second third"),
        (b"354 go\n", "354 go"),
        (b"550 4.1.1 a class of another code is text\r\n", "550 4.1.1 a class of another code is text"),
        (b"220 2.3 is no status\r\n", "220 2.3 is no status"),
    ],
)
def test_a_reply_is_code_status_and_text(octets: bytes, reply: str) -> None:
    assert read(octets) == [reply]


def test_a_status_is_taken_only_when_its_class_fits_the_code() -> None:
    assert make_reply(550, ["4.1.1 x"]).status == ""
    assert make_reply(550, ["5.1.1 x"]).status == "5.1.1"


@given(st.lists(st.integers(1, 60), max_size=6))
def test_it_does_not_matter_where_segments_end(cuts: list[int]) -> None:
    octets = b"250-one\r\n250 two\r\n550 5.1.1 no\r\n354 go\r\n"
    places = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    assert read(*(octets[start:end] for start, end in itertools.pairwise(places))) == [
        "250 one two",
        "550 5.1.1 no",
        "354 go",
    ]


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"25 x\r\n",
        b"2500 x\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"250_x\r\n",
        b"\r\n",
        b"250-one\r\n251 two\r\n",
        b"x" * (MAX_LINE + 1),
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"250-x\r\n" * (MAX_LINES + 1),
    ],
)
def test_nonsense_and_floods_are_refused(octets: bytes) -> None:
    with pytest.raises(GarbledReply):
        read(octets)


@given(st.binary(max_size=300))
def test_any_octets_are_replies_or_refused_and_come_out_printable(octets: bytes) -> None:
    try:
        replies = read(octets)
    except GarbledReply:
        return
    assert all(reply.isprintable() for reply in replies)
