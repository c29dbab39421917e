"""What was left in the drop comes into the spool, once, or back to its sender."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import stat
import time
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ingress import replies
from ingress.drop import FIRST_DELAY, FULL_SCAN, UNFINISHED_AGE
from ingress.dropdoor import make_drop
from spool.layout import Layout
from spool.message import Notify, Ret
from spool.outcome import Failed
from spool.state import Kind
from spool.writer import SpoolWriter
from tests.tools.dropping import HEADER, MESSAGE, Drop
from tests.tools.faults import FaultyOps, full
from tests.tools.smtp_server import CROWD, HOST
from tests.tools.spooled import HOUR, HandClock, take

pytestmark = pytest.mark.anyio


@pytest.fixture
def ops() -> FaultyOps:
    return FaultyOps()


@pytest.fixture
def drop(place: Layout, spool: SpoolWriter) -> Drop:
    return Drop.make(place, spool)


async def test_a_message_is_taken_as_it_was_left_and_its_file_is_gone(drop: Drop) -> None:
    drop.leave(mail="MAIL FROM:<ann@example.org> RET=HDRS ENVID=x", rcpts=["<bob> NOTIFY=NEVER"])
    await drop.reader().look()
    (claimed,) = await take(drop.spool)
    message, recipient = claimed.message, claimed.envelope.recipient
    received, rest = re.match(rb"(Received: .*?\r\n)(?![ \t])(.*)", claimed.body.read(), re.DOTALL).groups()  # type: ignore[union-attr]
    assert rest == MESSAGE
    assert (
        f"from localhost (localhost [local])\r\n\tby {HOST} (Mailspool) with local id {message.id}".encode() in received
    )
    assert (str(message.return_path), message.ret, message.envid) == ("ann@example.org", Ret.HDRS, "x")
    assert (message.client.address, message.client.uid) == ("local", os.getuid())
    assert (str(recipient.address), recipient.notify) == (f"bob@{HOST}", Notify.NEVER)
    assert drop.files() == []


async def test_policy_is_asked_as_it_is_for_the_submission_socket(drop: Drop) -> None:
    drop.leave()
    await drop.reader().look()
    ((facts, _),) = drop.policy.asked
    assert (facts.source, facts.login, str(facts.mail_from)) == ("local", "", "ann@example.org")


async def test_a_large_message_keeps_every_octet_and_every_dot(drop: Drop) -> None:
    body = b"".join(b"." * (number % 4) + b"x" * (number % 97) + b"\r\n" for number in range(20_000))
    drop.leave(HEADER + b"\r\n" + body)
    await drop.reader().look()
    (claimed,) = await take(drop.spool)
    assert claimed.body.read().endswith(HEADER + b"\r\n" + body)


async def test_the_number_of_recipients_is_not_limited(drop: Drop) -> None:
    drop.config = replace(drop.config, max_recipients=2)
    drop.leave(rcpts=[f"<user{number}>" for number in range(5)])
    await drop.reader().look()
    assert len(await take(drop.spool)) == 5


async def test_recipients_behind_a_crowd_of_envelopes_are_reported(drop: Drop, clock: HandClock) -> None:
    drop.leave(rcpts=["<crowd>", "<crowd>", "<bob>"])
    await drop.reader().look()
    clock.advance(HOUR)
    (report,) = [claimed for claimed in await take(drop.spool, 3 * CROWD) if claimed.envelope.kind is Kind.FAILED]
    (line,) = await drop.spool.report_lines(report.envelope.id)
    assert line.recipient.address.local == "bob"
    assert isinstance(line.outcome, Failed)
    assert line.outcome.reply.code == 552
    assert drop.files() == []


async def test_a_refused_recipient_is_reported_and_the_others_get_their_mail(drop: Drop, clock: HandClock) -> None:
    drop.leave(rcpts=["<bob>", "<nobody>"])
    await drop.reader().look()
    clock.advance(HOUR)
    mail, report = sorted(await take(drop.spool), key=lambda claimed: claimed.envelope.kind is not Kind.MAIL)
    assert mail.envelope.recipient.address.local == "bob"
    (line,) = await drop.spool.report_lines(report.envelope.id)
    assert line.recipient.address.local == "nobody"
    assert isinstance(line.outcome, Failed)
    assert line.outcome.reply.code == 550
    assert drop.files() == []


async def test_a_message_for_nobody_but_refused_recipients_becomes_a_report(drop: Drop, clock: HandClock) -> None:
    drop.leave(rcpts=["<nobody>", "<relay>"])
    await drop.reader().look()
    clock.advance(HOUR)
    (report,) = await take(drop.spool)
    assert report.envelope.kind is Kind.FAILED
    assert {line.recipient.address.local for line in await drop.spool.report_lines(report.envelope.id)} == {
        "nobody",
        "relay",
    }


@pytest.mark.parametrize(
    ("mail", "rcpt"), [("MAIL FROM:<>", "<nobody>"), ("MAIL FROM:<ann@example.org>", "<nobody> NOTIFY=NEVER")]
)
async def test_a_message_of_which_nobody_would_hear_is_set_aside(
    drop: Drop, mail: str, rcpt: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = drop.leave(mail=mail, rcpts=[rcpt])
    content = path.read_bytes()
    reader = drop.reader()
    await reader.look()
    assert (drop.files(), drop.damaged(), reader.set_aside) == ([], [path.name], 1)
    assert (Path(drop.place.drop_damaged_dir) / path.name).read_bytes() == content
    assert f"drop set-aside file='{path.name}'" in caplog.text
    assert await take(drop.spool) == []


async def test_a_message_that_is_too_big_comes_back_with_its_header_alone(drop: Drop, clock: HandClock) -> None:
    drop.config = replace(drop.config, max_message_size=1000)
    drop.leave(HEADER + b"\r\n" + b"x\r\n" * 1000, rcpts=["<bob>", "<eve>"])
    await drop.reader().look()
    clock.advance(HOUR)
    (report,) = await take(drop.spool)
    lines = await drop.spool.report_lines(report.envelope.id)
    assert [line.outcome.reply for line in lines] == [replies.TOO_BIG] * 2
    assert report.body.read().endswith(HEADER + b"\r\n")


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (HEADER + b"\r\na\rb\r\n", "5.6.11"),
        (HEADER + b"\r\na\nb\r\n", "5.6.11"),
        (HEADER + b"\r\na\0b\r\n", "5.6.11"),
        (b"no header\r\n", "5.7.1"),
    ],
)
async def test_a_message_that_no_sendmail_writes_comes_back(
    drop: Drop, clock: HandClock, message: bytes, status: str
) -> None:
    drop.leave(message)
    await drop.reader().look()
    clock.advance(HOUR)
    (report,) = await take(drop.spool)
    (line,) = await drop.spool.report_lines(report.envelope.id)
    assert line.outcome.reply.status == status


@pytest.mark.parametrize(
    ("message", "rcpt"),
    [
        (b"Received: x\r\n" * 101 + b"\r\n", "<bob>"),
        (HEADER + b"\r\nno end", "<bob>"),
        (MESSAGE, "bob"),
        (MESSAGE, "<bob> NOTIFY=OFTEN"),
        (MESSAGE, "<a..b>"),
    ],
)
async def test_what_cannot_even_be_reported_is_set_aside(drop: Drop, message: bytes, rcpt: str) -> None:
    path = drop.leave(message, rcpts=[rcpt])
    await drop.reader().look()
    assert (drop.files(), drop.damaged()) == ([], [path.name])
    assert await take(drop.spool) == []


async def test_what_policy_cannot_decide_now_waits_longer_each_time(drop: Drop, clock: HandClock) -> None:
    drop.leave(rcpts=["<bob>", "<later>"])
    reader = drop.reader()
    tried = []
    for _ in range(40):
        asked = len(drop.policy.asked)
        await reader.look()
        tried.append(len(drop.policy.asked) > asked)
        clock.advance(FIRST_DELAY)
    assert [number for number, was in enumerate(tried) if was] == [0, 1, 3, 7, 15, 31]
    assert len(drop.files()) == 1
    assert await take(drop.spool) == []


async def test_a_message_is_taken_when_policy_can_decide_again(drop: Drop, clock: HandClock) -> None:
    drop.leave(rcpts=["<slow>"])
    drop.policy.gate.set()
    drop.leave(rcpts=["<later>"])
    reader = drop.reader()
    await reader.look()
    assert len(await take(drop.spool)) == 1
    assert len(drop.files()) == 1


async def test_a_policy_with_a_fault_stops_nobody_else(drop: Drop) -> None:
    drop.leave(rcpts=["<bug>"])
    drop.leave(rcpts=["<bob>"])
    await drop.reader().look()
    assert len(await take(drop.spool)) == 1
    assert len(drop.files()) == 1


async def test_a_full_disk_leaves_the_message_where_it_is(place: Layout, clock: HandClock, ops: FaultyOps) -> None:
    spool = await SpoolWriter.open(place, clock, ops)
    try:
        drop = Drop.make(place, spool)
        drop.leave(HEADER + b"\r\n" + b"x\r\n" * 50_000)
        ops.spoil("write", full)
        reader = drop.reader()
        await reader.look()
        assert len(drop.files()) == 1
        clock.advance(FIRST_DELAY)
        await reader.look()
        assert drop.files() == []
        assert len(await take(spool)) == 1
    finally:
        await spool.aclose()


# -- once -------------------------------------------------------------------------------------------------------------


async def test_a_second_reading_changes_nothing(drop: Drop) -> None:
    path = drop.leave(rcpts=["<bob>", "<nobody>"])
    copy = path.parent.parent / "copy"
    shutil.copy(path, copy)
    await drop.reader().look()
    copy.rename(path)
    await drop.reader().look()
    assert drop.files() == []
    assert len(await take(drop.spool)) == 1


async def test_two_readers_take_each_message_once(drop: Drop) -> None:
    for number in range(60):
        drop.leave(rcpts=[f"<user{number}>"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drop.reader().look)
        tasks.start_soon(drop.reader().look)
    names = [claimed.envelope.recipient.address.local for claimed in await take(drop.spool)]
    assert sorted(names) == sorted(f"user{number}" for number in range(60))
    assert drop.files() == []


# -- unfinished -------------------------------------------------------------------------------------------------------


async def test_an_unfinished_message_is_taken_when_it_is_finished(drop: Drop, clock: HandClock) -> None:
    begun = drop.begin()
    reader = drop.reader()
    await reader.look()
    assert len(drop.files()) == 1
    begun.file.finish()
    clock.advance(FIRST_DELAY)
    await reader.look()
    assert drop.files() == []
    assert len(await take(drop.spool)) == 1


async def test_what_is_never_finished_is_set_aside_after_a_day(drop: Drop, clock: HandClock) -> None:
    begun = drop.begin()
    os.close(begun.file._descriptor)
    os.utime(begun.path, (clock.wall(), clock.wall()))
    reader = drop.reader()
    clock.advance((UNFINISHED_AGE - 60) * 1000)
    await reader.look()
    assert drop.damaged() == []
    clock.advance(120_000)
    await reader.look()
    assert drop.damaged() == [begun.path.name]


async def test_what_is_still_written_is_not_set_aside_whatever_the_clock_says(drop: Drop, clock: HandClock) -> None:
    begun = drop.begin()
    os.utime(begun.path, (clock.wall(), clock.wall()))
    reader = drop.reader()
    clock.advance(2 * UNFINISHED_AGE * 1000)
    await reader.look()
    assert drop.damaged() == []
    begun.file.finish()
    clock.advance(FIRST_DELAY)
    await reader.look()
    assert len(await take(drop.spool)) == 1


# -- planted ----------------------------------------------------------------------------------------------------------


async def test_nothing_that_was_planted_is_read_or_keeps_mail_from_coming(drop: Drop, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(drop.leave(rcpts=["<eve>"]).read_bytes())
    (drop.path / ("a" * 24)).symlink_to(secret)
    os.link(secret, drop.path / ("b" * 24))
    os.mkfifo(drop.path / ("c" * 24))
    (drop.path / ("d" * 24)).mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    (tmp_path / "s").rename(drop.path / ("e" * 24))
    (drop.path / "no\nname\x1b").write_bytes(secret.read_bytes())
    reader = drop.reader()
    await reader.look()
    assert len(await take(drop.spool)) == 1
    assert drop.files() == []
    assert len(drop.damaged()) == reader.set_aside == 6
    assert secret.exists()


async def test_a_crowd_of_unfinished_files_keeps_no_message_from_being_read(
    drop: Drop, place: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.drop.PAGE", 2)
    monkeypatch.setattr("ingress.drop.REMEMBERED", 1)
    for number in range(30):
        (Path(place.drop_dir) / f"{number:024x}").touch()
    for _ in range(3):
        drop.leave()
    reader = drop.reader()
    for _ in range(20):
        await reader.look()
    assert len(await take(drop.spool)) == 3


async def test_what_was_set_aside_is_never_overwritten(drop: Drop) -> None:
    path = drop.leave(rcpts=["no path"])
    content = path.read_bytes()
    await drop.reader().look()
    path.write_bytes(content)
    await drop.reader().look()
    assert len(drop.damaged()) == 2


# -- watching ---------------------------------------------------------------------------------------------------------


async def test_the_drop_is_read_when_it_has_changed_and_every_minute(drop: Drop, clock: HandClock) -> None:
    reader = drop.reader()
    await reader.look()
    before = os.stat(drop.path)
    drop.leave()
    os.utime(drop.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await reader.look()
    assert len(drop.files()) == 1
    clock.advance(FULL_SCAN)
    await reader.look()
    assert drop.files() == []


async def test_a_change_right_after_a_reading_is_not_missed(place: Layout, drop: Drop, clock: HandClock) -> None:
    clock.wall_s = time.time()
    reader = drop.reader()
    await reader.look()
    before = os.stat(drop.path)
    drop.leave()
    os.utime(drop.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await reader.look()
    assert drop.files() == []


async def test_the_reader_takes_what_comes_while_it_runs_and_stops_when_told(drop: Drop) -> None:
    reader = drop.reader()
    drop.leave()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            while drop.files():  # noqa: ASYNC110 -- nobody tells
                await anyio.sleep(0.01)
            drop.leave()
            while drop.files():  # noqa: ASYNC110 -- nobody tells
                await anyio.sleep(0.05)
            reader.stop()
    assert len(await take(drop.spool)) == 2


async def test_nothing_is_taken_while_the_reader_is_paused(drop: Drop) -> None:
    reader = drop.reader()
    reader.paused = True
    drop.leave()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await anyio.sleep(0.1)
        reader.stop()
    assert len(drop.files()) == 1


async def test_a_drop_that_is_away_is_told_once(drop: Drop, caplog: pytest.LogCaptureFixture) -> None:
    drop.path.rmdir()
    reader = drop.reader()
    with caplog.at_level(logging.ERROR):
        await reader.look()
        await reader.look()
    assert len(caplog.records) == 1
    make_drop(drop.place)
    drop.leave()
    await reader.look()
    assert drop.files() == []


async def test_what_was_set_aside_before_is_counted(drop: Drop) -> None:
    drop.leave(rcpts=["no path"])
    await drop.reader().look()
    reader = drop.reader()
    reader.stop()
    await reader.run()
    assert reader.set_aside == 1


def test_everybody_may_write_to_the_drop_and_nobody_may_look(place: Layout) -> None:
    old = os.umask(0o077)
    try:
        make_drop(place)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(place.drop_dir).st_mode) == 0o1733
