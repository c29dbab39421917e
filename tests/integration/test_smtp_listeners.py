"""What a listener can be told: its names, whose senders it takes, what it tells of a login, and how it speaks TLS."""

from __future__ import annotations

import logging
import ssl
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.streams.tls import TLSStream

from policy.config import Auth, Listener, ListenerTls, Pki
from policy.pki import server_context
from policy.tables.inline import InlineTable
from spool.writer import SpoolWriter
from tests.tools.certificates import CertificateAuthority, Issued
from tests.tools.dialog import Client
from tests.tools.smtp_client import begin, connected, give, greet, unwelcome
from tests.tools.smtp_server import HOST, PEOPLE, People, Server, Setting, smtp_server
from tests.tools.spooled import sole

pytestmark = pytest.mark.anyio

PLAIN = Listener("127.0.0.1", 0)
LOGIN = "AUTH PLAIN AHVzZXIAc2VjcmV0"
SENDERS = InlineTable.of_mapping("senders", {"user": "ann@example.com, @lists.example"})


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


@pytest.fixture
def secure(authority: CertificateAuthority) -> Listener:
    """A listener with TLS from the beginning, where clients may log in."""
    issued = authority.issue(HOST)
    pki = Pki(HOST, issued.cert, issued.key)
    return replace(PLAIN, tls=ListenerTls.IMPLICIT, pki=(pki,), auth=Auth.OPTIONAL, credentials=PEOPLE)


def setting(listener: Listener) -> Setting:
    return Setting(listener, tls=None if listener.tls is ListenerTls.NONE else server_context(listener))


async def logged_in(client: Client) -> None:
    await client.secure()
    assert (await client.line()).startswith("220 ")
    await greet(client)
    assert (await client.ask(LOGIN)).startswith("235 ")


async def test_a_listener_goes_by_the_name_of_the_address_that_the_client_came_to(spool: SpoolWriter) -> None:
    names = InlineTable.of_mapping("names", {"127.0.0.1": "loop.example", "[::1]": "six.example"})
    for address, name in (("127.0.0.1", "loop.example"), ("::1", "six.example"), ("127.0.0.2", "mx.example")):
        listener = Listener(address, 0, hostname="mx.example", hostnames=names)
        async with smtp_server(spool, Setting(listener)) as server, unwelcome(server) as client:
            assert await client.line() == f"220 {name} ESMTP Mailspool"
            assert (await client.ask("HELO x")).startswith(f"250 {name} Hello ")
            await client.ask("MAIL FROM:<ann>")
            await client.ask("RCPT TO:<bob>")
        (facts, recipient) = server.policy.asked[0]
        assert (facts.mail_from.domain, recipient.address.domain) == (name, name)


async def test_a_listener_that_cannot_find_its_name_has_its_clients_come_again(spool: SpoolWriter) -> None:
    class Unavailable(People):
        def lookup(self, key: str) -> str | None:
            return super().lookup("later")

    listener = replace(PLAIN, hostnames=Unavailable.of_mapping("names", {}))
    async with smtp_server(spool, Setting(listener)) as server, unwelcome(server) as client:
        assert (await client.line()).startswith("421 4.3.0")
        assert await client.line() == ""


async def test_addresses_without_a_domain_are_completed_in_the_header(spool: SpoolWriter) -> None:
    listener = replace(PLAIN, hostname="front.example")
    async with smtp_server(spool, Setting(listener)) as server, connected(server) as client:
        await begin(client)
        await give(client, b"From: Ann <ann>\r\nTo: root, bob@b.example\r\nSubject: x\r\n\r\nTo: root\r\n")
    body = (await sole(spool)).body.read()
    assert b"\r\nFrom: Ann <ann@front.example>\r\nTo: root@front.example, bob@b.example\r\nSubject: x\r\n" in body
    assert body.endswith(b"\r\n\r\nTo: root\r\n")


@pytest.mark.parametrize(
    ("sender", "reply"),
    [
        ("ann@example.com", "250 "),
        ("ann+tag@Example.COM", "250 "),
        ("anybody@lists.example", "250 "),
        ("bob@example.com", "530 5.7.1 Sender rejected"),
        ("", "530 5.7.1 Sender rejected"),
    ],
)
async def test_a_login_may_use_its_own_senders_only(
    spool: SpoolWriter, secure: Listener, sender: str, reply: str
) -> None:
    listener = replace(secure, senders=SENDERS)
    async with smtp_server(spool, setting(listener)) as server, unwelcome(server) as client:
        await logged_in(client)
        assert (await client.ask(f"MAIL FROM:<{sender}>")).startswith(reply)


async def test_whoever_has_not_logged_in_may_say_any_sender(spool: SpoolWriter) -> None:
    async with smtp_server(spool, Setting(replace(PLAIN, senders=SENDERS))) as server, connected(server) as client:
        await greet(client)
        assert (await client.ask("MAIL FROM:<bob@example.com>")).startswith("250 ")


async def test_a_login_that_has_no_senders_may_send_nothing(spool: SpoolWriter, secure: Listener) -> None:
    listener = replace(secure, senders=InlineTable.of_mapping("senders", {"other": "@"}))
    async with smtp_server(spool, setting(listener)) as server, unwelcome(server) as client:
        await logged_in(client)
        assert (await client.ask("MAIL FROM:<user@example.com>")).startswith("530 ")


async def test_senders_that_cannot_be_asked_are_temporary(spool: SpoolWriter, secure: Listener) -> None:
    class Unavailable(People):
        def lookup(self, key: str) -> str | None:
            return super().lookup("later")

    listener = replace(secure, senders=Unavailable.of_mapping("senders", {}))
    async with smtp_server(spool, setting(listener)) as server, unwelcome(server) as client:
        await logged_in(client)
        assert (await client.ask("MAIL FROM:<user@example.com>")).startswith("451 ")


async def test_a_masquerade_puts_the_sender_into_from(spool: SpoolWriter, secure: Listener) -> None:
    listener = replace(secure, senders=SENDERS, masquerade=True)
    async with smtp_server(spool, setting(listener)) as server, unwelcome(server) as client:
        await logged_in(client)
        await begin(client, sender="list@lists.example")
        await give(client, b"From: The Boss <boss@example.com>\r\nTo: bob@b.example\r\n\r\n")
    assert b"\r\nFrom: The Boss <list@lists.example>\r\nTo: bob@b.example\r\n" in (await sole(spool)).body.read()


@pytest.mark.parametrize("told", [True, False])
async def test_the_trace_tells_the_login_if_it_is_to(spool: SpoolWriter, secure: Listener, told: bool) -> None:
    listener = replace(secure, received_auth=told)
    async with smtp_server(spool, setting(listener)) as server, unwelcome(server) as client:
        await logged_in(client)
        await begin(client)
        await give(client, b"Subject: x\r\n\r\n")
    trace = (await sole(spool)).body.read().partition(b"\r\n\tfor")[0]
    assert (b":NO) auth=yes user=user" in trace) is told


# -- TLS --------------------------------------------------------------------------------------------------------------


async def greeting(server: Server, context: ssl.SSLContext) -> str:
    """What the server says inside TLS; empty when there is none."""
    stream = await anyio.connect_tcp("127.0.0.1", server.port)
    try:
        tls = await TLSStream.wrap(stream, hostname=HOST, ssl_context=context, standard_compatible=False)
        return (await tls.receive()).decode()
    except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError):
        return ""
    finally:
        await anyio.aclose_forcefully(stream)


def trusting(authority: CertificateAuthority, shown: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.path)
    if shown:
        context.load_cert_chain(shown.cert, shown.key)
    return context


async def test_a_client_without_a_good_certificate_is_not_let_in(
    spool: SpoolWriter,
    secure: Listener,
    authority: CertificateAuthority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "other").mkdir()
    good, stranger = authority.issue("client.example"), CertificateAuthority(tmp_path / "other").issue("client.example")
    expired = authority.issue("old.example", days=-1)
    listener = replace(secure, verify=True, ca=authority.path)
    async with smtp_server(spool, setting(listener)) as server:
        assert (await greeting(server, trusting(authority, good))).startswith("220 ")
        for shown in (None, stranger, expired):
            assert await greeting(server, trusting(authority, shown)) == ""
    said = [record.getMessage() for record in caplog.records]
    reasons = [
        line.partition("smtp tls-refused address=127.0.0.1 reason=")[2] for line in said if "tls-refused" in line
    ]
    assert reasons[0] == '"PEER_DID_NOT_RETURN_A_CERTIFICATE"'
    assert len(reasons) == 3


async def test_the_trace_says_that_the_certificate_was_verified(
    spool: SpoolWriter, secure: Listener, authority: CertificateAuthority
) -> None:
    listener = replace(secure, verify=True, ca=authority.path)
    context = trusting(authority, authority.issue("client.example"))
    async with smtp_server(spool, setting(listener)) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        client = Client(await TLSStream.wrap(stream, hostname=HOST, ssl_context=context), context)
        await client.line()
        await begin(client)
        await give(client, b"Subject: x\r\n\r\n")
        await client.close()
    assert b":256:YES)\r\n\tfor" in (await sole(spool)).body.read()


async def test_a_listener_speaks_the_versions_that_it_is_told_to(
    spool: SpoolWriter, secure: Listener, authority: CertificateAuthority
) -> None:
    client = trusting(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    for protocols, speaks in (("tlsv1.3", False), ("tlsv1.2", True), ("!tlsv1.3", True), ("secure", True)):
        async with smtp_server(spool, setting(replace(secure, protocols=protocols))) as server:
            assert bool(await greeting(server, client)) is speaks


@pytest.mark.parametrize("dhe", [True, False])
async def test_a_client_without_elliptic_curves_is_served_if_it_is_to_be(
    spool: SpoolWriter, authority: CertificateAuthority, dhe: bool
) -> None:
    issued = authority.issue(HOST, is_rsa=True)
    pki = Pki(HOST, issued.cert, issued.key, dhe)
    client = trusting(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
    listener = replace(PLAIN, tls=ListenerTls.IMPLICIT, pki=(pki,))
    async with smtp_server(spool, setting(listener)) as server:
        assert bool(await greeting(server, client)) is dhe


async def test_a_listener_speaks_the_ciphers_that_it_is_told_to(
    spool: SpoolWriter, secure: Listener, authority: CertificateAuthority
) -> None:
    client = trusting(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    for ciphers, speaks in (("CHACHA20", False), ("AESGCM", True), ("secure", True), ("compat", True)):
        async with smtp_server(spool, setting(replace(secure, ciphers=ciphers))) as server:
            assert bool(await greeting(server, client)) is speaks
