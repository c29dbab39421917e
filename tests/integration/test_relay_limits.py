"""``mta limit``: how many connections a relay opens, how soon, and what goes over each."""

from __future__ import annotations

import time
from dataclasses import replace

import anyio
import pytest

from policy.config import Relay
from policy.limits import Limits, MtaLimits
from policy.tables.inline import InlineTable
from spool.outcome import Deferred, Delivered, Outcome, Stage
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.relaying import IMPATIENT, House, Letter, house, to_host

pytestmark = pytest.mark.anyio


def limited(**mta: int) -> dict[str, object]:
    return {"limits": Limits(MtaLimits(**mta))}


def to(*sinks: RecordingSink) -> Relay:
    return Relay(name="relay", hosts=tuple(to_host(sink.port) for sink in sinks))


async def send_at_once(sender: House, messages: int) -> list[Outcome]:
    outcomes: list[Outcome] = []

    async def send() -> None:
        outcomes.append(await sender.outcome())

    async with anyio.create_task_group() as group:
        for _ in range(messages):
            group.start_soon(send)
    return outcomes


@pytest.mark.parametrize("kind", ["host", "route", "source", "connector", "relay", "domain"])
async def test_no_more_connections_are_opened_than_the_limit_says(kind: str) -> None:
    async with RecordingSink() as sink:
        sink.on("dot", Act(delay=0.02), times=None)
        async with house(to(sink), more=limited(**{f"max_conn_per_{kind}": 2})) as sender:
            outcomes = await send_at_once(sender, 8)
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 8
    assert len(sink.peers) == 2


async def test_a_limit_may_allow_more_than_is_usual() -> None:
    async with RecordingSink() as sink:
        sink.on("dot", Act(delay=0.3), times=None)
        async with house(to(sink), more=limited(max_conn_per_host=12)) as sender:
            await send_at_once(sender, 14)
    assert len(sink.peers) == 12


async def test_an_idle_connection_of_other_mail_makes_room() -> None:
    async with RecordingSink() as one, RecordingSink() as other:
        table = InlineTable.of_mapping("hosts", {"a": f"127.0.0.1:{one.port}", "b": f"127.0.0.1:{other.port}"})
        action = Relay(name="relay", domain=table)
        async with house(action, more=limited(max_conn_per_source=1)) as sender:
            assert isinstance(await sender.outcome(domain="a"), Delivered)
            assert isinstance(await sender.outcome(domain="b"), Delivered)
            assert one.peers[0].commands[-1] == "QUIT"


async def test_a_connection_that_could_not_be_used_does_not_count_any_more() -> None:
    async with RecordingSink() as sink:
        sink.on("connect", Act("421 4.3.2 not now"))
        async with house(to(sink), more=limited(max_conn_per_host=1)) as sender:
            assert isinstance(await sender.outcome(), Deferred)
            assert isinstance(await sender.outcome(), Delivered)


async def test_a_connection_that_ends_with_the_answer_to_ehlo_does_not_count_any_more() -> None:
    async with RecordingSink() as sink:
        sink.on("EHLO", Act(b"250 box\r\n", cut=True), times=3)
        async with house(to(sink), more=limited(max_conn_per_host=1)) as sender:
            with anyio.fail_after(10):
                outcomes = [await sender.outcome() for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Deferred] * 3 + [Delivered]


async def test_each_source_address_has_as_many_connections_as_the_limit_says() -> None:
    sources = InlineTable.of_list("src", ["127.0.0.2", "127.0.0.3", "::1"])
    async with RecordingSink() as sink:
        sink.on("dot", Act(delay=0.02), times=None)
        action = replace(to(sink), src=sources)
        async with house(action, more=limited(max_conn_per_source=1)) as sender:
            outcomes = await send_at_once(sender, 6)
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 6
    assert sorted(peer.address for peer in sink.peers) == ["127.0.0.2", "127.0.0.3"]


async def test_who_must_wait_for_a_new_connection_takes_one_that_becomes_free() -> None:
    async with RecordingSink() as sink, house(to(sink), more=limited(conn_delay_route=60)) as sender:
        with anyio.fail_after(10):
            outcomes = await send_at_once(sender, 5)
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 5
    assert len(sink.peers) == 1


async def test_a_connection_follows_another_after_the_delay() -> None:
    async with RecordingSink() as sink:
        started = time.monotonic()
        async with house(to(sink), more=limited(conn_delay_host=1, session_mail_max=1)) as sender:
            assert [type(await sender.outcome()) for _ in range(2)] == [Delivered] * 2
    assert len(sink.peers) == 2
    assert time.monotonic() - started >= 1


async def test_a_session_has_as_many_messages_as_the_limit_says() -> None:
    async with RecordingSink() as sink, house(to(sink), more=limited(session_mail_max=2)) as sender:
        for _ in range(5):
            await sender.outcome()
    assert [sum(line.startswith("MAIL") for line in peer.commands) for peer in sink.peers] == [2, 2, 1]


async def test_a_message_for_many_goes_through_several_sessions_of_few() -> None:
    everybody = Letter(to=tuple(f"user{number}@example.org" for number in range(250)))
    async with RecordingSink() as sink, house(to(sink), more=limited(session_mail_max=1)) as sender:
        outcomes = await sender.outcomes(everybody)
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 250
    assert len(sink.peers) == 3


async def test_a_session_rests_between_transactions() -> None:
    async with RecordingSink() as sink:
        started = time.monotonic()
        async with house(to(sink), more=limited(session_transaction_delay=1)) as sender:
            for _ in range(2):
                await sender.outcome()
    assert len(sink.peers) == 1
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(("keepalive", "peers"), [(0, 2), (5, 1)])
async def test_a_session_is_kept_without_work_as_long_as_the_limit_says(keepalive: int, peers: int) -> None:
    async with RecordingSink() as sink:
        timeouts = replace(IMPATIENT, idle=0.02)
        async with house(to(sink), timeouts=timeouts, more=limited(session_keepalive=keepalive)) as sender:
            await sender.outcome()
            await anyio.sleep(0.1)
            await sender.outcome()
    assert len(sink.peers) == peers


@pytest.mark.parametrize(("limit", "peers"), [(3, 2), (4, 1)])
async def test_a_session_that_refuses_recipients_in_a_row_is_ended(limit: int, peers: int) -> None:
    async with RecordingSink() as sink:
        sink.on("RCPT", Act("550 5.1.1 nobody"), containing="nobody", times=None)
        async with house(to(sink), more=limited(max_failures_per_session=limit)) as sender:
            await sender.outcomes(Letter(to=("nobody1@example.org", "nobody2@example.org", "nobody3@example.org")))
            assert isinstance(await sender.outcome(), Delivered)
    assert len(sink.peers) == peers


async def test_a_recipient_that_is_taken_ends_the_row_of_refused_ones() -> None:
    mixed = Letter(to=("nobody1@example.org", "ann@example.org", "nobody2@example.org"))
    async with RecordingSink() as sink:
        sink.on("RCPT", Act("550 5.1.1 nobody"), containing="nobody", times=None)
        async with house(to(sink), more=limited(max_failures_per_session=2)) as sender:
            await sender.outcomes(mixed)
            await sender.outcome()
    assert len(sink.peers) == 1


@pytest.mark.parametrize(("family", "expected"), [(4, Delivered), (6, Deferred)])
async def test_only_addresses_of_the_wanted_version_are_connected_to(family: int, expected: type[Outcome]) -> None:
    async with RecordingSink() as sink, house(to(sink), more=limited(family=family)) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, expected)
    assert len(sink.peers) == (expected is Delivered)
    if isinstance(outcome, Deferred):
        assert outcome.stage is Stage.CONNECT
        assert outcome.reply.text == "no address of 127.0.0.1 is of IPv6, and by mta limit no other is used"


async def test_a_smarthost_has_the_limits_that_are_said_for_it() -> None:
    for_it = Limits(MtaLimits(), {"127.0.0.1": MtaLimits(session_mail_max=1)})
    async with RecordingSink() as sink, house(to(sink), more={"limits": for_it}) as sender:
        for _ in range(3):
            await sender.outcome()
        sender.config = replace(sender.config, limits=Limits())
        for _ in range(3):
            await sender.outcome()
    assert len(sink.peers) == 4


async def test_a_smarthost_of_a_table_has_its_own_limits_and_not_those_of_the_destination() -> None:
    limits = Limits(
        MtaLimits(), {"127.0.0.1": MtaLimits(session_mail_max=2), "example.org": MtaLimits(session_mail_max=1)}
    )
    async with RecordingSink() as sink:
        action = Relay(name="relay", domain=InlineTable.of_mapping("hosts", {"example.org": f"127.0.0.1:{sink.port}"}))
        async with house(action, more={"limits": limits}) as sender:
            for _ in range(4):
                await sender.outcome()
    assert len(sink.peers) == 2
