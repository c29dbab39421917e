"""What an action can be told about its smarthosts, and about how we present ourselves to them."""

from __future__ import annotations

import pytest

from policy.config import Relay
from policy.tables.inline import InlineTable
from spool.outcome import Deferred, Delivered, Stage
from tests.tools.recording_sink import RecordingSink
from tests.tools.relaying import Secrets, house, to_host

pytestmark = pytest.mark.anyio


async def test_the_recipients_domain_decides_through_which_smarthost_its_mail_goes() -> None:
    async with RecordingSink() as one, RecordingSink() as other:
        table = InlineTable.of_mapping(
            "hosts", {"example.org": f"127.0.0.1:{one.port}", "example.net": f"smtp://127.0.0.1:{other.port}"}
        )
        async with house(Relay(name="relay", domain=table)) as sender:
            assert isinstance(await sender.outcome(domain="example.net"), Delivered)
            assert isinstance(await sender.outcome(domain="EXAMPLE.ORG"), Delivered)
    assert (len(one.messages), len(other.messages)) == (1, 1)


async def test_a_domain_without_a_smarthost_waits_and_says_why() -> None:
    async with house(Relay(name="relay", domain=InlineTable.of_mapping("hosts", {"a": "b"}))) as sender:
        outcome = await sender.outcome(domain="example.org")
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.ROUTE
    assert outcome.reply.text == 'Cannot retrieve smarthost for example.org: table "hosts" does not name one'


async def test_a_table_of_smarthosts_is_asked_anew_at_each_attempt() -> None:
    async with RecordingSink() as sink:
        table = Secrets({})
        async with house(Relay(name="relay", domain=table)) as sender:
            assert isinstance(await sender.outcome(), Deferred)
            table.entries["example.org"] = f"127.0.0.1:{sink.port}"
            assert isinstance(await sender.outcome(), Delivered)


async def test_a_table_of_smarthosts_that_cannot_be_asked_lets_mail_wait() -> None:
    async with house(Relay(name="relay", domain=Secrets(broken=["the disk is gone"]))) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert "the disk is gone" in outcome.reply.text


async def test_each_delivery_begins_with_the_next_smarthost() -> None:
    async with RecordingSink() as one, RecordingSink() as other:
        action = Relay(name="relay", hosts=(to_host(one.port), to_host(other.port)))
        async with house(action) as sender:
            for _ in range(4):
                assert isinstance(await sender.outcome(), Delivered)
    assert (len(one.messages), len(other.messages)) == (2, 2)


async def test_a_list_of_smarthosts_is_asked_anew_at_each_attempt() -> None:
    async with RecordingSink() as one, RecordingSink() as other:
        first, second = f"127.0.0.1:{one.port}", f"127.0.0.1:{other.port}"
        table = Secrets({first: first})
        async with house(Relay(name="relay", hosts=(to_host(one.port),), host_table=table)) as sender:
            assert isinstance(await sender.outcome(), Delivered)
            del table.entries[first]
            table.entries[second] = second
            assert isinstance(await sender.outcome(), Delivered)
    assert (len(one.messages), len(other.messages)) == (1, 1)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (Secrets({}), 'table "secrets" names none'),
        (Secrets({"x": "tls://x"}), 'table secrets has a line that is no relay URL: unknown scheme "tls"'),
        (Secrets(broken=["the disk is gone"], entries={"x": "x"}), "the disk is gone"),
    ],
)
async def test_a_list_that_names_no_smarthost_any_more_lets_mail_wait(table: Secrets, reason: str) -> None:
    async with house(Relay(name="relay", hosts=(to_host(1),), host_table=table)) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.ROUTE
    assert outcome.reply.text.startswith(f"Cannot retrieve smarthost: {reason}")


async def test_our_name_is_that_of_the_address_we_connect_from() -> None:
    names = InlineTable.of_mapping("names", {"127.0.0.1": "out.example.net"})
    async with RecordingSink() as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port),), helo="box.example.net", helo_src=names)
        async with house(action) as sender:
            assert [type(await sender.outcome()) for _ in range(2)] == [Delivered] * 2
    (peer,) = sink.peers
    assert peer.commands[0] == "EHLO out.example.net"


async def test_an_address_without_a_name_of_its_own_has_the_usual_one() -> None:
    names = InlineTable.of_mapping("names", {"192.0.2.1": "out.example.net"})
    async with RecordingSink() as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port),), helo="box.example.net", helo_src=names)
        async with house(action) as sender:
            assert isinstance(await sender.outcome(), Delivered)
    assert sink.peers[0].commands[0] == "EHLO box.example.net"
