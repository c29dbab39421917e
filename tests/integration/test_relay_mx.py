"""Mail by MX: which hosts are tried, in which order, and which domains fail at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from delivery.resolver import Resolver
from delivery.routes import Routes
from policy.config import Listener, Relay, RelayTls
from spool.outcome import Attempt, Deferred, Delivered, Failed, Stage
from tests.tools.certificates import CertificateAuthority
from tests.tools.dns_server import DnsServer, Zones
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.relaying import House, config, house, route_to, to_host

pytestmark = pytest.mark.anyio

#: Addresses of loopback that stand for the hosts of the zones below.
HOSTS = ("127.0.0.2", "127.0.0.3")
A, B = HOSTS
ZONES: Zones = {
    "example.org": {"MX": ["10 a.example.org.", "20 b.example.org."]},
    "a.example.org": {"A": [A]},
    "b.example.org": {"A": [B]},
}
BY_MX = Relay(name="relay")


class Street:
    """A sink at each address of `HOSTS`, a name server, and a relayer that asks it."""

    def __init__(self, sinks: dict[str, RecordingSink], dns: DnsServer, sender: House) -> None:
        self.sinks = sinks
        self.dns = dns
        self.house = sender

    def visited(self) -> list[str]:
        """Which sinks were connected to."""
        return [address for address, sink in self.sinks.items() if sink.peers]


@asynccontextmanager
async def street(
    zones: Zones = ZONES,
    action: Relay = BY_MX,
    *,
    rcodes: Mapping[str, str] | None = None,
    silent: frozenset[str] = frozenset(),
    more: Mapping[str, object] | None = None,
) -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        sinks = {A: await stack.enter_async_context(RecordingSink(host=A))}
        port = sinks[A].port
        for address in HOSTS[1:]:
            sinks[address] = await stack.enter_async_context(RecordingSink(host=address, port=port))
        dns = await stack.enter_async_context(DnsServer(zones, rcodes=rcodes, silent=silent))
        listeners = {"listeners": (Listener("127.0.0.9", port),)}
        sender = await stack.enter_async_context(
            house(action, nameservers=((dns.host, dns.port),), mx_port=port, more=listeners | dict(more or {}))
        )
        yield Street(sinks, dns, sender)


# -- which host -------------------------------------------------------------------------------------------------------


async def test_the_preferred_host_gets_the_mail() -> None:
    async with street() as at:
        outcome = await at.house.outcome()
        assert isinstance(outcome, Delivered)
        assert outcome.remote == f"a.example.org [{A}]"
        assert at.visited() == [A]


async def test_the_next_host_is_tried_when_the_preferred_one_does_not_answer() -> None:
    async with street() as at:
        at.sinks[A].on("connect", Act("421 4.3.2 not now"))
        outcome = await at.house.outcome()
        assert isinstance(outcome, Delivered)
        assert outcome.remote == f"b.example.org [{B}]"


async def test_hosts_of_equal_preference_share_the_load() -> None:
    zones = {**ZONES, "example.org": {"MX": ["10 a.example.org.", "10 b.example.org."]}}
    async with DnsServer(zones) as dns:
        first = set()
        for _ in range(40):
            resolver = Resolver("/nonexistent", [(dns.host, dns.port)])
            routes = Routes(lambda: config(BY_MX), resolver)
            first.add((await routes.candidates(route_to(BY_MX, "example.org")))[0].hop.host)
    assert first == {"a.example.org", "b.example.org"}


async def test_a_domain_without_mx_is_its_own_host() -> None:
    async with street({"example.org": {"A": [A]}}) as at:
        outcome = await at.house.outcome()
        assert isinstance(outcome, Delivered)
        assert outcome.remote == f"example.org [{A}]"


@pytest.mark.parametrize("domain", [f"[{A}]", "[IPv6:::ffff:127.0.0.2]"])
async def test_an_address_literal_is_its_own_host_and_asks_no_dns(domain: str) -> None:
    async with street() as at:
        assert isinstance(await at.house.outcome(domain=domain), Delivered)
        assert at.visited() == [A]
        assert at.dns.asked == []


async def test_a_host_whose_ipv6_leads_nowhere_gets_its_mail_over_ipv4() -> None:
    zones = {**ZONES, "a.example.org": {"AAAA": ["::1"], "A": [A]}}
    async with street(zones) as at:
        assert isinstance(await at.house.outcome(), Delivered)
        assert at.visited() == [A]


async def test_an_internationalised_domain_is_asked_for_by_its_a_label() -> None:
    async with street({"xn--bcher-kva.example": {"MX": ["10 a.example.org."]}, "a.example.org": {"A": [A]}}) as at:
        assert isinstance(await at.house.outcome(domain="bücher.example"), Delivered)


async def test_a_second_message_asks_the_dns_nothing() -> None:
    async with street() as at:
        await at.house.outcome()
        asked = len(at.dns.asked)
        await at.house.outcome()
        assert len(at.dns.asked) == asked
        assert len(at.sinks[A].peers) == 1


async def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    async with street() as at:
        at.dns.truncates = True
        assert isinstance(await at.house.outcome(), Delivered)
        assert "tcp example.org MX" in at.dns.asked


async def test_required_tls_verifies_the_name_of_the_mx(tmp_path: object) -> None:
    authority = CertificateAuthority(tmp_path)  # type: ignore[arg-type]
    action = Relay(name="relay", require_tls=True, ca=authority.path)
    async with street(action=action) as at:
        at.sinks[A].tls = authority.issue("a.example.org").server_context()
        at.sinks[B].tls = authority.issue("example.org").server_context()
        (attempt,) = await at.house.send()
        assert isinstance(attempt, Attempt)
        assert isinstance(attempt.outcome, Delivered)
        assert attempt.route.startswith("smtp+tls://a.example.org:")
        at.sinks[A].tls = at.sinks[B].tls
        at.sinks[A].on("MAIL", Act("421 4.3.2 closing", cut=True))
        outcome = await at.house.outcome()
        assert isinstance(outcome, Deferred)
        assert (outcome.stage, outcome.reply.status) == (Stage.TLS, "4.7.5")


# -- ourselves --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"server_name": "B.example.org"},
        {"local_names": frozenset({"b.example.org"})},
        {"listeners": (Listener("127.0.0.9", 587, hostname="b.example.org"),)},
    ],
    ids=["server name", "local name", "listener's name"],
)
async def test_only_hosts_preferred_over_our_own_name_are_tried(more: dict[str, object]) -> None:
    async with street(more=more) as at:
        at.sinks[A].on("connect", Act("421 4.3.2 not now"))
        assert isinstance(await at.house.outcome(), Deferred)
        assert at.visited() == [A]


async def test_a_backup_that_the_dns_knows_by_another_name_gives_mail_to_better_hosts_alone() -> None:
    backup = Relay(name="relay", backup=True, backup_mx="B.example.org")
    async with street(action=backup) as at:
        at.sinks[A].on("connect", Act("421 4.3.2 not now"))
        assert isinstance(await at.house.outcome(), Deferred)
        assert at.visited() == [A]


async def test_a_backup_that_is_not_among_the_hosts_may_try_all() -> None:
    async with street(action=Relay(name="relay", backup=True, backup_mx="mx.example.net")) as at:
        at.sinks[A].on("connect", Act("421 4.3.2 not now"))
        assert isinstance(await at.house.outcome(), Delivered)
        assert at.visited() == [A, B]


@pytest.mark.parametrize("listening", [A, "0.0.0.0"])
async def test_mail_whose_best_host_is_our_own_address_waits_with_a_reason(listening: str) -> None:
    async with street() as at:
        more = {"listeners": (Listener(listening, at.sinks[A].port),), "local_addresses": frozenset({A})}
        at.house.config = config(BY_MX, **more)
        outcome = await at.house.outcome()
        assert isinstance(outcome, Deferred)
        assert (outcome.stage, outcome.reply.status) == (Stage.ROUTE, "4.4.6")
        assert "loop back" in outcome.reply.text
        assert at.visited() == []


async def test_an_address_of_ours_on_which_we_do_not_listen_is_somebody_elses() -> None:
    async with street(more={"local_addresses": frozenset({A})}) as at:
        assert isinstance(await at.house.outcome(), Delivered)


# -- domains that fail, and those that wait ---------------------------------------------------------------------------


async def test_a_domain_that_does_not_exist_fails() -> None:
    async with street() as at:
        outcome = await at.house.outcome(domain="nowhere.example")
    assert isinstance(outcome, Failed)
    assert (outcome.reply.status, outcome.stage) == ("5.1.2", Stage.ROUTE)


async def test_a_domain_with_a_null_mx_fails() -> None:
    async with street({"example.org": {"MX": ["0 ."]}}) as at:
        outcome = await at.house.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.reply.code, outcome.reply.status) == (556, "5.1.10")


@pytest.mark.parametrize("domain", ["x" * 64 + ".example", "[127.0.0.256]"])
async def test_what_can_be_no_domain_fails(domain: str) -> None:
    async with street() as at:
        outcome = await at.house.outcome(domain=domain)
    assert isinstance(outcome, Failed)
    assert outcome.reply.status == "5.1.2"


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR"])
async def test_a_name_server_in_trouble_defers(rcode: str) -> None:
    async with street(rcodes={"example.org": rcode}) as at:
        outcome = await at.house.outcome()
    assert isinstance(outcome, Deferred)
    assert (outcome.stage, outcome.reply.status) == (Stage.ROUTE, "4.4.3")
    assert outcome.reply.text == "MX lookup: example.org: no name server could say (MX record)"


async def test_a_name_server_that_does_not_answer_defers() -> None:
    async with street(silent=frozenset({"example.org"})) as at:
        outcome = await at.house.outcome()
    assert isinstance(outcome, Deferred)
    assert "the DNS does not answer" in outcome.reply.text


async def test_no_name_server_at_all_defers() -> None:
    async with house(BY_MX) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.reply.text == "MX lookup: /nonexistent/resolv.conf names no server to ask"


@pytest.mark.parametrize(
    "zones",
    [
        {"example.org": {"MX": ["10 gone.example.org."]}},
        {"example.org": {"MX": ["10 a.example.org."]}, "a.example.org": {"TXT": ["x"]}},
        {"example.org": {"TXT": ["x"]}},
    ],
    ids=["no such host", "a host without address", "neither MX nor address"],
)
async def test_a_domain_whose_hosts_have_no_address_waits(zones: Zones) -> None:
    async with street(zones) as at:
        outcome = await at.house.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.ROUTE


async def test_a_host_without_address_does_not_hide_the_next() -> None:
    async with street({**ZONES, "a.example.org": {"TXT": ["x"]}}) as at:
        assert isinstance(await at.house.outcome(), Delivered)
        assert at.visited() == [B]


# -- smarthosts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [RelayTls.OPPORTUNISTIC, RelayTls.NEVER])
async def test_a_smarthosts_name_is_looked_up_as_this_machine_does(scheme: RelayTls) -> None:
    async with RecordingSink() as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port, scheme, host="localhost"),))
        async with house(action) as sender:
            outcome = await sender.outcome()
    assert isinstance(outcome, Delivered)
    assert outcome.remote == "localhost [127.0.0.1]"


async def test_a_smarthosts_name_that_means_nothing_always_waits() -> None:
    action = Relay(name="relay", hosts=(to_host(25, host="no-such-host.invalid"),))
    async with house(action) as sender:
        with anyio.fail_after(30):
            outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert (outcome.stage, outcome.reply.status) == (Stage.ROUTE, "4.4.3")


@pytest.mark.parametrize(
    ("listening", "address"),
    [
        ("0.0.0.0", "127.0.0.2"),
        ("0.0.0.0", "0.0.0.0"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.2", "127.0.0.2"),
        ("127.0.0.2", "::ffff:127.0.0.2"),
        ("::", "::1"),
        ("::1", "::"),
    ],
)
async def test_no_form_of_our_own_address_is_relayed_to(listening: str, address: str) -> None:
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    zones: Zones = {
        "example.org": {"MX": ["10 a.example.org."]},
        "a.example.org": {"AAAA" if ":" in address else "A": [address]},
    }
    async with street(zones) as at:
        at.house.config = replace(at.house.config, listeners=(Listener(listening, at.sinks[A].port),))
        for domain in ("example.org", literal):
            outcome = await at.house.outcome(domain=domain)
            assert isinstance(outcome, Deferred)
            assert (outcome.stage, outcome.reply.status) == (Stage.ROUTE, "4.4.6")
        assert at.visited() == []
