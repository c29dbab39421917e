"""The receiver of a message's octets, against a naive one that sees them all at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress import replies
from ingress.data import DataReceiver
from ingress.limits import MAX_TEXT_LINE
from spool.reply import Reply

LIMIT = 10_000


@dataclass
class Received:
    """What came of a stream."""

    content: bytes
    fault: Reply | None
    finished: bool
    rest: bytes


def receive(*chunks: bytes, limit: int = LIMIT) -> Received:
    receiver, buffer, content = DataReceiver(limit), bytearray(), b""
    for chunk in chunks:
        buffer += chunk
        if not receiver.finished:
            content += receiver.feed(buffer)
    return Received(content, receiver.fault, receiver.finished, bytes(buffer))


def naive(stream: bytes) -> Received:
    """RFC 5321 4.5.2 word for word, for a stream that holds a whole message."""
    framed = b"\r\n" + stream
    end = framed.index(b"\r\n.\r\n")
    lines = framed[2 : end + 2].split(b"\r\n")[:-1] if end else []
    content = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines)
    bare = any(b"\r" in line or b"\n" in line for line in lines)
    fault = replies.BARE_CR_OR_LF if bare else replies.NUL_IN_MESSAGE if b"\0" in content else None
    return Received(content, fault, True, framed[end + 5 :])


#: Streams of the octets that matter to framing, in every order.
framing = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"\r\n.", b"\r\n.\r", b"\0", b"a", b"bc", b"\xff"]), max_size=30
).map(b"".join)
clean = st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n..", b"\r\n.b", b"\xe4"]), max_size=30).map(b"".join)


@given(st.one_of(framing, clean), st.sets(st.integers(0, 120)))
def test_however_the_stream_is_cut_it_reads_as_a_whole(stream: bytes, cuts: set[int]) -> None:
    stream += b"\r\n.\r\nQUIT\r\n"
    expected = naive(stream)
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(places)]
    got = receive(*chunks)
    assert (got.finished, got.rest) == (True, expected.rest)
    if expected.fault is None:
        assert (got.content, got.fault) == (expected.content, None)
    else:
        # With more than one fault, which is seen first depends on the cuts; refused it is.
        assert got.fault in {replies.BARE_CR_OR_LF, replies.NUL_IN_MESSAGE}


@given(clean)
def test_octet_by_octet_is_like_all_at_once(stream: bytes) -> None:
    stream += b"\r\n.\r\n"
    singly = receive(*(bytes([octet]) for octet in stream))
    assert singly == receive(stream)


@pytest.mark.parametrize(
    "terminator",
    [
        b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n",
        b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n .\r\n", b"\r\r\n.\r\r\n", b"\n\r.\r\n", b"\r\n.\n\r", b"\n.\r", b"\r.\n",
        b"\r\n.\x0b\r\n", b"\r\n.\x85\r\n", b"\x85.\x85", b"\xe2\x80\xa8.\xe2\x80\xa8", b"\0\r\n.\0\r\n", b"\r\n\r.\r\n",
        b"\n\n.\n\n",
    ],
)  # fmt: skip
def test_nothing_but_crlf_dot_crlf_ends_a_message(terminator: bytes) -> None:
    got = receive(b"x" + terminator + b"MAIL FROM:<a@b>\r\n")
    assert not got.finished


@pytest.mark.parametrize("line", [b"a\nb", b"a\rb", b"a\n\r", b"\r\r", b"\n"])
def test_a_bare_cr_or_lf_is_a_fault_and_the_message_is_read_to_its_end(line: bytes) -> None:
    got = receive(b"x\r\n", line, b"\r\nrest\r\n.\r\nQUIT\r\n")
    assert (got.fault, got.rest) == (replies.BARE_CR_OR_LF, b"QUIT\r\n")


@pytest.mark.parametrize("piece", [b"\ra\n", b"\n\ra", b"a\n\rb\n", b"\n"])
def test_a_bare_lf_where_the_network_cut_the_stream_is_a_fault(piece: bytes) -> None:
    assert receive(b"x\r\n", piece, b"y\r\n.\r\n").fault == replies.BARE_CR_OR_LF


def test_a_nul_is_a_fault() -> None:
    assert receive(b"a\0b\r\n.\r\n").fault == replies.NUL_IN_MESSAGE


def test_a_dot_alone_is_an_empty_message() -> None:
    got = receive(b".\r\n")
    assert (got.content, got.fault, got.finished) == (b"", None, True)


def test_a_message_of_exactly_the_limit_is_accepted() -> None:
    assert receive(b"x" * 98 + b"\r\n.\r\n", limit=100).fault is None


def test_one_octet_more_than_the_limit_is_refused() -> None:
    assert receive(b"x" * 99 + b"\r\n.\r\n", limit=100).fault == replies.TOO_BIG


def test_a_stuffed_dot_does_not_count_towards_the_size() -> None:
    assert receive(b".." + b"x" * 97 + b"\r\n.\r\n", limit=100).fault is None


def test_what_is_beyond_the_limit_is_not_kept() -> None:
    receiver, buffer = DataReceiver(100), bytearray(b"x" * 200)
    receiver.feed(buffer)
    for _ in range(100):
        buffer += b"y" * 1000
        assert receiver.feed(buffer) == b""
        assert len(buffer) < 5
    assert receiver.fault == replies.TOO_BIG


@pytest.mark.parametrize("chunk", [1000, 65535, 70_000, 1_000_000])
def test_a_line_as_long_as_allowed_is_accepted(chunk: int) -> None:
    stream = b"s\r\n" + b"x" * (MAX_TEXT_LINE - 2) + b"\r\n.\r\n"
    pieces = [stream[start : start + chunk] for start in range(0, len(stream), chunk)]
    assert receive(*pieces, limit=10**7).fault is None


@pytest.mark.parametrize("chunk", [1000, 65535, 70_000, 1_000_000])
def test_a_longer_line_is_refused(chunk: int) -> None:
    stream = b"s\r\n" * 40_000 + b"x" * (MAX_TEXT_LINE - 1) + b"\r\n.\r\n"
    pieces = [stream[start : start + chunk] for start in range(0, len(stream), chunk)]
    assert receive(*pieces, limit=10**7).fault == replies.TEXT_LINE_TOO_LONG


def test_octets_above_127_are_noticed() -> None:
    receiver = DataReceiver(LIMIT)
    receiver.feed(bytearray("grün\r\n.\r\n".encode()))
    assert receiver.eight_bit


def test_plain_ascii_is_not_eight_bit() -> None:
    receiver = DataReceiver(LIMIT)
    receiver.feed(bytearray(b"green\r\n.\r\n"))
    assert not receiver.eight_bit
