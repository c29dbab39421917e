"""Messages over real sockets: what the next server is told, and what we make of its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from policy.config import Relay, RelayTls
from spool.address import NULL_SENDER, parse_address
from spool.bodies import SmallBody
from spool.message import BodyKind, Notify, Ret
from spool.outcome import Attempt, Deferred, Delivered, Failed, Stage
from tests.tools.recording_sink import OFFERS, Act, RecordingSink
from tests.tools.relaying import BODY, House, Letter, house, to_host

pytestmark = pytest.mark.anyio
THREE = ("a@example.org", "b@example.org", "c@example.org")


@dataclass
class Pair:
    sink: RecordingSink
    house: House


@pytest.fixture(params=["pipelined", "one by one"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A sink and a relayer that sends there, with and without PIPELINING."""
    offers = OFFERS if request.param == "pipelined" else OFFERS[1:]
    async with RecordingSink(offers=offers) as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        yield Pair(sink, sender)


async def test_a_message_arrives_octet_for_octet(pair: Pair) -> None:
    body = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nmiddle . dot\r\n\r\n.\r\nlast\r\n"
    outcome = await pair.house.outcome(Letter(body=SmallBody(body)))
    (message,) = await pair.sink.received(1)
    assert message.body == body
    assert isinstance(outcome, Delivered)
    assert str(outcome.reply) == "250 2.0.0 Ok: queued"
    assert outcome.remote == "127.0.0.1"


@pytest.mark.parametrize("body", [b"", b"\r\n", b".", b".\r\n", b"no end", b"\r\n.\r\n"])
async def test_an_odd_body_arrives_with_no_more_than_its_last_line_ended(pair: Pair, body: bytes) -> None:
    await pair.house.outcome(Letter(body=SmallBody(body)))
    (message,) = await pair.sink.received(1)
    assert message.body == (body if not body or body.endswith(b"\r\n") else body + b"\r\n")


async def test_all_recipients_of_a_message_share_one_transaction(pair: Pair) -> None:
    outcomes = await pair.house.outcomes(Letter(to=THREE))
    (message,) = await pair.sink.received(1)
    assert message.rcpts == tuple(f"TO:<{address}>" for address in THREE)
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 3


async def test_each_recipient_gets_the_answer_to_its_own_rcpt(pair: Pair) -> None:
    pair.sink.on("RCPT", Act("550 5.1.1 nobody here"), containing="a@")
    pair.sink.on("RCPT", Act("451 4.2.1 not now"), containing="b@")
    first, second, third = await pair.house.outcomes(Letter(to=THREE))
    assert isinstance(first, Failed)
    assert (str(first.reply), first.stage) == ("550 5.1.1 nobody here", Stage.RCPT)
    assert isinstance(second, Deferred)
    assert (str(second.reply), second.stage) == ("451 4.2.1 not now", Stage.RCPT)
    assert isinstance(third, Delivered)
    assert pair.sink.messages[0].rcpts == ("TO:<c@example.org>",)


@pytest.mark.parametrize(("code", "kind"), [("450 4.7.1", Deferred), ("550 5.7.1", Failed)])
async def test_an_answer_to_mail_counts_for_all(pair: Pair, code: str, kind: type) -> None:
    pair.sink.on("MAIL", Act(f"{code} you again"))
    outcomes = await pair.house.outcomes(Letter(to=THREE))
    assert [(type(o), o.stage, o.reply.text) for o in outcomes] == [(kind, Stage.MAIL, "you again")] * 3
    assert not outcomes[0].stage.closes_lane


@pytest.mark.parametrize(("code", "kind"), [("451 4.3.0", Deferred), ("554 5.7.1", Failed)])
@pytest.mark.parametrize(("instant", "stage"), [("DATA", Stage.DATA), ("dot", Stage.DOT)])
async def test_an_answer_to_data_or_dot_counts_for_all_that_were_accepted(
    pair: Pair, code: str, kind: type, instant: str, stage: Stage
) -> None:
    pair.sink.on("RCPT", Act("550 5.1.1 nobody here"), containing="a@")
    pair.sink.on(instant, Act(f"{code} no"))
    outcomes = await pair.house.outcomes(Letter(to=THREE))
    assert [(type(o), o.stage) for o in outcomes] == [(Failed, Stage.RCPT), (kind, stage), (kind, stage)]


async def test_a_connection_is_kept_and_reset_after_a_transaction_that_came_to_nothing(pair: Pair) -> None:
    pair.sink.on("RCPT", Act("550 5.1.1 nobody here"))
    assert isinstance(await pair.house.outcome(), Failed)
    assert isinstance(await pair.house.outcome(), Delivered)
    (peer,) = pair.sink.peers
    assert "RSET" in peer.commands


async def test_a_server_that_wants_content_for_nobody_gets_an_empty_one(pair: Pair) -> None:
    pair.sink.on("RCPT", Act("550 5.1.1 nobody here"))
    pair.sink.on("DATA", Act("354 anyway"))
    assert isinstance(await pair.house.outcome(), Failed)
    assert isinstance(await pair.house.outcome(), Delivered)
    assert [message.body for message in pair.sink.messages if message.rcpts] == [BODY]
    assert all(not message.body for message in pair.sink.messages if not message.rcpts)


@pytest.mark.parametrize("reply", ["452 4.5.3 too many", "552 5.5.3 too many", "452 enough"])
async def test_recipients_that_were_too_many_for_one_transaction_go_in_the_next(pair: Pair, reply: str) -> None:
    pair.sink.on("RCPT", Act(reply), containing="b@")
    pair.sink.on("RCPT", Act(reply), containing="c@")
    outcomes = await pair.house.outcomes(Letter(to=THREE))
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 3
    assert [message.rcpts for message in pair.sink.messages] == [
        ("TO:<a@example.org>",),
        ("TO:<b@example.org>", "TO:<c@example.org>"),
    ]


async def test_a_full_mailbox_is_no_matter_of_too_many_recipients(pair: Pair) -> None:
    pair.sink.on("RCPT", Act("552 5.2.2 mailbox full"), times=None)
    assert isinstance(await pair.house.outcome(), Failed)


async def test_no_more_than_a_hundred_recipients_go_in_one_transaction(pair: Pair) -> None:
    many = tuple(f"user{number}@example.org" for number in range(205))
    outcomes = await pair.house.outcomes(Letter(to=many))
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 205
    assert [len(message.rcpts) for message in pair.sink.messages] == [100, 100, 5]
    assert len(pair.sink.peers) == 1


async def test_several_replies_in_one_segment_and_one_in_pieces_pair_with_their_commands() -> None:
    offers = ("PIPELINING",)
    async with RecordingSink(offers=offers) as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        sink.on("MAIL", Act(b""))
        sink.on("RCPT", Act(b"250 2.1.0 Ok\r\n250-2.1.5 first\r\n250 2.1.5 line\r\n55"), containing="a@")
        sink.on("RCPT", Act(b"0 5.1.1 no\r\n"), containing="b@")
        sink.on("DATA", Act("354 Go on"))
        first, second = await sender.outcomes(Letter(to=THREE[:2]))
    assert isinstance(first, Delivered)
    assert isinstance(second, Failed)
    assert str(second.reply) == "550 5.1.1 no"


async def test_lmtp_answers_for_each_recipient_after_the_dot() -> None:
    async with RecordingSink(lmtp=True) as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port, RelayTls.LMTP),))
        async with house(action) as sender:
            sink.on("RCPT", Act("550 5.1.1 nobody here"), containing="a@")
            sink.on("dot", Act("452 4.2.2 over quota"), containing="b@")
            outcomes = await sender.outcomes(Letter(to=THREE))
    assert [(type(outcome), outcome.stage) for outcome in outcomes] == [
        (Failed, Stage.RCPT),
        (Deferred, Stage.DOT),
        (Delivered, Stage.DOT),
    ]
    assert sink.peers[0].commands[0].startswith("LHLO ")


async def test_lmtp_that_hangs_up_between_its_answers_has_delivered_to_who_was_answered() -> None:
    async with RecordingSink(lmtp=True) as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port, RelayTls.LMTP),))
        async with house(action) as sender:
            sink.on("dot", Act(b"", cut=True), containing="b@")
            outcomes = await sender.outcomes(Letter(to=THREE))
    assert [type(outcome) for outcome in outcomes] == [Delivered, Deferred, Deferred]
    assert outcomes[1].reply.text.startswith("sent, no reply seen")


# -- parameters -------------------------------------------------------------------------------------------------------

DSN_LETTER = Letter(
    kind=BodyKind.EIGHT_BIT,
    body=SmallBody("Subject: é\r\n\r\né\r\n".encode()),
    envid="QQ314159",
    ret=Ret.HDRS,
    notify=Notify.SUCCESS | Notify.FAILURE,
    orcpt="rfc822;bob@elsewhere.example",
)


async def test_parameters_are_passed_on_where_they_are_offered(pair: Pair) -> None:
    outcome = await pair.house.outcome(DSN_LETTER)
    (message,) = pair.sink.messages
    assert message.mail == "FROM:<ann@example.com> SIZE=19 BODY=8BITMIME RET=HDRS ENVID=QQ314159"
    assert message.rcpts == ("TO:<bob@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@elsewhere.example",)
    assert isinstance(outcome, Delivered)
    assert outcome.dsn_passed_on


async def test_parameters_stay_at_home_where_they_are_not_offered() -> None:
    async with RecordingSink(offers=()) as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        outcome = await sender.outcome(DSN_LETTER)
        (message,) = sink.messages
    assert (message.mail, message.rcpts) == ("FROM:<ann@example.com>", ("TO:<bob@example.org>",))
    assert message.body == DSN_LETTER.body.read()
    assert isinstance(outcome, Delivered)
    assert not outcome.dsn_passed_on


async def test_a_message_larger_than_the_server_takes_fails_without_being_sent() -> None:
    async with (
        RecordingSink(offers=("SIZE 10",)) as sink,
        house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender,
    ):
        outcome = await sender.outcome()
        assert not [command for command in sink.peers[0].commands if command.startswith("MAIL")]
    assert isinstance(outcome, Failed)
    assert str(outcome.reply) == "552 5.3.4 message too large for peer"


async def test_an_address_in_utf8_goes_to_who_takes_it(pair: Pair) -> None:
    assert isinstance(await pair.house.outcome(Letter(to=("jürgen@example.org",))), Delivered)
    (message,) = pair.sink.messages
    assert message.mail.endswith(" SMTPUTF8")
    assert message.rcpts == ("TO:<jürgen@example.org>",)


async def test_without_smtputf8_only_who_needs_it_is_left_out() -> None:
    utf8 = Letter(to=("jürgen@example.org", "bob@bücher.example", "bob@example.org"))
    async with RecordingSink(offers=()) as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        first, *others = await sender.outcomes(utf8)
        (message,) = sink.messages
    assert isinstance(first, Failed)
    assert first.reply.status == "5.6.7"
    assert [type(outcome) for outcome in others] == [Delivered] * 2
    assert message.rcpts == ("TO:<bob@xn--bcher-kva.example>", "TO:<bob@example.org>")


@pytest.mark.parametrize(
    ("letter", "status"),
    [
        (Letter(sender=parse_address("jürgen@example.com")), "5.6.7"),
        (Letter(kind=BodyKind.SMTPUTF8, body=SmallBody("Subject: é\r\n\r\n".encode())), "5.6.9"),
        (Letter(kind=BodyKind.SMTPUTF8, body=SmallBody("Subject: e\r\n\r\né".encode())), "2.0.0"),
    ],
)
async def test_without_smtputf8_a_message_fails_only_if_its_envelope_or_header_needs_it(
    letter: Letter, status: str
) -> None:
    async with RecordingSink(offers=()) as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        assert (await sender.outcome(letter)).reply.status == status


# -- the envelope sender ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mail_from", "sender", "sent"),
    [
        ("@foo.bar", "root@box.example.net", "root@foo.bar"),
        ("me", "root@box.example.net", "me@box.example.net"),
        ("me@foo.bar", "root@box.example.net", "me@foo.bar"),
        ("", "root@box.example.net", "root@box.example.net"),
    ],
)
async def test_mail_from_replaces_what_it_names(mail_from: str, sender: str, sent: str) -> None:
    async with RecordingSink() as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port),), mail_from=mail_from)
        async with house(action) as sender_house:
            await sender_house.outcome(Letter(sender=parse_address(sender)))
    assert sink.messages[0].mail.split()[0] == f"FROM:<{sent}>"


async def test_the_null_sender_is_never_replaced() -> None:
    async with RecordingSink() as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port),), mail_from="@foo.bar")
        async with house(action) as sender:
            await sender.outcome(Letter(sender=NULL_SENDER))
    assert sink.messages[0].mail.split()[0] == "FROM:<>"


@pytest.mark.parametrize(("helo", "said"), [("", "box.example.net"), ("relay.foo.bar", "relay.foo.bar")])
async def test_we_greet_as_helo_says_or_as_the_server_is_called(helo: str, said: str) -> None:
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),), helo=helo)) as sender:
        await sender.outcome()
    assert sink.peers[0].helo == said


async def test_the_history_says_where_a_message_went(pair: Pair) -> None:
    (attempt,) = await pair.house.send()
    assert isinstance(attempt, Attempt)
    assert attempt.route == f"smtp://127.0.0.1:{pair.sink.port} plain text (no STARTTLS offered)"
    assert attempt.ended >= attempt.started
