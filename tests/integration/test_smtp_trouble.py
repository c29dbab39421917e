"""Clients that vanish, and a spool that cannot take what it is given."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import anyio
import pytest

from spool.bodies import SMALL_BODY
from spool.files import Space
from spool.layout import Layout
from spool.writer import SpoolWriter
from tests.tools.faults import FaultyOps, files_in, full, sqlite_error
from tests.tools.smtp_client import begin, connected, give, unwelcome
from tests.tools.smtp_server import smtp_server
from tests.tools.spooled import HandClock, take

pytestmark = pytest.mark.anyio

SMALL = b"Subject: x\r\n\r\n"
LARGE = SMALL + (b"x" * 998 + b"\r\n") * (2 * SMALL_BODY // 1000)


@pytest.fixture
def ops() -> FaultyOps:
    return FaultyOps()


@pytest.fixture
async def spool(place: Layout, clock: HandClock, ops: FaultyOps) -> AsyncIterator[SpoolWriter]:
    writer = await SpoolWriter.open(place, clock, ops)
    yield writer
    await writer.aclose()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_client_that_is_gone_after_the_dot_has_its_message_accepted(
    spool: SpoolWriter, ops: FaultyOps, content: bytes
) -> None:
    async with smtp_server(spool) as server:
        async with connected(server) as client:
            await begin(client)
            ops.gate.clear()
            await client.send(content + b".\r\n")
            await anyio.to_thread.run_sync(ops.at_gate.wait, 5)
        await anyio.sleep(0.05)
        ops.gate.set()
        while server.ingress.sessions:  # noqa: ASYNC110 -- the server tells nobody
            await anyio.sleep(0.01)
    assert len(await take(spool)) == 1


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_client_that_is_gone_before_the_dot_leaves_nothing(
    spool: SpoolWriter, place: Layout, content: bytes
) -> None:
    async with smtp_server(spool) as server:
        async with connected(server) as client:
            await begin(client)
            await client.send(content + b".\r")
            await anyio.sleep(0.05)
        while server.ingress.sessions:  # noqa: ASYNC110 -- the server tells nobody
            await anyio.sleep(0.01)
    assert await take(spool) == []
    assert files_in(f"{place.spool_dir}/msg") == []


async def test_a_full_disk_is_452_and_the_session_goes_on(spool: SpoolWriter, ops: FaultyOps) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        ops.spoil("commit", lambda: sqlite_error("SQLITE_FULL"), times=2)
        assert await give(client, SMALL) == "452 4.3.1 Insufficient system storage, try again later"
        await begin(client)
        assert (await give(client, SMALL)).startswith("250 ")
    assert len(await take(spool)) == 1


async def test_a_disk_that_fills_up_under_a_large_message_is_452_after_the_dot(
    spool: SpoolWriter, ops: FaultyOps, place: Layout
) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        ops.spoil("write", full)
        assert (await give(client, LARGE)).startswith("452 4.3.1 ")
    assert await take(spool) == []
    assert files_in(f"{place.spool_dir}/msg") == []


async def test_no_room_is_452_before_anything_is_written(spool: SpoolWriter, ops: FaultyOps) -> None:
    ops.free = Space(0, 1 << 41, None)
    written = ops.calls["write"]
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        assert (await give(client, LARGE)).startswith("452 4.3.1 ")
    assert ops.calls["write"] == written


async def test_a_read_only_spool_is_451(spool: SpoolWriter, ops: FaultyOps) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        ops.spoil("commit", lambda: sqlite_error("SQLITE_READONLY"))
        assert await give(client, SMALL) == "451 4.3.0 Temporary failure"


async def test_a_lost_spool_says_nothing_at_all(spool: SpoolWriter, ops: FaultyOps) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        ops.spoil("commit", lambda: sqlite_error("SQLITE_IOERR"), times=2)
        assert await give(client, SMALL) == ""
    assert spool.lost.is_set()


async def test_an_unexpected_error_is_in_our_log_and_not_in_the_reply(
    spool: SpoolWriter, caplog: pytest.LogCaptureFixture
) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await client.ask("EHLO client.example")
        await client.ask("MAIL FROM:<ann@example.com>")
        with caplog.at_level(logging.ERROR):
            assert await client.ask("RCPT TO:<bug@here.example>") == "451 4.3.0 Temporary failure"
    assert "/etc/secret" in caplog.text


async def test_an_error_in_the_middle_of_a_message_ends_the_session(
    spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, piece: bytes) -> None:
        raise RuntimeError("/etc/secret is not for you")

    monkeypatch.setattr("ingress.transaction.Transaction.write", fail)
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        assert await give(client, SMALL) == "421 4.3.0 Temporary failure"
        assert await client.line() == ""


async def test_a_bug_in_one_session_ends_that_session_alone(
    spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("a bug")

    async with smtp_server(spool) as server, connected(server) as other:
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
            patch.setattr("ingress.session.Session._take_line", fail)
            async with unwelcome(server) as client:
                assert await client.line() == ""
        assert "a bug" in caplog.text
        assert (await other.ask("NOOP")).startswith("250 ")
