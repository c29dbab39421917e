"""What a message costs the spool, in counts that do not vary with the machine."""

from __future__ import annotations

import re
import smtplib
import sqlite3
import time
from functools import partial
from pathlib import Path

import anyio
import pytest

from ingress.limits import Limits
from spool import claims, intake, outcomes
from spool.clock import SystemClock
from spool.files import SystemOps
from spool.lane import ClaimOrder, LaneWish
from spool.lanes import due_lanes
from spool.layout import layout
from spool.message import Claimed
from spool.opening import OpenSpool, close_spool, open_spool
from spool.outcome import Attempt
from spool.settlement import settle
from spool.writer import SpoolWriter
from tests.tools.daemon import Daemon
from tests.tools.load import Ledger, Load
from tests.tools.smtp_server import Setting, smtp_server
from tests.tools.spooled import DONE, RELAY, submission

SESSIONS = 20
MESSAGES = 1000
#: Messages of one commit: what piles up with so many sessions.
BATCH = 15


class CountingOps(SystemOps):
    """Counts commits, and holds each for a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.commits = 0

    def commit(self, connection: sqlite3.Connection) -> None:
        self.commits += 1
        time.sleep(self._seconds)
        super().commit(connection)


async def commits_of_a_thousand(root: Path, seconds: float) -> int:
    """From twenty sessions that send one message after the other, with commits that take so long."""
    ops = CountingOps(seconds)
    spool = await SpoolWriter.open(layout(str(root)), ops=ops)
    ledger = Ledger()
    try:
        async with smtp_server(spool, Setting(limits=Limits(), max_mails=MESSAGES)) as server:
            before = ops.commits
            load = Load(server.port, "bob@example.org", ledger, SESSIONS)
            async with anyio.create_task_group() as group:
                group.start_soon(load.run, "x")
                while len(ledger.acknowledged) < MESSAGES:  # noqa: ASYNC110 - a ledger tells nobody
                    await anyio.sleep(0.002)
                commits = ops.commits - before
                group.cancel_scope.cancel()
        return commits
    finally:
        await spool.aclose()


@pytest.mark.anyio
async def test_slow_commits_are_shared_by_all_sessions_that_wait(tmp_path: Path) -> None:
    commits = await commits_of_a_thousand(tmp_path, 0.01)
    assert commits <= 100


@pytest.mark.anyio
async def test_commits_that_are_not_held_are_shared_too(tmp_path: Path) -> None:
    commits = await commits_of_a_thousand(tmp_path, 0)
    print(f"{MESSAGES} messages of {SESSIONS} sessions: {commits} commits")
    assert commits < MESSAGES


class Counted:
    """A spool, and how many statements it has run."""

    def __init__(self, spool: OpenSpool) -> None:
        self.store = spool.store
        self._statements = 0
        self.store.connection.set_trace_callback(self._count)

    def _count(self, _: str) -> None:
        self._statements += 1

    def accept(self) -> float:
        """Statements a message, for a commit of some."""
        before = self._statements
        messages = [submission(self.store.clock.now()) for _ in range(BATCH)]
        self.store.run([partial(intake.accept, submission=each) for each in messages])
        return (self._statements - before) / BATCH

    def claim(self) -> tuple[list[Claimed], float]:
        """All that is due, in one commit."""
        (lane,) = due_lanes(self.store.connection, self.store.clock.now(), LaneWish(RELAY.action, False, 10))
        before = self._statements
        (claimed,) = self.store.run([lambda tx: claims.claim(tx, ClaimOrder(lane.id, BATCH))]).results
        assert isinstance(claimed, list)
        return claimed, (self._statements - before) / BATCH

    def record(self, claimed: list[Claimed]) -> float:
        """That all were delivered, in one commit."""
        before, now = self._statements, self.store.clock.now()
        settlements = [settle(one, Attempt(one.envelope.id, now, now, "r", DONE), now, ()) for one in claimed]
        self.store.run([lambda tx: [outcomes.record(tx, each) for each in settlements]], 1)
        return (self._statements - before) / BATCH


def test_statements_of_a_message_from_accept_to_record(tmp_path: Path) -> None:
    spool = open_spool(str(tmp_path), SystemClock(), SystemOps())
    try:
        counted = Counted(spool)
        counted.accept()
        accepted = counted.accept()
        claimed, claiming = counted.claim()
        recorded = counted.record(claimed)
    finally:
        close_spool(spool)
    print(f"{accepted:.2f} to accept, {claiming:.2f} to claim, {recorded:.2f} to record")
    assert (accepted <= 4.5, claiming <= 0.6, recorded <= 7.5) == (True, True, True), (accepted, claiming, recorded)


def test_between_data_and_250_the_log_of_the_database_is_fsynced(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "trace=read,write,recvfrom,sendto,sendmsg,fsync,fdatasync"
    strace = ("strace", "-D", "-f", "-y", "-s", "64", "-o", str(trace), "-e", calls)
    conf = 'listen on 127.0.0.1 port $port\naction "in" maildir\nmatch from any for any action "in"\n'
    daemon = Daemon(tmp_path / "root", conf, under=strace, arguments=("-d", "-P", "mda"))
    with daemon, smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
        client.sendmail("ann@example.org", ["games@localhost"], "Subject: x\r\n\r\nhello\r\n")
    text = trace.read_text(errors="replace")
    begun, accepted = text.index('"354 '), text.index('"250 2.0.0 ', text.index('"354 '))
    between = text[begun:accepted]
    assert re.search(r"(fdatasync|fsync)\(\d+<[^>]*state\.db-wal>", between), between
