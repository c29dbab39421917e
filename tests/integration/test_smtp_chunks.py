"""However the network cuts what a client sends, it gets the same answers."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from spool.layout import layout
from spool.writer import SpoolWriter
from tests.tools.smtp_server import smtp_server, with_limits

COMMANDS = [
    b"EHLO client.example\r\n", b"HELO client.example\r\n", b"EHLO\r\n", b"MAIL FROM:<ann@example.com>\r\n",
    b"MAIL FROM:<> SIZE=99999999999\r\n", b"RCPT TO:<bob@here.example>\r\n", b"RCPT TO:<nobody@here.example>\r\n",
    b"RCPT TO:<later@here.example>\r\n", b"RSET\r\n", b"NOOP\r\n", b"NOOP\n", b"NO\rOP\r\n", b"HELP\r\n", b"\r\n",
    b"\xff\r\n",
    b"DATA\r\n", b"Subject: x\r\n", b"\r\n.\r\n", b".\r\n", b"..\r\n", b"\n.\n", b"\0\r\n", b"STARTTLS\r\n",
    b"AUTH PLAIN\r\n",
]  # fmt: skip
TRANSACTION = b"".join(COMMANDS[place] for place in (0, 3, 5, 15, 16))
streams = st.lists(st.sampled_from([*COMMANDS, TRANSACTION]), max_size=25).map(b"".join)


@asynccontextmanager
async def _port(folder: Path) -> AsyncIterator[int]:
    spool = await SpoolWriter.open(layout(str(folder)))
    async with smtp_server(spool, with_limits(bad_commands=1000)) as server:
        yield server.port
    await spool.aclose()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server in a thread of its own, over one spool for all examples."""
    folder = tmp_path_factory.mktemp("chunks")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_port(folder)) as found:
        yield found


def answers(port: int, chunks: list[bytes]) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for chunk in chunks:
            client.sendall(chunk)
        client.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: client.recv(65536), b""))
    return re.sub(rb"[0-9a-v]{20} Message", b"ID Message", said)


@settings(max_examples=60, deadline=None)
@given(streams, st.sets(st.integers(1, 400)))
def test_the_answers_do_not_depend_on_the_cuts(port: int, stream: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(places)]
    at_once, in_pieces = answers(port, [stream]), answers(port, chunks)
    assert in_pieces == at_once
    assert all(re.match(rb"[2345]\d\d[ -]", line) for line in at_once.splitlines())
