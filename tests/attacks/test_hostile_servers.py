r"""Hostile servers: what another server says to our client, whoever it belongs to.

The attack: anybody can publish an MX record, send us a message that must be returned to him, and then be the server that our
client talks to. He answers with megabytes, with lines that never end, replies that never end, codes that make no sense,
control characters and line ends inside a line, answers that come before their questions (so that they count for somebody
else's message), one octet a minute, or nothing. The aim is memory, a stuck delivery, a forged outcome, or a line in a log, a
report or the queue that is not one.

The walls: replies are bounded in line, lines and number before they are kept, a reply is printable text of bounded
length, an octet that nobody asked for ends the connection, every wait has its end, and what is delivered is decided by
the server's own answer to the dot alone.
"""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import anyio
import pytest

from policy.config import Relay, RelayTls
from spool.outcome import Deferred, Delivered, Failed, Outcome
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.relaying import BRIEF, House, Letter, house, to_host

pytestmark = pytest.mark.anyio

INSTANTS = ["connect", "EHLO", "MAIL", "RCPT", "DATA", "dot"]
_MEGABYTE = 1024 * 1024


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class Pair:
    sink: RecordingSink
    house: House


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with RecordingSink() as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port, RelayTls.NEVER),))
        async with house(action, timeouts=BRIEF) as sender:
            yield Pair(sink, sender)


def is_fit(outcome: Outcome) -> bool:
    """Whether what is kept of a server's words can stand in a log, a report and the queue."""
    text = str(outcome.reply)
    return len(text) <= 1100 and text.isprintable()


CODES = {"connect": b"220", "EHLO": b"250", "MAIL": b"250", "RCPT": b"250", "DATA": b"354", "dot": b"250"}


@pytest.mark.parametrize("instant", INSTANTS)
async def test_megabytes_are_not_kept(pair: Pair, instant: str) -> None:
    code = CODES[instant]
    floods = [
        code + b"-" + b"x" * _MEGABYTE,
        (code + b"-x\r\n") * 300_000,
        (code + b" x\r\n") * 300_000,
        b"\n" * _MEGABYTE,
        b"\0" * _MEGABYTE,
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for flood in floods:
        pair.sink.on(instant, Act(flood * 4))
        with anyio.fail_after(10):
            outcome = await pair.house.outcome(Letter(to=("bob@example.org",)))
        # A flood of good answers has been believed for the first at most.
        assert isinstance(outcome, Deferred | Delivered)
        assert not isinstance(outcome, Delivered) or instant == "dot"
        assert is_fit(outcome)
    # The sink's own copies of what it sends are in this process too.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("instant", INSTANTS)
@pytest.mark.parametrize(
    "words",
    [
        b"\r\n",
        b"\n",
        b"hello\r\n",
        b"99 x\r\n",
        b"000 x\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"2500 x\r\n",
        b"25\xb2 x\r\n",
        b"250x\r\n",
        b"250-a\r\n550 b\r\n",
        b"-250 x\r\n",
        b"250\t x\r\n",
    ],
    ids=ascii,
)
async def test_nonsense_is_never_a_success(pair: Pair, instant: str, words: bytes) -> None:
    pair.sink.on(instant, Act(words))
    outcome = await pair.house.outcome()
    # Where one more line was read before, the real answer may follow.
    assert isinstance(outcome, Deferred) or (isinstance(outcome, Delivered) and instant in ("connect", "EHLO"))
    assert is_fit(outcome)


@pytest.mark.parametrize("instant", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize(
    "code", ["354", "334", "220", "221", "235", "251", "252", "299", "399", "421", "500", "555", "599"]
)
async def test_a_code_in_the_wrong_place_delivers_nothing(pair: Pair, instant: str, code: str) -> None:
    pair.sink.on(instant, Act(f"{code} 2.0.0 as you like it"))
    outcome = await pair.house.outcome()
    if isinstance(outcome, Delivered):
        # Any 2yz is a yes to the dot, and to what comes before it; a server that knows no EHLO is greeted with HELO.
        assert code[0] == "2" or (instant, code) == ("DATA", "354") or (instant, code[0]) == ("EHLO", "5")
        assert len(pair.sink.messages) == 1 or instant == "dot"
    else:
        assert isinstance(outcome, Deferred | Failed)
        assert not isinstance(outcome, Failed) or code[0] == "5"


@pytest.mark.parametrize("instant", ["MAIL", "RCPT", "dot"])
async def test_control_characters_and_line_ends_are_blanks(pair: Pair, instant: str) -> None:
    evil = bytes(octet for octet in range(256) if octet not in (10, 13)) + b"\r\x85\xe2\x80\xa8\xc2\x9b2J"
    pair.sink.on(instant, Act(b"550 5.7.1 " + evil + b"end\r\n"))
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Failed)
    assert is_fit(outcome)
    assert outcome.reply.text.endswith("end")


@pytest.mark.parametrize("instant", ["EHLO", "MAIL", "RCPT", "DATA"])
async def test_answers_before_their_questions_deliver_nothing(pair: Pair, instant: str) -> None:
    """Response smuggling: the answer to the dot is said before there is one."""
    usual = {"EHLO": b"250-sink\r\n250 SIZE\r\n", "MAIL": b"250 Ok\r\n", "RCPT": b"250 Ok\r\n", "DATA": b"354 go\r\n"}
    pair.sink.offers = ()
    pair.sink.on(instant, Act(usual[instant] + b"250 2.0.0 taken, trust me\r\n" * 4))
    pair.sink.on("dot", Act("554 5.6.0 no"))
    outcome = await pair.house.outcome()
    assert not isinstance(outcome, Delivered)


async def test_answers_for_the_next_message_are_not_kept_for_it(pair: Pair) -> None:
    pair.sink.on("dot", Act(b"250 2.0.0 Ok\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n250 2.0.0 forged\r\n"))
    assert isinstance(await pair.house.outcome(), Delivered | Deferred)
    pair.sink.on("MAIL", Act("550 5.7.1 never"))
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Failed)
    assert len(pair.sink.peers) == 2, "a connection on which something was said unasked is not used again"


@pytest.mark.parametrize("instant", INSTANTS)
async def test_a_reply_that_dribbles_is_not_waited_for(pair: Pair, instant: str) -> None:
    """An octet now and then: the wait is for the reply, not for each piece of it."""

    async def dribble(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with anyio.move_on_after(8):
                if instant == "connect":
                    await slowly(stream)
                await stream.send(b"220 hello\r\n")
                while True:
                    said = (await stream.receive()).decode("latin-1")
                    if instant in said or (instant == "dot" and said.endswith("\r\n.\r\n")):
                        await slowly(stream)
                    await stream.send({"E": b"250 hello\r\n", "D": b"354 go\r\n"}.get(said[:1], b"250 Ok\r\n"))

    async def slowly(stream: anyio.abc.SocketStream) -> None:
        for octet in b"250-" + b"x" * 100:
            await stream.send(bytes([octet]))
            await anyio.sleep(0.1)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(quietly, listener, dribble)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        action = Relay(name="relay", hosts=(to_host(port, RelayTls.NEVER),))
        async with house(action, timeouts=replace(BRIEF, connect=1)) as sender:
            with anyio.fail_after(4):
                outcome = await sender.outcome()
        assert isinstance(outcome, Deferred)
        tasks.cancel_scope.cancel()


async def quietly(listener: object, handler: object) -> None:
    async def handled(stream: anyio.abc.SocketStream) -> None:
        try:
            await handler(stream)  # type: ignore[operator]
        except (anyio.BrokenResourceError, anyio.EndOfStream):
            return

    await listener.serve(handled)  # type: ignore[attr-defined]


async def test_a_server_that_reads_nothing_is_not_waited_for(pair: Pair) -> None:
    pair.sink.on("RCPT", Act(delay=5))
    with anyio.fail_after(4):
        assert isinstance(await pair.house.outcome(), Deferred)


@pytest.mark.parametrize(
    "offers",
    [
        ("SIZE 99999999999999999999999999",),
        ("SIZE -1",),
        ("SIZE \u0661\u0662",),
        ("SIZE 1" + "0" * 4000,),
        ("PIPELINING " + "x" * 3000,),
        ("AUTH " + "A" * 3000,),
        ("", " ", "-", "=", "STARTTLS=", "DSN DSN DSN"),
    ],
    ids=range(7),
)
async def test_offers_without_sense_are_none(pair: Pair, offers: tuple[str, ...]) -> None:
    pair.sink.offers = offers
    outcome = await pair.house.outcome()
    assert isinstance(outcome, Delivered | Deferred | Failed)
    assert is_fit(outcome)


async def test_over_lmtp_each_recipient_has_its_own_answer_and_no_more(pair: Pair) -> None:
    async with RecordingSink(lmtp=True) as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port, RelayTls.LMTP),))
        async with house(action, timeouts=BRIEF) as sender:
            sink.on("dot", Act(b"250 2.0.0 a\r\n550 5.1.1 b\r\n250 2.0.0 c\r\n250 2.0.0 d\r\n"))
            outcomes = await sender.outcomes(Letter(to=("a@example.org", "b@example.org", "c@example.org")))
    assert [type(outcome) for outcome in outcomes] in ([Delivered, Failed, Delivered], [Deferred] * 3)
