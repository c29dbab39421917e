"""Frames: what is written is read back, and nothing else is believed."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.protocol import (
    MAX_REQUEST,
    PREFIX,
    Change,
    Done,
    ProtocolError,
    ShowQueue,
    frame,
    payload_length,
    read_answer,
    read_request,
)
from tests.tools.rows import envelope


def test_a_request_comes_through_as_it_was() -> None:
    request = Change("hold", "all")
    framed = frame(request)
    assert payload_length(framed[:PREFIX], MAX_REQUEST) == len(framed) - PREFIX
    assert read_request(framed[PREFIX:]) == request


@pytest.mark.parametrize("answer", [envelope(), Done(7)])
def test_an_answer_comes_through_as_it_was(answer: Done) -> None:
    assert read_answer(frame(answer)[PREFIX:]) == answer


def test_a_frame_beyond_its_bound_is_refused_by_its_length() -> None:
    with pytest.raises(ProtocolError, match="1073741824 octets"):
        payload_length(struct.pack("!I", 1 << 30), MAX_REQUEST)


def test_a_field_beyond_its_bound_is_refused() -> None:
    with pytest.raises(ProtocolError):
        read_request(frame(ShowQueue("x" * 65))[PREFIX:])


def test_an_answer_is_no_request() -> None:
    with pytest.raises(ProtocolError):
        read_request(frame(Done())[PREFIX:])


@pytest.mark.parametrize(
    "payload", [frame(ShowQueue("xx"))[PREFIX:].replace(b"xx", b"x\xff"), b"\x91" * MAX_REQUEST], ids=["text", "depth"]
)
def test_what_cannot_be_decoded_is_an_error_of_the_protocol(payload: bytes) -> None:
    for read in (read_request, read_answer):
        with pytest.raises(ProtocolError):
            read(payload)


@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_request_or_an_error(payload: bytes) -> None:
    try:
        request = read_request(payload)
    except ProtocolError:
        return
    assert isinstance(request, msgspec.Struct)
