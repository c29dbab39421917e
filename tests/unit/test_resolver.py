"""Asking the DNS: which servers, for how long answers count, and when no answer is an answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from delivery.relay import Relayer
from delivery.resolver import DnsTrouble, Mx, NoSuchDomain, Resolver
from policy.config import Relay
from spool.layout import layout
from spool.outcome import Attempt
from tests.tools.dns_server import DnsServer
from tests.tools.relaying import batch, config, route_to

pytestmark = pytest.mark.anyio
ZONES = {"example.org": {"MX": ["10 mx.example.org."]}, "mx.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}}


def asking(server: DnsServer) -> Resolver:
    return Resolver("/nonexistent", [(server.host, server.port)], patience=0.5)


async def test_mx_records_come_without_their_final_dot() -> None:
    async with DnsServer(ZONES) as server:
        assert await asking(server).mx("example.org") == (Mx(10, "mx.example.org"),)


async def test_addresses_come_ipv6_first() -> None:
    async with DnsServer(ZONES) as server:
        assert await asking(server).addresses("mx.example.org") == ("2001:db8::1", "192.0.2.1")


async def test_addresses_of_one_kind_are_enough() -> None:
    async with DnsServer(ZONES, rcodes={"mx.example.org AAAA": "SERVFAIL"}) as server:
        assert await asking(server).addresses("mx.example.org") == ("192.0.2.1",)
    async with DnsServer(ZONES, rcodes={"mx.example.org": "SERVFAIL"}) as server:
        with pytest.raises(DnsTrouble):
            await asking(server).addresses("mx.example.org")


async def test_a_domain_without_records_of_the_kind_is_no_missing_domain() -> None:
    async with DnsServer(ZONES) as server:
        assert await asking(server).mx("mx.example.org") == ()
        with pytest.raises(NoSuchDomain):
            await asking(server).mx("nowhere.example.org")


async def test_a_name_without_a_dot_is_asked_for_as_it_is() -> None:
    async with DnsServer(ZONES) as server:
        with pytest.raises(NoSuchDomain):
            await asking(server).mx("mx")
        assert server.asked == ["udp mx MX"]


async def test_an_answer_counts_as_long_as_it_says() -> None:
    async with DnsServer(ZONES, ttl=1) as server:
        resolver = asking(server)
        for _ in range(3):
            await resolver.mx("example.org")
        assert server.asked == ["udp example.org MX"]
        deadline = time.monotonic() + 5
        while len(server.asked) == 1 and time.monotonic() < deadline:
            await resolver.mx("example.org")
        assert server.asked == ["udp example.org MX"] * 2


async def test_trouble_is_asked_about_again_at_once() -> None:
    async with DnsServer(ZONES, rcodes={"example.org": "SERVFAIL"}) as server:
        resolver = asking(server)
        with pytest.raises(DnsTrouble):
            await resolver.mx("example.org")
        server.rcodes = {}
        assert await resolver.mx("example.org") == (Mx(10, "mx.example.org"),)


async def test_a_changed_resolv_conf_counts_at_the_next_question(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    resolver = Resolver(str(conf), patience=0.2)
    with pytest.raises(DnsTrouble, match="names no server to ask"):
        await resolver.mx("example.org")
    conf.write_text("nameserver 127.0.0.253\n")
    with pytest.raises(DnsTrouble, match=r"example\.org"):
        await resolver.mx("example.org")


async def test_below_a_root_its_own_resolv_conf_counts(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "resolv.conf").write_text("# nothing\n")
    by_mx = Relay(name="relay")
    relayer = Relayer.make(lambda: config(by_mx), layout(str(tmp_path)), lambda: 0)
    (attempt,) = await relayer.deliver(batch(), route_to(by_mx, "example.org"))
    assert isinstance(attempt, Attempt)
    assert f"{tmp_path}/etc/resolv.conf names no server to ask" in attempt.outcome.reply.text
    await relayer.aclose()
