"""How sendmail reads a message."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.source import BrokenSource, Source


class Arriving(Source):
    """A source whose message arrives in these pieces."""

    def __init__(self, pieces: tuple[bytes, ...], dot_ends: bool = True) -> None:
        super().__init__(-1, dot_ends)
        self._pieces = list(pieces)

    def _read_raw(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def read(*pieces: bytes, dot_ends: bool = True) -> bytes:
    return b"".join(iter(Arriving(pieces, dot_ends).read, b""))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((b"a\nb\n",), b"a\nb\n"),
        ((b"a\r\nb\r\n",), b"a\nb\n"),
        ((b"a\r", b"\nb"), b"a\nb"),
        ((b"a\rb",), b"a\rb"),
        ((b"a\r",), b"a\r"),
        ((b"nul\0 here\0",), b"nul here"),
        ((b"a\n.\nb\n",), b"a\n"),
        ((b"a\n", b".", b"\n", b"b"), b"a\n"),
        ((b"a\n.", b"\r", b"\nb"), b"a\n"),
        ((b".\nb\n",), b""),
        ((b"a\n.",), b"a\n"),
        ((b"a\n.", b"b\n"), b"a\n.b\n"),
        ((b"a\n..\nb",), b"a\n..\nb"),
        ((b"a", b".", b"\nb"), b"a.\nb"),
        ((b"a\r.\rb",), b"a\r.\rb"),
    ],
)
def test_a_message_is_read(pieces: tuple[bytes, ...], expected: bytes) -> None:
    assert read(*pieces) == expected


def test_a_lone_dot_is_text_when_it_is_told_so() -> None:
    assert read(b"a\n.\nb\n.\n", dot_ends=False) == b"a\n.\nb\n.\n"


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b".", b"\0", b"\r\n.", b"\n.\n"]), max_size=12), st.booleans())
def test_how_the_pipe_cuts_a_message_changes_nothing(parts: list[bytes], dot_ends: bool) -> None:
    whole = b"".join(parts)
    one_by_one = tuple(bytes([octet]) for octet in whole)
    assert read(*one_by_one, dot_ends=dot_ends) == read(whole, dot_ends=dot_ends)


def test_what_was_given_back_is_read_again() -> None:
    source = Arriving((b"second",))
    source.give_back(b"first ")
    assert [source.read(), source.read()] == [b"first ", b"second"]


def test_a_source_that_breaks_says_so() -> None:
    folder = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(BrokenSource, match="Is a directory"):
            Source(folder, dot_ends=True).read()
    finally:
        os.close(folder)
