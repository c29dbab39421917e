"""What a message costs an agent, in calls of the system: counts that no machine changes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from delivery.agents import AgentHands
from delivery.deposit import Deposit, ToMaildir, ToMbox
from delivery.identity import identity_of
from delivery.recruits import Recruiter
from spool.bodies import SmallBody
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.outcome import Delivered

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="agents become other users"),
]

BATCH = 50
BODY = b"Subject: one of many\r\n\r\n" + b"a line of 32 octets, and so on.\r\n" * 125


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mailspool-test-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


async def commit(intents: Sequence[MboxIntent]) -> None:
    assert len(intents) <= BATCH


def batch(home: Path, kind: str, start: int) -> list[Deposit]:
    return [one_of_many(home, kind, number) for number in range(start, start + BATCH)]


def one_of_many(home: Path, kind: str, number: int) -> Deposit:
    is_mbox = kind == "mbox"
    method = ToMbox(f"{home}/mbox", "b@x.example", 0.0) if is_mbox else ToMaildir(f"{home}/Maildir", f"{number}.test")
    return Deposit(EnvelopeId(f"m{number}.1"), method, b"Return-Path: <>\n", "games@x.example", SmallBody(BODY))


@contextmanager
def traced(pid: int, trace: Path) -> Iterator[None]:
    """Inside, every call of that process is written down."""
    with subprocess.Popen(["strace", "-f", "-o", trace, "-p", str(pid)], stderr=subprocess.PIPE) as strace:
        assert strace.stderr is not None
        assert b"attached" in strace.stderr.readline()
        yield
        strace.terminate()


async def calls_of_a_batch(home: Path, kind: str) -> Counter[str]:
    """Those of a warm agent, for `BATCH` messages that come together."""
    who = replace(identity_of("games"), home=str(home))
    hands = AgentHands(commit, Recruiter("/nowhere"))
    try:
        await hands.make(who, batch(home, kind, 0))
        (agent,) = hands.running
        trace = home / "trace"
        with traced(agent.pid, trace):
            results = await hands.make(who, batch(home, kind, BATCH))
        assert [type(result) for result in results] == [Delivered] * BATCH
    finally:
        await hands.aclose()
    lines = (line.split(maxsplit=1)[1] for line in trace.read_text().splitlines())
    return Counter(line.partition("(")[0] for line in lines if "(" in line and not line.startswith(("<", "+", "-")))


@pytest.mark.parametrize(("kind", "syncs", "calls"), [("maildir", BATCH + 1, 9 * BATCH), ("mbox", 1, BATCH)])
async def test_a_batch_of_fifty_costs_few_calls_of_the_system(home: Path, kind: str, syncs: int, calls: int) -> None:
    found = await calls_of_a_batch(home, kind)
    assert found["fsync"] + found["fdatasync"] == syncs
    assert sum(found.values()) <= calls, found
