"""Listeners behind a proxy, and what the reverse DNS says of the clients that it names."""

from __future__ import annotations

import ssl
import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ingress.names import UNCERTAIN, UNNAMED, Names, PeerName
from ingress.openings import Opening
from policy.config import Listener, ListenerTls
from spool.writer import SpoolWriter
from tests.tools.certificates import CertificateAuthority
from tests.tools.dialog import Client
from tests.tools.loops import BOTH
from tests.tools.proxying import SIGNATURE, header, raw
from tests.tools.smtp_client import HELLO, anybody, begin, give, greet, unwelcome
from tests.tools.smtp_server import HOST, QUICK, Server, Setting, smtp_server
from tests.tools.spooled import sole

pytestmark = pytest.mark.anyio

PROXIED = Listener("127.0.0.1", 0, proxy_v2=True)
NAMELESS = Names(lambda _: UNNAMED)


@pytest.fixture(params=BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def greeted(client: Client) -> str:
    line = await client.line()
    assert line.startswith("220 ")
    return await client.ask(f"HELO {HELLO}")


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (header("192.0.2.7"), "192.0.2.7"),
        (header("192.0.2.7", tlvs=b"\x04\x00\x03abc"), "192.0.2.7"),
        (header("2001:db8::7"), "2001:db8::7"),
        (header("::ffff:192.0.2.7"), "192.0.2.7"),
        (raw(0x20, 0x00, b""), "127.0.0.1"),
        (raw(0x20, 0x11, bytes(12)), "127.0.0.1"),
        (raw(0x21, 0x31, bytes(216)), "local"),
    ],
)
async def test_the_proxy_says_who_the_client_is(spool: SpoolWriter, said: bytes, client: str) -> None:
    async with smtp_server(spool, Setting(PROXIED, names=NAMELESS)) as server, unwelcome(server) as proxy:
        await proxy.send(said)
        assert await greeted(proxy) == f"250 {HOST} Hello {HELLO} [{client}], pleased to meet you"
        await proxy.ask("MAIL FROM:<>")
        await proxy.ask("RCPT TO:<bob@here.example>")
    (facts, _) = server.policy.asked[0]
    assert (facts.source, facts.login) == (client, None)


async def test_the_header_may_come_in_pieces_and_commands_behind_it(spool: SpoolWriter) -> None:
    said = header("192.0.2.7") + b"NOOP\r\n"
    async with smtp_server(spool, Setting(PROXIED, names=NAMELESS)) as server, unwelcome(server) as proxy:
        for octet in said:
            await proxy.send(bytes([octet]))
        assert (await proxy.line()).startswith("220 ")
        assert await proxy.line() == "250 2.0.0 Ok"


@pytest.mark.parametrize(
    "said",
    [
        b"EHLO client.example\r\nNOOP\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n",
        raw(0x21, 0x00, b""),
        raw(0x21, 0x12, bytes(12)),
        raw(0x22, 0x11, bytes(12)),
        raw(0x11, 0x11, bytes(12)),
        raw(0x21, 0x11, bytes(11)),
        raw(0x21, 0x21, bytes(12)),
    ],
)
async def test_whoever_does_not_begin_with_a_header_is_cut_off(spool: SpoolWriter, said: bytes) -> None:
    async with smtp_server(spool, Setting(PROXIED)) as server, unwelcome(server) as client:
        await client.send(said)
        assert await client.line() == ""
        assert server.ingress.sessions == 0


async def test_a_look_whether_somebody_listens_is_no_trouble(
    spool: SpoolWriter, caplog: pytest.LogCaptureFixture
) -> None:
    async with smtp_server(spool, Setting(PROXIED)) as server:
        for said in (b"", SIGNATURE):
            async with unwelcome(server) as client:
                await client.send(said)
                await client.end()
                assert await client.line() == ""
    (record,) = caplog.records
    assert record.getMessage().endswith("reason=connection closed within its PROXY header")


async def test_a_header_that_does_not_come_is_not_waited_for(spool: SpoolWriter) -> None:
    setting = Setting(PROXIED, replace(QUICK, handshake=0.2))
    async with smtp_server(spool, setting) as server, unwelcome(server) as client:
        await client.send(SIGNATURE)
        assert await client.line() == ""


async def test_only_so_many_wait_for_their_header(spool: SpoolWriter) -> None:
    setting = Setting(PROXIED, replace(QUICK, connections=4))
    async with smtp_server(spool, setting) as server, unwelcome(server) as first:
        await first.send(SIGNATURE)
        async with unwelcome(server) as second:
            assert await second.line() == ""
        await first.send(header("127.0.0.1")[len(SIGNATURE) :])
        assert (await first.line()).startswith("220 ")


async def test_tls_begins_behind_the_header(spool: SpoolWriter, tmp_path: Path) -> None:
    tls = CertificateAuthority(tmp_path).issue(HOST).server_context()
    setting = Setting(replace(PROXIED, tls=ListenerTls.IMPLICIT), tls=tls, names=NAMELESS)
    async with smtp_server(spool, setting) as server, unwelcome(server) as proxy:
        await proxy.send(header("192.0.2.7"))
        await proxy.secure()
        assert "[192.0.2.7]" in await greeted(proxy)


async def test_limits_count_the_clients_and_not_the_proxy(spool: SpoolWriter) -> None:
    setting = Setting(PROXIED, replace(QUICK, connections_per_address=1), names=NAMELESS)
    async with smtp_server(spool, setting) as server, AsyncExitStack() as clients:
        for client, said in (("192.0.2.7", "220"), ("192.0.2.8", "220"), ("192.0.2.7", "421")):
            proxy = await clients.enter_async_context(unwelcome(server))
            await proxy.send(header(client))
            assert (await proxy.line()).startswith(said)


async def test_a_reload_lets_a_proxy_come_where_clients_came(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server:
        port = server.port
        for listener in (PROXIED, Listener("127.0.0.1", 0)):
            await server.ingress.reopen([Opening(listener, None)])
            assert server.port == port
            async with unwelcome(server) as client:
                await client.send(header("127.0.0.1") if listener.proxy_v2 else b"")
                assert (await client.line()).startswith("220 ")


async def hand_in(server: Server) -> None:
    async with unwelcome(server) as proxy:
        await proxy.send(header("192.0.2.7"))
        assert (await proxy.line()).startswith("220 ")
        await begin(proxy)
        assert (await give(proxy, b"Subject: x\r\n\r\n")).startswith("250 ")


async def test_a_client_s_confirmed_name_is_in_its_trace_and_known_to_the_rules(spool: SpoolWriter) -> None:
    names = Names(lambda _: PeerName("client.example", is_confirmed=True))
    async with smtp_server(spool, Setting(PROXIED, names=names)) as server:
        await hand_in(server)
        (facts, _) = server.policy.asked[0]
    assert facts.rdns == "client.example"
    received = (await sole(spool)).body.read()
    assert received.startswith(f"Received: from {HELLO} (client.example [192.0.2.7])\r\n".encode())


async def test_a_name_that_is_not_confirmed_is_nobody_s(spool: SpoolWriter) -> None:
    names = Names(lambda _: PeerName("bank.example"))
    async with smtp_server(spool, Setting(PROXIED, names=names)) as server:
        await hand_in(server)
        (facts, _) = server.policy.asked[0]
    assert facts.rdns == ""
    assert (await sole(spool)).body.read().startswith(f"Received: from {HELLO} ([192.0.2.7])\r\n".encode())


async def test_a_dns_that_does_not_answer_holds_up_no_greeting_and_mail_for_a_moment(spool: SpoolWriter) -> None:
    gate = threading.Event()

    def stuck(_: str) -> PeerName:
        gate.wait(10)
        return UNNAMED

    setting = Setting(PROXIED, replace(QUICK, name=0.2), names=Names(stuck))
    try:
        async with smtp_server(spool, setting) as server:
            await hand_in(server)
    finally:
        gate.set()
    assert (await sole(spool)).message.client.host == ""


async def test_a_session_is_greeted_while_its_name_is_looked_up(spool: SpoolWriter) -> None:
    gate = threading.Event()

    def slow(_: str) -> PeerName:
        gate.wait(10)
        return PeerName("client.example", is_confirmed=True)

    async with smtp_server(spool, Setting(PROXIED, names=Names(slow))) as server, unwelcome(server) as proxy:
        await proxy.send(header("192.0.2.7"))
        assert (await proxy.line()).startswith("220 ")
        await greet(proxy)
        gate.set()
        await proxy.ask("MAIL FROM:<>")
        await proxy.ask("RCPT TO:<bob@here.example>")
    assert server.policy.asked[0][0].rdns == "client.example"


async def test_a_handshake_that_came_with_the_header_is_not_lost(spool: SpoolWriter, tmp_path: Path) -> None:
    tls = CertificateAuthority(tmp_path).issue(HOST).server_context()
    setting = Setting(replace(PROXIED, tls=ListenerTls.IMPLICIT), tls=tls, names=NAMELESS)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = anybody().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    async with smtp_server(spool, setting) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(header("192.0.2.7") + outgoing.read())
        with anyio.fail_after(5):
            incoming.write(await stream.receive())
            hello.do_handshake()
        await stream.send(outgoing.read())
        with anyio.fail_after(5):
            while True:
                try:
                    assert hello.read().startswith(b"220 ")
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await stream.receive())


async def test_rules_are_told_that_the_dns_gave_no_answer(spool: SpoolWriter) -> None:
    async with smtp_server(spool, Setting(PROXIED, names=Names(lambda _: UNCERTAIN))) as server:
        await hand_in(server)
        (facts, _) = server.policy.asked[0]
    assert (facts.rdns, facts.is_rdns_known) == ("", False)
