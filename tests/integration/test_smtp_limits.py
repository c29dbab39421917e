"""Clients that come too fast, send too slowly, say too much of nothing, or fill the memory; and what stress does to all."""

from __future__ import annotations

import tracemalloc
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import pytest

from ingress.memory import Memory
from ingress.transaction import Transaction
from policy.config import Listener
from policy.tables.inline import InlineTable
from spool.writer import SpoolWriter
from tests.tools.dialog import Client
from tests.tools.proxying import header
from tests.tools.smtp_client import begin, connected, give, greet, unwelcome
from tests.tools.smtp_server import QUICK, Server, Setting, smtp_server, with_limits
from tests.tools.spooled import take

pytestmark = pytest.mark.anyio

PROXIED = Listener("127.0.0.1", 0, proxy_v2=True)


async def said_at_last(client: Client, piece: bytes, seconds: float = 10.0) -> str:
    """Send ``piece`` now and then until the server says something."""
    with anyio.fail_after(seconds):
        while not (said := await client.silence()):
            await client.send(piece)
    return said


# -- too fast ---------------------------------------------------------------------------------------------------------


async def test_an_address_that_opens_connection_after_connection_is_slowed(spool: SpoolWriter) -> None:
    limits = replace(QUICK, arrivals_at_once=3, arrivals_per_second=0.001)
    async with smtp_server(spool, Setting(PROXIED, limits)) as server:
        for client, said in [*[("192.0.2.7", "220")] * 3, ("192.0.2.7", "421 4.7.0 "), ("192.0.2.8", "220")]:
            async with unwelcome(server) as proxy:
                await proxy.send(header(client))
                assert (await proxy.line()).startswith(said)


async def test_loopback_may_come_as_fast_as_it_likes(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(arrivals_at_once=1, arrivals_per_second=0.001)) as server:
        for _ in range(5):
            async with connected(server):
                pass


# -- too slow ---------------------------------------------------------------------------------------------------------


async def test_an_octet_now_and_then_makes_no_command(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(idle=0.4)) as server, connected(server) as client:
        assert (await said_at_last(client, b"N")).startswith("421 4.4.2 ")


async def test_an_octet_now_and_then_makes_no_message(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(data_idle=0.4, data_rate=1000.0)) as server, connected(server) as client:
        await begin(client)
        assert (await said_at_last(client, b"x")).startswith("421 4.4.2 ")
    assert await take(spool) == []


async def test_a_message_at_its_pace_may_take_longer_than_one_silence(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(data_idle=0.4, data_rate=1000.0)) as server, connected(server) as client:
        await begin(client)
        await client.send(b"Subject: x\r\n\r\n")
        for _ in range(5):
            await client.send(b"x" * 298 + b"\r\n")
            await anyio.sleep(0.2)
        assert (await give(client, b"")).startswith("250 ")


async def test_a_spool_that_is_slow_is_not_the_client_s_fault(
    spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Transaction.write

    async def slow(self: Transaction, piece: bytes) -> None:
        await anyio.sleep(0.6)
        await write(self, piece)

    monkeypatch.setattr(Transaction, "write", slow)
    async with smtp_server(spool, with_limits(data_idle=1.5, data_rate=1e9)) as server, connected(server) as client:
        await begin(client)
        for _ in range(4):
            await client.send(b"X: y\r\n")
            await anyio.sleep(0.05)
        assert (await give(client, b"\r\n")).startswith("250 ")


# -- nothing comes of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY x", "HELP", "EHLO c.example", "MAIL FROM:<>\r\nRSET"])
async def test_a_session_of_nothing_comes_to_its_end(spool: SpoolWriter, command: str) -> None:
    async with smtp_server(spool, with_limits(idle_commands=10)) as server, connected(server) as client:
        await greet(client)
        await client.send(f"{command}\r\n".encode() * 10)
        with anyio.fail_after(5):
            while not (line := await client.line()).startswith("421 "):
                assert line
        assert line == "421 4.7.0 Too many commands without a message"


async def test_a_message_is_something(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(idle_commands=5)) as server, connected(server) as client:
        for _ in range(4):
            await begin(client)
            assert (await give(client, b"Subject: x\r\n\r\n")).startswith("250 ")
            assert (await client.ask("NOOP")).startswith("250 ")


async def test_a_connection_is_not_held_by_noops_for_ever(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(fruitless=0.5)) as server, connected(server) as client:
        with anyio.fail_after(5):
            while (said := await client.ask("NOOP")).startswith("250 "):
                pass
        assert said.startswith("421 4.4.2 ")


# -- too much ---------------------------------------------------------------------------------------------------------


async def test_when_messages_under_way_fill_the_memory_more_are_told_to_come_again(spool: SpoolWriter) -> None:
    memory = Memory(10_000)
    async with (
        smtp_server(spool, Setting(memory=memory)) as server,
        connected(server) as one,
        connected(server) as other,
    ):
        await greet(one)
        await one.ask("MAIL FROM:<>")
        while (said := await one.ask("RCPT TO:<bob@here.example>")).startswith("250 "):
            pass
        assert said == "452 4.3.1 Insufficient system resources, try again later"
        await greet(other)
        await other.ask("MAIL FROM:<>")
        assert (await other.ask("RCPT TO:<bob@here.example>")).startswith("452 4.3.1 ")
        await one.ask("RSET")
        assert memory.held == 0
        assert (await other.ask("RCPT TO:<bob@here.example>")).startswith("250 ")
        await other.ask("DATA")
        assert (await give(other, b"X: " + b"x" * 9_500 + b"\r\n\r\n")).startswith("452 4.3.1 ")
        assert memory.held == 0
        await begin(other)
        assert (await give(other, b"Subject: x\r\n\r\n")).startswith("250 ")
        assert memory.held == 0
        await begin(other)
        assert memory.held > 0
        await other.close()
        with anyio.fail_after(5):
            while memory.held:  # noqa: ASYNC110 -- the server tells nobody
                await anyio.sleep(0.01)


async def test_the_worst_session_takes_less_than_four_megabytes(spool: SpoolWriter) -> None:
    """A thousand recipients of the longest form, a header as long as it may be, and commands sent ahead."""
    recipient = f"RCPT TO:<{'x' * 250}@{'d' * 60}.{'e' * 60}.example> ORCPT=rfc822;{'y' * 480}"
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        await client.ask("MAIL FROM:<>")
        tracemalloc.start()
        try:
            for number in range(1000):
                assert (await client.ask(recipient.replace("xxxx", f"{number:04}", 1))).startswith("250 ")
                server.policy.asked.clear()
            await client.ask("DATA")
            await client.send(b"X: " + b"x" * 60_000 + b"\r\n")
            await client.send((b" " + b"x" * 60_000 + b"\r\n") * 3)
            await anyio.sleep(0.1)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert taken < 4 * 1024 * 1024


# -- stress -----------------------------------------------------------------------------------------------------------


async def test_stress_cuts_off_idle_clients_and_serves_those_with_mail(spool: SpoolWriter) -> None:
    limits = replace(QUICK, connections=8, idle=60.0, stress_idle=0.3)
    async with smtp_server(spool, Setting(limits=limits)) as server, AsyncExitStack() as clients:
        assert server.ingress.trouble == ""
        idle = [await clients.enter_async_context(connected(server)) for _ in range(5)]
        busy = await clients.enter_async_context(connected(server))
        assert server.ingress.trouble.startswith("smtp is under stress: 6 of 8 connections are used")
        await begin(busy)
        assert (await give(busy, b"Subject: x\r\n\r\n")).startswith("250 ")
        for client in idle:
            assert (await client.line()).startswith("421 4.4.2 ")
        await until_calm(server)
        # Whoever comes now has all the time again.
        calm = await clients.enter_async_context(connected(server))
        assert await calm.silence() == ""
        await anyio.sleep(0.5)
        assert (await calm.ask("NOOP")).startswith("250 ")
    assert len(await take(spool)) == 1


async def test_under_stress_fewer_errors_are_borne(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(connections=1)) as server, connected(server) as client:
        for _ in range(2):
            assert (await client.ask("NONSENSE")).startswith("500 ")
        await client.ask("NONSENSE")
        assert await client.line() == "421 4.7.0 Too many errors"


async def until_calm(server: Server) -> None:
    with anyio.fail_after(5):
        while server.ingress.trouble:  # noqa: ASYNC110 -- the server tells nobody
            await anyio.sleep(0.01)


# -- proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "is_believed"),
    [
        (("127.0.0.1",), True),
        (("127.0.0.0/8", "192.0.2.1"), True),
        (("192.0.2.1",), False),
        (("10.0.0.0/8", "::1"), False),
    ],
)
async def test_only_listed_proxies_are_believed(spool: SpoolWriter, listed: tuple[str, ...], is_believed: bool) -> None:
    listener = replace(PROXIED, proxies=InlineTable.of_list("proxies", listed))
    async with smtp_server(spool, Setting(listener)) as server, unwelcome(server) as proxy:
        await proxy.send(header("127.0.0.1"))
        assert (await proxy.line()).startswith("220 ") is is_believed


async def test_without_a_list_a_proxy_elsewhere_is_not_believed(
    spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ingress.listener.is_loopback", lambda address: False)
    async with smtp_server(spool, Setting(PROXIED)) as server, unwelcome(server) as proxy:
        await proxy.send(header("127.0.0.1"))
        assert await proxy.line() == ""
    assert "not one of the proxies that are believed here" in caplog.text
