"""A body on its way into a real spool: the header finished, small ones in memory, large ones in a file."""

from __future__ import annotations

import pytest

from ingress import replies
from ingress.body import IncomingBody, MessageRefused
from ingress.limits import MAX_HEADER
from spool.bodies import SMALL_BODY, StoredBody
from spool.ids import MessageId, new_message_id
from spool.writer import SpoolWriter

pytestmark = pytest.mark.anyio

HEADER = b"From: a@example.org\r\nSubject: x\r\n"
TRACE = b"Received: by us\r\n"


def fresh_id() -> MessageId:
    return new_message_id(0)


async def body_of(spool: SpoolWriter, *pieces: bytes) -> bytes:
    """What a body in these pieces comes to, and the size that was counted on the way."""
    incoming = IncomingBody(spool, fresh_id(), lambda fields: TRACE + fields)
    for piece in pieces:
        await incoming.write(piece)
    finished = await incoming.finish()
    assert isinstance(finished, bytes)
    assert incoming.size == len(finished)
    return finished


async def refusal(spool: SpoolWriter, *pieces: bytes) -> object:
    with pytest.raises(MessageRefused) as caught:
        await body_of(spool, *pieces)
    return caught.value.reply


async def test_the_fields_are_finished_and_the_rest_is_kept_octet_for_octet(spool: SpoolWriter) -> None:
    rest = b"\r\nbody\r\n\r\nBcc: x\r\n\xff\x01.\r\n"
    assert await body_of(spool, HEADER + rest) == TRACE + HEADER + rest


async def test_octet_by_octet_comes_to_the_same(spool: SpoolWriter) -> None:
    content = HEADER + b"\r\nbody\r\n"
    assert await body_of(spool, *(bytes([octet]) for octet in content)) == TRACE + content


async def test_an_empty_first_line_is_a_message_without_fields(spool: SpoolWriter) -> None:
    assert await body_of(spool, b"\r\n", b"text\r\n") == TRACE + b"\r\ntext\r\n"


async def test_no_text_at_all_is_a_message_too(spool: SpoolWriter) -> None:
    assert await body_of(spool) == TRACE


async def test_a_line_that_is_no_field_begins_the_text_for_every_reader(spool: SpoolWriter) -> None:
    assert await body_of(spool, HEADER + b"oops\r\nBcc: x\r\n") == TRACE + HEADER + b"\r\noops\r\nBcc: x\r\n"


@pytest.mark.parametrize("start", [b"no header\r\n", b" folded: x\r\n", b"From ann Mon Nov 23\r\nA: b\r\n"])
async def test_what_does_not_begin_with_a_field_is_no_message(spool: SpoolWriter, start: bytes) -> None:
    assert await refusal(spool, start, b"\r\nbody\r\n") == replies.MALFORMED


async def test_a_header_beyond_the_limit_is_refused_before_it_ends(spool: SpoolWriter) -> None:
    field = b"X: " + b"x" * 995 + b"\r\n"
    incoming = IncomingBody(spool, fresh_id(), lambda fields: fields)
    for _ in range(MAX_HEADER // len(field)):
        await incoming.write(field)
    with pytest.raises(MessageRefused) as caught:
        await incoming.write(field)
    assert caught.value.reply == replies.HEADER_TOO_BIG


async def test_a_header_of_the_limit_is_accepted(spool: SpoolWriter) -> None:
    fields = b"X: " + b"x" * (MAX_HEADER - 5) + b"\r\n"
    incoming = IncomingBody(spool, fresh_id(), lambda fields: fields)
    await incoming.write(fields + b"\r\n")
    incoming.abandon()
    assert incoming.size == len(fields) + 2


@pytest.mark.parametrize(("hops", "looping"), [(100, False), (101, True)])
async def test_a_message_that_a_hundred_servers_had_runs_in_a_circle(
    spool: SpoolWriter, hops: int, looping: bool
) -> None:
    content = b"Received: x\r\n" * hops + b"\r\n"
    if looping:
        assert await refusal(spool, content) == replies.LOOP
    else:
        assert await body_of(spool, content) == TRACE + content


async def test_a_large_body_goes_into_a_file(spool: SpoolWriter) -> None:
    incoming = IncomingBody(spool, fresh_id(), lambda fields: TRACE + fields)
    await incoming.write(HEADER + b"\r\n")
    lines = 2 * SMALL_BODY // 1000
    for _ in range(lines):
        await incoming.write(b"x" * 998 + b"\r\n")
    finished = await incoming.finish()
    assert isinstance(finished, StoredBody)
    assert finished.size == incoming.size == len(TRACE + HEADER) + 2 + 1000 * lines


async def test_a_body_of_exactly_the_small_size_stays_in_memory(spool: SpoolWriter) -> None:
    text = b"\r\n" + b"x" * (SMALL_BODY - len(TRACE) - 4) + b"\r\n"
    assert len(await body_of(spool, text)) == SMALL_BODY
