"""Filters that need more than a dialogue: names of clients, marks, the log, what the drop holds, and trouble."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ingress.names import UNCERTAIN, UNNAMED, Names, PeerName
from policy.config import Listener
from policy.filters import Deed, Filter, Phase, Question
from policy.tables.inline import InlineTable
from spool.layout import Layout
from spool.state import Kind
from spool.writer import SpoolWriter
from tests.tools.dropping import Drop
from tests.tools.proxying import header
from tests.tools.smtp_client import begin, connected, give, greet, unwelcome
from tests.tools.smtp_server import People, Setting, smtp_server
from tests.tools.spooled import HOUR, HandClock, sole, take

pytestmark = pytest.mark.anyio

PLAIN = Listener("127.0.0.1", 0)
CONFIRMED = PeerName("mail.a.example", is_confirmed=True)
CLAIMED = PeerName("dyn-7.isp.example")
FCRDNS, NO_FCRDNS = Question("fcrdns"), Question("fcrdns", negated=True)
DYNAMIC = Question("rdns", InlineTable.of_list("names", ["dyn-*.isp.example"]))
HERE = Question("src", InlineTable.of_list("here", ["127.0.0.1"]))


def rejecting(question: Question, phase: Phase = Phase.CONNECT) -> Filter:
    return Filter("f", phase, question, Deed.REJECT, "550 no")


def screened(*filters: Filter) -> Listener:
    return replace(PLAIN, filters=filters)


@pytest.mark.parametrize(
    ("name", "question", "code"),
    [
        (CONFIRMED, NO_FCRDNS, "220"),
        (CLAIMED, NO_FCRDNS, "550"),
        (UNNAMED, NO_FCRDNS, "550"),
        (UNCERTAIN, NO_FCRDNS, "421"),
        (CONFIRMED, FCRDNS, "550"),
        (CLAIMED, DYNAMIC, "550"),
        (CONFIRMED, DYNAMIC, "220"),
        (UNNAMED, DYNAMIC, "220"),
        (UNCERTAIN, DYNAMIC, "421"),
        (PeerName("dyn-7.isp.example", is_certain=False), DYNAMIC, "550"),
        (UNNAMED, Question("rdns", negated=True), "550"),
        (CLAIMED, Question("rdns", negated=True), "220"),
    ],
)
async def test_a_client_is_judged_by_its_name(
    spool: SpoolWriter, name: PeerName, question: Question, code: str
) -> None:
    listener = replace(screened(rejecting(question)), proxy_v2=True)
    async with (
        smtp_server(spool, Setting(listener, names=Names(lambda _: name))) as server,
        unwelcome(server) as client,
    ):
        await client.send(header("192.0.2.7"))
        assert (await client.line())[:3] == code


async def test_the_name_is_asked_for_only_where_a_filter_wants_it(spool: SpoolWriter) -> None:
    gate = anyio.Event()
    listener = replace(screened(rejecting(HERE)), proxy_v2=True)
    names = Names(lambda _: anyio.from_thread.run(gate.wait) or UNNAMED)
    async with smtp_server(spool, Setting(listener, names=names)) as server, unwelcome(server) as client:
        await client.send(header("192.0.2.7"))
        with anyio.fail_after(1):
            assert (await client.line()).startswith("220 ")
        gate.set()


async def test_a_name_that_nobody_knows_is_temporary_later_too(spool: SpoolWriter) -> None:
    listener = replace(screened(rejecting(NO_FCRDNS, Phase.MAIL_FROM)), proxy_v2=True)
    setting = Setting(listener, names=Names(lambda _: UNCERTAIN))
    async with smtp_server(spool, setting) as server, unwelcome(server) as client:
        await client.send(header("192.0.2.7"))
        await client.line()
        await greet(client)
        assert (await client.ask("MAIL FROM:<>")).startswith("451 4.4.3")


async def marks(spool: SpoolWriter, listener: Listener) -> list[bool]:
    """Which of two messages of one session, of ann and of bob, are marked as spam."""
    async with smtp_server(spool, Setting(listener)) as server, connected(server) as client:
        for sender in ("ann@a.example", "bob@a.example"):
            await begin(client, sender=sender)
            await give(client, b"Subject: x\r\n\r\n")
    claimed = sorted(await take(spool), key=lambda claimed: str(claimed.message.return_path))
    return [each.body.read().startswith(b"X-Spam: Yes\r\nReceived: ") for each in claimed]


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.EHLO])
async def test_junk_before_mail_marks_the_whole_session(spool: SpoolWriter, phase: Phase) -> None:
    assert await marks(spool, screened(Filter("f", phase, HERE, Deed.JUNK))) == [True, True]


@pytest.mark.parametrize("phase", [Phase.MAIL_FROM, Phase.RCPT_TO, Phase.DATA])
async def test_junk_from_mail_on_marks_the_message(spool: SpoolWriter, phase: Phase) -> None:
    bob = Question("mail-from", InlineTable.of_list("senders", ["bob@a.example"]))
    assert await marks(spool, screened(Filter("f", phase, bob, Deed.JUNK))) == [False, True]


async def test_a_report_goes_into_the_log_and_changes_nothing(
    spool: SpoolWriter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report = Filter("watch", Phase.MAIL_FROM, HERE, Deed.REPORT, "seen")
    async with smtp_server(spool, Setting(screened(report))) as server, connected(server) as client:
        await begin(client)
        await give(client, b"Subject: x\r\n\r\n")
    assert str((await sole(spool)).message.return_path) == "ann@example.com"
    assert [line.partition(" ")[2] for line in messages(caplog) if "filter" in line] == [
        'smtp filter-report filter="watch" message="seen"'
    ]


async def test_who_was_refused_by_which_filter_is_in_the_log(
    spool: SpoolWriter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listener = screened(rejecting(HERE, Phase.MAIL_FROM))
    async with smtp_server(spool, Setting(listener)) as server, connected(server) as client:
        await greet(client)
        await client.ask("MAIL FROM:<>")
    said = [line.partition(" ")[2] for line in messages(caplog)]
    assert 'smtp filter filter="f" phase=mail-from action=reject' in said
    assert 'smtp failed-command command="MAIL FROM:<>" result="550 no"' in said


def messages(caplog: pytest.LogCaptureFixture) -> Iterable[str]:
    return (record.getMessage() for record in caplog.records)


async def test_a_table_that_cannot_be_asked_is_temporary(spool: SpoolWriter) -> None:
    class Unavailable(People):
        def lookup(self, key: str) -> str | None:
            return super().lookup("later")

    question = Question("src", Unavailable.of_list("list", []))
    for phase, code in ((Phase.CONNECT, "421"), (Phase.EHLO, "451")):
        listener = screened(rejecting(question, phase))
        async with smtp_server(spool, Setting(listener)) as server, unwelcome(server) as client:
            said = await client.line()
            assert (said if phase is Phase.CONNECT else await client.ask("EHLO x"))[:3] == code


async def test_the_socket_has_filters_too(spool: SpoolWriter, tmp_path: Path) -> None:
    local = Question("src", InlineTable.of_list("here", ["local"]))
    setting = Setting(Listener("", 0, filters=(rejecting(local),)), path=str(tmp_path / "socket"))
    async with smtp_server(spool, setting) as server, unwelcome(server) as client:
        assert await client.line() == "550 no"


# -- the drop ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def drop(place: Layout, spool: SpoolWriter) -> Drop:
    return Drop.make(place, spool)


def with_filters(drop: Drop, *filters: Filter) -> None:
    drop.config = replace(drop.config, listeners=(Listener("", 0, filters=filters),))


ALWAYS = Question("auth")
REFUSING = [
    rejecting(FCRDNS, Phase.CONNECT),
    rejecting(Question("helo", InlineTable.of_list("names", ["localhost"])), Phase.EHLO),
    rejecting(ALWAYS, Phase.MAIL_FROM),
    rejecting(Question("rcpt-to", InlineTable.of_list("recipients", ["bob"])), Phase.RCPT_TO),
    rejecting(ALWAYS, Phase.DATA),
    rejecting(ALWAYS, Phase.COMMIT),
]


@pytest.mark.parametrize("refusing", REFUSING, ids=lambda each: each.phase.value)
async def test_what_the_socket_s_filters_refuse_comes_back_from_the_drop(
    drop: Drop, clock: HandClock, refusing: Filter
) -> None:
    with_filters(drop, refusing)
    drop.leave()
    await drop.reader().look()
    clock.advance(HOUR)
    (report,) = await take(drop.spool)
    assert report.envelope.kind is Kind.FAILED
    assert drop.files() == []


async def test_what_the_socket_s_filters_mark_or_rewrite_is_so_in_the_drop(drop: Drop) -> None:
    with_filters(
        drop,
        Filter("a", Phase.CONNECT, Question("fcrdns"), Deed.JUNK),
        Filter("b", Phase.MAIL_FROM, ALWAYS, Deed.REWRITE, "<new@a.example>"),
        Filter("c", Phase.RCPT_TO, ALWAYS, Deed.REWRITE, "<carl@b.example>"),
    )
    drop.leave()
    await drop.reader().look()
    (claimed,) = await take(drop.spool)
    assert str(claimed.message.return_path) == "new@a.example"
    assert str(claimed.envelope.recipient.address) == "carl@b.example"
    assert claimed.body.read().startswith(b"X-Spam: Yes\r\n")


async def test_what_they_refuse_for_now_stays_in_the_drop(drop: Drop) -> None:
    with_filters(drop, Filter("f", Phase.DATA, ALWAYS, Deed.REJECT, "450 later"))
    drop.leave()
    await drop.reader().look()
    assert await take(drop.spool) == []
    assert len(drop.files()) == 1
