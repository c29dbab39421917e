"""The servers that other tests talk to are what those tests take them for."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path

import anyio
import dns.asyncresolver
import dns.resolver
import pytest
from anyio.from_thread import start_blocking_portal

from tests.tools.certificates import CertificateAuthority
from tests.tools.dns_server import DnsServer
from tests.tools.recording_sink import Act, RecordingSink


def test_the_sink_records_a_message_octet_for_octet() -> None:
    body = b"Subject: x\r\n\r\n.dot\r\n..dots\r\nlast\r\n"
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(RecordingSink()) as sink:
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            client.sendmail("a@b.example", ["c@d.example", "e@f.example"], body)
        (message,) = portal.call(sink.received, 1)
    assert message.body == body
    assert [rcpt.partition(" ")[0] for rcpt in message.rcpts] == ["TO:<c@d.example>", "TO:<e@f.example>"]


def test_the_sink_says_what_the_script_says_as_often_as_it_says_so() -> None:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(RecordingSink()) as sink:
        sink.on("MAIL", Act("451 4.3.0 later"))
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            client.ehlo()
            assert [client.mail("a@b.example")[0] for _ in range(2)] == [451, 250]


def test_the_sink_starts_tls_and_knows_passwords(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    issued = authority.issue("localhost")
    sink = RecordingSink(tls=issued.server_context(), users={"ann": "secret"})
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sink),
        smtplib.SMTP("localhost", sink.port) as client,
    ):
        client.starttls(context=ssl.create_default_context(cafile=authority.path))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("ann", "wrong")
        client.login("ann", "secret")
    assert [(peer.tls, peer.user) for peer in sink.peers] == [(True, "ann")]


def test_the_sink_cuts_the_connection_where_it_is_told_to() -> None:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(RecordingSink()) as sink:
        sink.on("dot", Act(b"", cut=True))
        client = smtplib.SMTP("127.0.0.1", sink.port)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.sendmail("a@b.example", ["c@d.example"], b"x\r\n")
        client.close()
    assert len(sink.messages) == 1


def resolver_for(server: DnsServer) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [server.host]
    resolver.port = server.port
    resolver.lifetime = 1
    return resolver


@pytest.mark.anyio
async def test_the_name_server_answers_from_its_zones_over_udp_and_tcp() -> None:
    async with DnsServer({"example.org": {"MX": ["10 mx.example.org."]}}) as server:
        server.truncates = True
        answer = await resolver_for(server).resolve("example.org.", "MX")
        assert [str(record) for record in answer] == ["10 mx.example.org."]
        assert server.asked == ["udp example.org MX", "tcp example.org MX"]


@pytest.mark.anyio
async def test_the_name_server_knows_all_ways_of_not_answering() -> None:
    zones = {"empty.example": {"A": ["127.0.0.1"]}}
    async with DnsServer(zones, rcodes={"broken.example": "SERVFAIL"}, silent=frozenset({"silent.example"})) as server:
        resolver = resolver_for(server)
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("nowhere.example.", "MX")
        with pytest.raises(dns.resolver.NoAnswer):
            await resolver.resolve("empty.example.", "MX")
        with pytest.raises(dns.resolver.NoNameservers):
            await resolver.resolve("broken.example.", "MX")
        with pytest.raises(dns.resolver.LifetimeTimeout):
            with anyio.fail_after(5):
                await resolver.resolve("silent.example.", "MX")
