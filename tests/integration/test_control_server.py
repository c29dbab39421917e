"""The control socket of a real spool, asked by real clients, good and bad."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from control.client import Connection, ConnectionLost, RequestRefused
from control.protocol import (
    AttemptRow,
    Change,
    Chunk,
    Done,
    EnvelopeRow,
    LaneRow,
    Log,
    MailRow,
    Pause,
    PauseLane,
    RemoveThese,
    Request,
    ShowAttempts,
    ShowLanes,
    ShowMail,
    ShowMessage,
    ShowQueue,
    ShowStats,
    ShowStatus,
    StatRow,
    StatusRow,
    Trace,
    TroubleRow,
    UpdateTable,
    frame,
    read_mail,
)
from control.server import Limits
from control.sockets import bind_unix
from policy.tables.file import FileTable
from policy.tables.inline import InlineTable
from policy.tables.sourced import SourcedTable
from policy.tables.sources import Program
from spool.address import NULL_SENDER
from spool.message import Client
from spool.selection import select
from spool.writer import SpoolWriter
from tests.tools.controlled import House, running
from tests.tools.folders import public_folder
from tests.tools.spooled import LATER, NEVER, Letter, put, record, submission, take

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


@pytest.fixture
async def house(folder: Path) -> AsyncIterator[House]:
    async with running(folder) as house:
        yield house


async def test_the_queue_is_listed_with_why_each_envelope_waits(house: House) -> None:
    message = await put(house.spool, Letter(to=("bob@example.org", "eve@example.org")))
    (claimed, _) = await take(house.spool)
    await record(house.spool, claimed, LATER, due=house.spool.clock.now() + 400_000)
    tried, untried = await house.rows(ShowQueue())
    assert isinstance(tried, EnvelopeRow)
    assert isinstance(untried, EnvelopeRow)
    assert (tried.id, tried.state, tried.error, tried.attempts) == (
        f"{message}.1",
        "ready",
        "451 4.2.0 try again",
        1,
    )
    assert tried.next_try is not None
    assert tried.last_try is not None
    assert 399 < tried.next_try - tried.last_try < 401
    assert (untried.state, untried.next_try, untried.since is not None) == ("inflight", None, True)


async def test_a_long_queue_is_listed_whole(house: House) -> None:
    for _ in range(13):
        await put(house.spool, Letter(to=tuple(f"user{number}@example.org" for number in range(100))))
    rows = await house.rows(ShowQueue())
    ids = [row.id for row in rows if isinstance(row, EnvelopeRow)]
    assert len(set(ids)) == 1300
    messages = [envelope.partition(".")[0] for envelope in ids]
    assert messages == sorted(messages)


@pytest.mark.parametrize(
    "recipients",
    [
        ("bob@example.org", "günther@example.org", "o'neill+x@example.org"),
        ("bob@example.org", '"a b"@example.org', "b@x.org"),
    ],
)
async def test_mailq_is_told_what_the_listing_tells(house: House, recipients: tuple[str, ...]) -> None:
    await put(house.spool, Letter(to=recipients))
    await put(house.spool, Letter(sender=NULL_SENDER))
    tried, under_way, held, failed = (await take(house.spool))[:4]
    await record(house.spool, tried, LATER, due=house.spool.clock.now() + 400_000)
    await house.spool.hold(select(held.envelope.id))
    await record(house.spool, failed, NEVER)
    told = b"".join([row.data for row in await house.rows(ShowMail()) if isinstance(row, Chunk)])
    shown = [row for row in await house.rows(ShowQueue()) if isinstance(row, EnvelopeRow)]
    assert under_way.envelope.id in {row.id for row in shown}
    assert [row for line in told.splitlines() for row in read_mail(line)] == [
        MailRow(
            row.message,
            row.size,
            int(row.arrived),
            row.sender if row.kind == "mail" else "",
            row.state,
            row.destination,
            row.error,
        )
        for row in shown
    ]


async def test_a_message_is_shown_octet_by_octet(house: House) -> None:
    body = b"Subject: long\r\n\r\n" + bytes(range(256)) * 800
    message = await put(house.spool, Letter(body=body))
    chunks = await house.rows(ShowMessage(message[:19]))
    assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, Chunk)) == body


async def test_the_history_of_an_envelope_is_shown(house: House) -> None:
    await put(house.spool)
    (claimed,) = await take(house.spool)
    await record(house.spool, claimed, LATER)
    (row,) = await house.rows(ShowAttempts(claimed.envelope.id))
    assert isinstance(row, AttemptRow)
    assert (row.event, row.stage, row.remote, row.reply) == (
        "deferred",
        "rcpt",
        "mx.example.org (192.0.2.1)",
        "451 4.2.0 try again",
    )


async def test_holding_and_releasing_say_how_many(house: House) -> None:
    message = await put(house.spool, Letter(to=("bob@example.org", "eve@example.org")))
    assert await house.ask(Change("hold", message)) == [Done(2)]
    states = {row.state for row in await house.rows(ShowQueue()) if isinstance(row, EnvelopeRow)}
    assert states == {"held"}
    assert await house.ask(Change("release", f"{message}.2")) == [Done(1)]


async def test_what_was_removed_is_gone(house: House) -> None:
    await put(house.spool)
    assert await house.ask(Change("remove", "all")) == [Done(1)]
    assert await house.rows(ShowQueue()) == []


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ShowQueue("0000"), "no message 0000"),
        (ShowQueue("x-y"), "not a message or envelope id"),
        (ShowMessage("0000"), "no message 0000"),
        (Change("hold", "0000"), "no message 0000"),
        (Change("frobnicate", "all"), "no command frobnicate"),
        (RemoveThese(("x-y",)), "not a message or envelope id"),
        (Trace("imsg", True), "invalid trace keyword: imsg"),
        (Pause("imsg", True), "no imsg to pause"),
        (Pause("mta", False), "mta is not paused"),
        (PauseLane("relay", "nowhere.example", True), "nothing is queued for relay nowhere.example"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_reason(house: House, request_: Request, reason: str) -> None:
    with pytest.raises(RequestRefused, match=reason):
        await house.ask(request_)


async def test_a_beginning_that_two_messages_share_is_refused(house: House) -> None:
    first = await put(house.spool)
    await put(house.spool)
    with pytest.raises(RequestRefused, match="more than one message begins with"):
        await house.ask(ShowQueue(first[:3]))


async def test_a_part_is_paused_once(house: House) -> None:
    await house.ask(Pause("mta", True))
    assert await house.rows(ShowStatus()) == [
        StatusRow("mda", True),
        StatusRow("mta", False),
        StatusRow("smtp", True),
    ]
    with pytest.raises(RequestRefused, match="mta is paused already"):
        await house.ask(Pause("mta", True))


async def test_a_paused_lane_is_shown_and_its_envelopes_say_so(house: House) -> None:
    await put(house.spool)
    await house.ask(PauseLane("relay", "", True))
    (lane,) = await house.rows(ShowLanes())
    assert isinstance(lane, LaneRow)
    assert (lane.action, lane.waiting, lane.paused, lane.next_try) == ("relay", 1, True, None)
    (row,) = await house.rows(ShowQueue())
    assert isinstance(row, EnvelopeRow)
    assert (row.lane_stopped, row.next_try) == (True, None)
    await house.ask(PauseLane("relay", "", False))
    assert len(await take(house.spool)) == 1


async def test_what_is_wrong_is_shown_with_the_status(house: House) -> None:
    house.troubles.append("nothing is delivered: No space left on device")
    assert (await house.rows(ShowStatus()))[-1] == TroubleRow("nothing is delivered: No space left on device")


async def test_a_table_takes_new_content_when_it_is_told_to(house: House, tmp_path: Path) -> None:
    source = tmp_path / "vault"
    source.write_text("a b\n")
    table = SourcedTable("vault", Program(f"cat {source}"))
    table.load()
    house.tables["vault"] = table
    source.write_text("a c\n")
    assert await house.ask(UpdateTable("vault")) == [Done()]
    assert table.lookup("a") == "c"


async def test_a_table_without_new_content_is_told_of_and_shown_with_the_status(house: House, tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("a b\n")
    table = FileTable("aliases", str(path))
    table.load()
    house.tables["aliases"] = table
    path.write_text("a b\nc\n")
    with pytest.raises(RequestRefused, match=f"table aliases: {path}:2: .*; its old content is kept"):
        await house.ask(UpdateTable("aliases"))
    (told,) = [row for row in await house.rows(ShowStatus()) if isinstance(row, TroubleRow)]
    assert "its old content is kept" in told.text


async def test_a_table_that_is_not_there_is_told_with_the_nearest(house: House) -> None:
    house.tables["aliases"] = InlineTable.of_mapping("aliases", {"a": "b"})
    with pytest.raises(RequestRefused, match=r'there is no table "alias"; did you mean "aliases"\?'):
        await house.ask(UpdateTable("alias"))


async def test_figures_are_shown(house: House) -> None:
    assert await house.rows(ShowStats()) == [StatRow("uptime", "7")]


async def test_debug_lines_are_turned_on_and_off(house: House) -> None:
    await house.ask(Log(True))
    assert logging.getLogger("ingress").level == logging.DEBUG
    await house.ask(Log(False))
    assert logging.getLogger("ingress").level == logging.INFO


HOSTILE = [
    b"\x00\x00\x00\x05hello",
    b"\x40\x00\x00\x00" + b"x" * 1000,
    b"\x00\x00",
    b"GET / HTTP/1.0\r\n\r\n",
    struct.pack("!I", 100) + b"short",
    b"\x00\x00\x00\x00",
    frame(ShowMessage("xx")).replace(b"xx", b"x\xff"),
]


@pytest.mark.parametrize("octets", HOSTILE)
async def test_nonsense_loses_its_connection_and_nobody_elses(house: House, octets: bytes) -> None:
    async with await anyio.connect_unix(house.socket) as stream:
        await stream.send(octets)
        await stream.send_eof()
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)), anyio.fail_after(5):
            await stream.receive()
    assert len(await house.rows(ShowStatus())) == 3


async def test_a_client_that_reads_nothing_holds_nobody_up(house: House) -> None:
    await put(house.spool, Letter(body=b"x" * 8_000_000))
    (row,) = await house.rows(ShowQueue())
    assert isinstance(row, EnvelopeRow)
    with Connection(house.socket) as sleeper:
        await anyio.to_thread.run_sync(next, sleeper.ask(ShowMessage(row.message)))
        assert len(await house.rows(ShowQueue())) == 1
        await house.ask(Change("remove", "all"))


async def test_a_client_that_reads_nothing_is_let_go_in_the_end(folder: Path) -> None:
    async with running(folder, Limits(slowest_reader=0.2)) as house:
        message = await put(house.spool, Letter(body=b"x" * 8_000_000))
        with Connection(house.socket) as sleeper:
            answer = sleeper.ask(ShowMessage(message))
            await anyio.to_thread.run_sync(next, answer)
            await anyio.sleep(0.5)
            with pytest.raises(ConnectionLost):
                await anyio.to_thread.run_sync(list, answer)


async def test_a_client_that_asks_nothing_is_let_go(folder: Path) -> None:
    async with running(folder, Limits(idle=0.1)) as house, await anyio.connect_unix(house.socket) as stream:
        with pytest.raises(anyio.EndOfStream), anyio.fail_after(5):
            await stream.receive()


async def test_one_uid_may_open_only_so_many_connections(house: House) -> None:
    open_ones = [Connection(house.socket) for _ in range(Limits().per_uid)]
    try:
        await anyio.sleep(0.2)
        with pytest.raises(anyio.EndOfStream), anyio.fail_after(5):
            async with await anyio.connect_unix(house.socket) as stream:
                await stream.receive()
    finally:
        for connection in open_ones:
            connection.__exit__(None, None, None)


STRANGER = 65534


@contextmanager
def being(uid: int) -> Iterator[None]:
    """The kernel tells a server who its client was when it connected."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def said_to_stranger(socket_path: str, request: Request) -> str:
    with being(STRANGER):
        connection = Connection(socket_path)
    with connection:
        try:
            return "\n".join(map(str, connection.ask(request)))
        except RequestRefused as error:
            return f"refused: {error}"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (ShowQueue(), "theirs@example.org"),
        (ShowMail(), "theirs@example.org"),
        (ShowMessage("ID"), "refused: no message"),
        (ShowAttempts("ID"), "refused: no message"),
        (ShowQueue("ID"), "refused: no message"),
        (ShowLanes(), "refused: lanes are shown to root"),
        (Change("remove", "all"), "refused: this is for root"),
        (ShowStats(), "refused: this is for root"),
        (ShowStatus(), "StatusRow"),
    ],
)
async def test_a_stranger_sees_their_own_mail_and_changes_nothing(house: House, request_: Request, wanted: str) -> None:
    root_mail = await put(house.spool, Letter(to=("roots@example.org",)))
    await put_from(house.spool, STRANGER, "theirs@example.org")
    if getattr(request_, "id", "") == "ID":
        request_ = msgspec.structs.replace(request_, id=root_mail)
    said = await anyio.to_thread.run_sync(said_to_stranger, house.socket, request_)
    assert wanted in said
    assert "roots@example.org" not in said
    assert len(await house.rows(ShowQueue())) == 2


async def put_from(spool: SpoolWriter, uid: int, recipient: str) -> None:
    what = submission(spool.clock.now(), Letter(to=(recipient,)))
    await spool.accept(replace(what, message=replace(what.message, client=Client(uid=uid))))


def test_a_socket_left_behind_is_replaced_and_a_live_one_never(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    bind_unix(path).close()
    with bind_unix(path):
        assert os.stat(path).st_mode & 0o777 == 0o666
        with pytest.raises(Exception, match="another smtpd is already listening"):
            bind_unix(path)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
