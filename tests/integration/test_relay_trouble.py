"""Servers that hang up, hang, or talk nonsense: what is tried again at once, what waits, and what the history says."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import anyio
import pytest

from policy.config import Relay
from spool.errors import BodyDamaged
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Stage
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.relaying import BODY, BRIEF, IMPATIENT, House, Letter, batch, house, route_to, to_host

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop of the daemon, whose transports have their own ways of ending."""
    return "asyncio", {"use_uvloop": True}


#: Octets: more than travels in one piece, and more than socket buffers hold.
LARGE = 8_000_000
THREE = ("a@example.org", "b@example.org", "c@example.org")


@dataclass
class Pair:
    sink: RecordingSink
    house: House


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with (
        RecordingSink() as sink,
        house(Relay(name="relay", hosts=(to_host(sink.port),)), timeouts=BRIEF) as sender,
    ):
        yield Pair(sink, sender)


@dataclass(frozen=True)
class Large:
    """A large body in pieces that end anywhere; damaged in the last one if a test says so."""

    content: bytes
    damaged: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), 65_537):
            if self.damaged and start + 65_537 >= len(self.content):
                raise BodyDamaged("its octets are not those that were accepted")
            yield self.content[start : start + 65_537]

    def read(self) -> bytes:
        raise AssertionError("a large body must not be read at once")


def large(*, damaged: bool = False) -> Letter:
    line = b".lines that begin with a dot and whose length divides nothing\r\n"
    return Letter(to=THREE, body=Large(line * (LARGE // len(line)), damaged))


# -- before MAIL: the lane waits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("greeting", ["421 4.3.2 closing", "451 4.3.0 busy", "554 5.7.1 go away", "hello", b"\0\r\n"])
async def test_a_greeting_that_is_no_welcome_closes_the_lane(pair: Pair, greeting: str | bytes) -> None:
    pair.sink.on("connect", Act(greeting))
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.CONNECT
    assert outcome.stage.closes_lane


async def test_what_a_server_says_in_place_of_a_welcome_is_kept(pair: Pair) -> None:
    pair.sink.on("connect", Act("554 5.7.1 your address is on a list"))
    outcome = await pair.house.outcome()
    assert "554 5.7.1 your address is on a list" in outcome.reply.text
    assert outcome.reply.code == 451


@pytest.mark.parametrize(("instant", "stage"), [("connect", Stage.CONNECT), ("EHLO", Stage.TLS)])
@pytest.mark.parametrize("act", [Act(b"", cut=True), Act(delay=5)], ids=["hangs up", "says nothing"])
async def test_silence_before_mail_closes_the_lane(pair: Pair, instant: str, stage: Stage, act: Act) -> None:
    pair.sink.on(instant, act)
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is stage


async def test_nobody_listening_closes_the_lane_and_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    async with house(Relay(name="relay", hosts=(to_host(port),))) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.CONNECT
    assert outcome.reply.text == f"127.0.0.1:{port}: Connection refused"


async def test_a_server_of_old_is_greeted_with_helo(pair: Pair) -> None:
    pair.sink.on("EHLO", Act("500 what?"))
    assert isinstance(await pair.house.outcome(), Delivered)
    assert [command.split()[0] for command in pair.sink.peers[0].commands][:3] == ["EHLO", "HELO", "MAIL"]


@pytest.mark.parametrize("act", [Act(b"", cut=True), Act(delay=5), Act("421 4.3.2 shutting down", cut=True)])
async def test_a_fresh_connection_that_ends_at_mail_closes_the_lane(pair: Pair, act: Act) -> None:
    pair.sink.on("MAIL", act)
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.CONNECT


async def test_the_next_smarthost_is_tried_when_one_does_not_answer() -> None:
    async with RecordingSink() as bad, RecordingSink() as good:
        bad.on("connect", Act("421 4.3.2 closing"), times=None)
        async with house(Relay(name="relay", hosts=(to_host(bad.port), to_host(good.port)))) as sender:
            assert [type(await sender.outcome()) for _ in range(2)] == [Delivered] * 2
    assert len(bad.peers) == 1, "a host that did not answer is not tried first again at once"


async def test_an_answer_to_mail_is_final_though_there_is_another_smarthost() -> None:
    async with RecordingSink() as first, RecordingSink() as second:
        first.on("MAIL", Act("550 5.7.1 no"))
        async with house(Relay(name="relay", hosts=(to_host(first.port), to_host(second.port)))) as sender:
            assert isinstance(await sender.outcome(), Failed)
    assert second.peers == []


# -- a kept connection that has died ----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [Act(b"", cut=True), Act("421 4.4.2 timeout", cut=True), Act("421 4.7.0 enough")])
async def test_a_kept_connection_that_ends_at_mail_is_replaced_at_once(pair: Pair, act: Act) -> None:
    assert isinstance(await pair.house.outcome(), Delivered)
    pair.sink.on("MAIL", act)
    assert isinstance(await pair.house.outcome(), Delivered)
    assert len(pair.sink.messages) == 2
    assert len(pair.sink.peers) == 2


async def test_a_kept_connection_is_dropped_when_the_server_says_goodbye_meanwhile() -> None:
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        sink.on("dot", Act(b"250 Ok\r\n421 4.4.2 idle too long\r\n"))
        first = await sender.outcome()
        second = await sender.outcome()
    assert (type(first), type(second)) == (Delivered, Delivered)
    assert len(sink.peers) == 2


async def test_a_connection_without_work_says_goodbye() -> None:
    idle_soon = replace(IMPATIENT, idle=0.05)
    async with (
        RecordingSink() as sink,
        house(Relay(name="relay", hosts=(to_host(sink.port),)), timeouts=idle_soon) as sender,
    ):
        await sender.outcome()
        await sink.until(lambda: "QUIT" in sink.peers[0].commands)


async def test_a_connection_ends_after_a_hundred_messages() -> None:
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        for _ in range(101):
            await sender.outcome()
    assert [peer.commands.count("QUIT") for peer in sink.peers] == [1, 1]
    assert [message.peer.number for message in sink.messages].count(1) == 100


async def test_ten_connections_go_to_one_host_at_most() -> None:
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        sink.on("dot", Act(delay=0.05), times=None)
        async with anyio.create_task_group() as group:
            for _ in range(25):
                group.start_soon(sender.outcome)
    assert len(sink.messages) == 25
    assert len(sink.peers) == 10


async def test_a_hundred_connections_are_open_at_most_and_the_longest_idle_gives_way() -> None:
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        for number in range(101):
            action = Relay(name="relay", hosts=(to_host(sink.port),), helo=f"box{number}.example")
            await sender.relayer.deliver(batch(), route_to(action))
        await sink.until(lambda: "QUIT" in sink.peers[0].commands)
        assert ["QUIT" in peer.commands for peer in sink.peers].count(True) == 1


# -- in the middle ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [Act(b"", cut=True), Act(delay=5), Act("421 4.3.2 closing", cut=True)])
@pytest.mark.parametrize(("instant", "stage"), [("RCPT", Stage.RCPT), ("DATA", Stage.DATA)])
async def test_an_end_in_the_envelope_defers_who_has_no_answer_yet(
    pair: Pair, act: Act, instant: str, stage: Stage
) -> None:
    pair.sink.on("RCPT", Act("550 5.1.1 nobody here"), containing="a@")
    pair.sink.on(instant, act, containing="b@" if instant == "RCPT" else "")
    outcomes = await pair.house.outcomes(Letter(to=THREE))
    assert [(type(o), o.stage) for o in outcomes] == [(Failed, Stage.RCPT), (Deferred, stage), (Deferred, stage)]
    assert pair.sink.messages == []


async def test_a_lost_reply_after_the_dot_is_told_as_such(pair: Pair) -> None:
    pair.sink.on("dot", Act(b"", cut=True))
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.DOT
    assert outcome.reply.text.startswith("sent, no reply seen: connection")
    assert len(pair.sink.messages) == 1, "it is not sent again at once"


async def test_a_reply_to_the_dot_that_takes_too_long_is_told_as_such(pair: Pair) -> None:
    pair.sink.on("dot", Act(delay=5))
    outcome = await pair.house.outcome()
    assert (type(outcome), outcome.stage) == (Deferred, Stage.DOT)
    assert outcome.reply.text == "sent, no reply seen: no reply within 0.2 s"


async def test_421_to_the_dot_defers(pair: Pair) -> None:
    pair.sink.on("dot", Act("421 4.3.2 closing", cut=True))
    outcome = await pair.house.outcome()
    assert (type(outcome), outcome.stage, outcome.reply.text) == (Deferred, Stage.DOT, "closing")


@pytest.mark.parametrize("reply", ["354 what?", "299", "700 x", "25O Ok"])
async def test_nonsense_in_place_of_an_answer_defers_and_ends_the_connection(pair: Pair, reply: str) -> None:
    pair.sink.on("RCPT", Act(reply))
    if reply == "299":
        pair.sink.on("dot", Act("354 once more"))
    assert isinstance(await pair.house.outcome(), Deferred)
    assert isinstance(await pair.house.outcome(), Delivered)
    assert len(pair.sink.peers) == 2


@pytest.mark.parametrize(
    "flood",
    [b"250-" + b"x" * 100_000, b"250-more\r\n" * 10_000, b"250 2.1.0 Ok\r\n" * 10_000, b"\0" * 1_000_000],
    ids=["an endless line", "an endless reply", "endless replies", "zeros"],
)
async def test_a_flood_is_cut_off(pair: Pair, flood: bytes) -> None:
    pair.sink.on("DATA", Act(flood))
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Deferred)
    assert len(str(outcome.reply)) < 2_000


async def test_what_a_server_says_comes_out_printable_and_bounded(pair: Pair) -> None:
    pair.sink.on("RCPT", Act(b"553-5.1.3 x\x1b[31m\r\n553-\xff\xfe\r\n553 " + b"y" * 3_000 + b"\r\n"))
    outcome = await pair.house.outcome()
    assert outcome.reply.status == "5.1.3"
    assert outcome.reply.text.startswith("x [31m ")
    assert outcome.reply.text.isprintable()
    assert len(outcome.reply.text) <= 1_000


# -- large bodies -----------------------------------------------------------------------------------------------------


async def test_a_large_body_arrives_octet_for_octet() -> None:
    letter = large()
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        assert [type(outcome) for outcome in await sender.outcomes(letter)] == [Delivered] * 3
    assert sink.messages[0].body == b"".join(letter.body.chunks())


async def test_a_damaged_body_never_reaches_its_final_dot(pair: Pair) -> None:
    results = await pair.house.send(large(damaged=True))
    assert [type(result) for result in results] == [Damaged] * 3
    assert isinstance(await pair.house.outcome(), Delivered)
    assert [message.body for message in pair.sink.messages] == [BODY]


async def test_a_refusal_in_the_middle_of_a_large_body_is_heard(pair: Pair) -> None:
    pair.sink.on("body", Act("552 5.3.4 too much"))
    outcomes = await pair.house.outcomes(large())
    assert [(type(o), o.stage, o.reply.text) for o in outcomes] == [(Failed, Stage.DATA, "too much")] * 3


async def test_a_server_that_stops_reading_is_given_up(pair: Pair) -> None:
    pair.sink.on("body", Act(b"", delay=5))
    outcomes = await pair.house.outcomes(large())
    assert [(type(o), o.stage, o.reply.text) for o in outcomes] == [
        (Deferred, Stage.DATA, "the server stopped reading within 0.2 s")
    ] * 3


@pytest.mark.parametrize("bad", [b"a\nb\r\n", b"a\rb\r\n", b"\n.\r\n", b"\r\n.\r", b"x\r\r\n"])
async def test_a_body_that_another_server_could_read_differently_is_not_sent(pair: Pair, bad: bytes) -> None:
    letter = large()
    spoiled = replace(letter, body=Large(b"".join(letter.body.chunks()) + bad))
    outcomes = await pair.house.outcomes(spoiled)
    assert [(type(o), o.reply.status) for o in outcomes] == [(Failed, "5.6.0")] * 3
    assert pair.sink.messages == []


# -- ourselves --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instant", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
async def test_a_delivery_that_is_cancelled_cuts_its_connection(instant: str) -> None:
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        sink.on(instant, Act(delay=5))
        with anyio.move_on_after(0.1) as scope:
            await sender.send()
        assert scope.cancelled_caught
        assert isinstance(await sender.outcome(), Delivered)
    assert len(sink.peers) == 2


@dataclass(frozen=True)
class Bug:
    """A body that cannot be read, for a reason that nobody thought of."""

    size: int = 10

    def chunks(self) -> Iterator[bytes]:
        raise RuntimeError("a secret of ours")

    def read(self) -> bytes:
        raise RuntimeError("a secret of ours")


async def test_a_fault_of_ours_defers_who_has_no_outcome_yet_and_tells_no_details(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.sink.on("RCPT", Act("550 5.1.1 nobody here"), containing="a@")
    outcomes = await pair.house.outcomes(Letter(to=THREE, body=Bug()))
    assert [(type(o), o.reply.status) for o in outcomes] == [(Deferred, "4.3.0")] * 3
    assert "secret" not in str(outcomes)
    assert "a secret of ours" in caplog.text
    assert isinstance(await pair.house.outcome(), Delivered)
    assert [message.body for message in pair.sink.messages] == [BODY]


async def test_an_attempt_is_timed_by_its_own_start_and_end(pair: Pair) -> None:
    pair.sink.on("dot", Act(delay=0.1))
    (attempt,) = await pair.house.send()
    assert isinstance(attempt, Attempt)
    assert attempt.ended - attempt.started >= 90
