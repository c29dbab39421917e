"""LMTP to a server that records what it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from delivery.lmtp import LmtpClient
from policy.config import Config, Lmtp
from spool.bodies import LargeBody, checksum
from spool.files import SystemOps
from spool.message import Claimed
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Stage
from tests.tools.claims import claimed
from tests.tools.recording_sink import OFFERS, Act, RecordingSink
from tests.tools.relaying import IMPATIENT

pytestmark = pytest.mark.anyio

CONFIG = Config(path="smtpd.conf", server_name="mail.example.org", listeners=(), actions={}, rules=())
PLAIN_OFFERS = tuple(offer for offer in OFFERS if offer not in ("DSN", "PIPELINING"))


@pytest.fixture
async def client() -> AsyncIterator[LmtpClient]:
    client = LmtpClient(lambda: CONFIG, lambda: 5000, IMPATIENT)
    yield client
    await client.aclose()


@pytest.fixture
async def server() -> AsyncIterator[RecordingSink]:
    async with RecordingSink(lmtp=True, offers=PLAIN_OFFERS) as sink:
        yield sink


def to(server: RecordingSink, *, rcpt_to: bool = False) -> Lmtp:
    return Lmtp(name="local", destination=f"{server.host}:{server.port}", rcpt_to=rcpt_to)


async def outcomes(client: LmtpClient, action: Lmtp, *items: Claimed) -> list[Delivered | Deferred | Failed]:
    results: Sequence[Attempt | Damaged] = await client.deliver(items, action)
    assert [result.envelope for result in results] == [item.envelope.id for item in items]
    return [result.outcome for result in results if isinstance(result, Attempt)]


async def test_a_message_is_given_with_its_header_to_the_users_name(client: LmtpClient, server: RecordingSink) -> None:
    (outcome,) = await outcomes(client, to(server), claimed("bob", recipient="list@example.org"))
    assert isinstance(outcome, Delivered)
    assert outcome.remote == ""
    (message,) = server.messages
    assert message.peer.commands[0] == "LHLO mail.example.org"
    assert message.rcpts == ("TO:<bob>",)
    assert message.body == (
        b"Return-Path: <ann@example.com>\r\nDelivered-To: list@example.org\r\nSubject: hello\r\n\r\nhello\r\n"
    )


async def test_rcpt_to_gives_the_expanded_address(client: LmtpClient, server: RecordingSink) -> None:
    await outcomes(client, to(server, rcpt_to=True), claimed("bob", recipient="list@example.org"))
    assert server.messages[0].rcpts == ("TO:<bob@example.org>",)


async def test_a_unix_socket_is_a_destination_too(client: LmtpClient, tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    async with RecordingSink(lmtp=True, path=path) as sink:
        (outcome,) = await outcomes(client, Lmtp(name="local", destination=path), claimed("bob"))
        assert isinstance(outcome, Delivered)
        assert len(sink.messages) == 1
        await client.aclose()


async def test_two_envelopes_of_one_recipient_share_the_content(client: LmtpClient) -> None:
    async with RecordingSink(lmtp=True) as sink:
        items = [claimed("bob", recipient="x@example.org"), claimed("eve", recipient="x@example.org", ordinal=2)]
        sink.on("dot", Act("452 4.2.2 mailbox full"), containing="eve")
        first, second = await outcomes(client, to(sink), *items)
        assert isinstance(first, Delivered)
        assert isinstance(second, Deferred)
        assert second.reply.status == "4.2.2"
        assert [peer.commands.count("DATA") for peer in sink.peers] == [1]
        await client.aclose()


async def test_messages_of_a_batch_travel_over_one_connection(client: LmtpClient, server: RecordingSink) -> None:
    results = await outcomes(client, to(server), *(claimed("bob", message=n) for n in range(1, 6)))
    assert [type(result) for result in results] == [Delivered] * 5
    assert len(server.messages) == 5
    await outcomes(client, to(server), claimed("bob", message=9))
    assert len(server.peers) == 1


@pytest.mark.parametrize("instant", ["RCPT", "dot", "MAIL"])
@pytest.mark.parametrize(("reply", "kind"), [("550 5.1.1 nobody", Failed), ("450 4.2.0 later", Deferred)])
async def test_the_servers_answer_to_a_recipient_is_the_outcome(
    client: LmtpClient, server: RecordingSink, instant: str, reply: str, kind: type
) -> None:
    server.on(instant, Act(reply))
    (outcome,) = await outcomes(client, to(server), claimed("bob"))
    assert isinstance(outcome, kind)
    assert str(outcome.reply) == reply
    assert outcome.remote == "127.0.0.1"
    assert not outcome.stage.closes_lane


@pytest.mark.reliability("4 local once")
async def test_what_a_server_took_without_a_word_is_given_again_to_the_octet(
    client: LmtpClient, server: RecordingSink
) -> None:
    server.on("dot", Act(b"", cut=True))
    one = claimed("bob", recipient="list@example.org")
    (outcome,) = await outcomes(client, to(server), one)
    assert isinstance(outcome, Deferred)
    assert "sent, no reply seen" in outcome.reply.text
    (outcome,) = await outcomes(client, to(server), one)
    assert isinstance(outcome, Delivered)
    first, again = server.messages
    assert (again.raw, again.mail, again.rcpts) == (first.raw, first.mail, first.rcpts)


@pytest.mark.parametrize("destination", ["127.0.0.1:1", "/no/such/socket", "[::1]:1"])
async def test_a_server_that_is_not_there_closes_the_lane(client: LmtpClient, destination: str) -> None:
    results = await outcomes(
        client, Lmtp(name="local", destination=destination), claimed("bob"), claimed("bob", message=2)
    )
    for outcome in results:
        assert isinstance(outcome, Deferred)
        assert outcome.stage is Stage.CONNECT


@pytest.mark.parametrize("reply", ["421 4.3.2 busy", "554 5.3.2 no service"])
@pytest.mark.parametrize("instant", ["connect", "LHLO"])
async def test_a_server_that_will_not_talk_closes_the_lane(
    client: LmtpClient, server: RecordingSink, instant: str, reply: str
) -> None:
    server.on(instant, Act(reply))
    (outcome,) = await outcomes(client, to(server), claimed("bob"))
    assert isinstance(outcome, Deferred)
    assert outcome.stage.closes_lane


async def test_a_kept_connection_that_has_died_is_replaced_at_once(client: LmtpClient, server: RecordingSink) -> None:
    await outcomes(client, to(server), claimed("bob"))
    server.on("MAIL", Act(b"", cut=True))
    (outcome,) = await outcomes(client, to(server), claimed("bob", message=2))
    assert isinstance(outcome, Delivered)
    assert len(server.peers) == 2


async def test_a_message_that_was_delivered_to_the_address_before_goes_in_a_loop(
    client: LmtpClient, server: RecordingSink
) -> None:
    looping = claimed("bob", body=b"Delivered-To: bob@example.org\r\nSubject: x\r\n\r\n")
    (outcome,) = await outcomes(client, to(server), looping)
    assert isinstance(outcome, Failed)
    assert outcome.reply.status == "5.4.6"
    assert server.messages == []


async def test_a_loop_of_one_recipient_is_not_another_s(client: LmtpClient, server: RecordingSink) -> None:
    body = b"Delivered-To: bob@example.org\r\nSubject: x\r\n\r\n"
    people = [
        claimed(name, recipient="list@example.org", ordinal=ordinal, body=body)
        for ordinal, name in enumerate(("bob", "ann"), 1)
    ]
    assert [type(outcome) for outcome in await outcomes(client, to(server), *people)] == [Failed, Delivered]
    assert [message.rcpts for message in server.messages] == [("TO:<ann>",)]
    assert [type(outcome) for outcome in await outcomes(client, to(server), *people[::-1])] == [Delivered, Failed]


async def test_a_damaged_body_is_told_apart(client: LmtpClient, server: RecordingSink, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x\r\n" * 50_000)
    body = LargeBody(str(tmp_path / "body"), 150_000, checksum(b"y\r\n" * 50_000), SystemOps())
    results = await client.deliver([claimed("bob", body=body), claimed("bob", message=2)], to(server))
    assert [type(result) for result in results] == [Damaged, Attempt]
    assert len(server.messages) == 1


async def test_a_server_that_takes_over_reports_is_left_to_send_them(client: LmtpClient) -> None:
    async with RecordingSink(lmtp=True) as sink:
        (outcome,) = await outcomes(client, to(sink), claimed("bob"))
        assert isinstance(outcome, Delivered)
        assert outcome.dsn_passed_on
        await client.aclose()
