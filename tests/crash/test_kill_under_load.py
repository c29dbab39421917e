"""Thirty kills under load: nothing acknowledged is lost, local mail arrives once, relayed mail nearly so.

One long scene, played once; each test looks at one thing that it left behind.
"""

from __future__ import annotations

import getpass
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.tools.daemon import Daemon
from tests.tools.load import Ledger, Load
from tests.tools.recording_sink import RecordingSink

pytestmark = [
    pytest.mark.reliability("1 kills under load"),
    pytest.mark.timeout(420),
    pytest.mark.xdist_group("kill-under-load"),
]

KILLS = 30
SESSIONS = 20
#: The same moments in every run; what is under way at each of them differs all the same.
SEED = 20261123
TOKEN = re.compile(rb"^X-Token: (\S+)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What thirty kills left."""

    local: Ledger
    relayed: Ledger
    in_mailbox: Counter[str]
    at_sink: Counter[str]
    #: Envelopes that were in flight to the sink when the daemon was killed, all kills together.
    interrupted: int
    torn: tuple[str, ...]


def _configuration(sink: int) -> str:
    return (
        'listen on "127.0.0.1" port $port\n'
        'action "in" maildir "/Maildir"\n'
        f'action "out" relay host "smtp://127.0.0.1:{sink}"\n'
        'match for local action "in"\n'
        'match for any action "out"\n'
    )


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    return anyio.run(_play, tmp_path_factory.mktemp("killed"))


async def _play(root: Path) -> Aftermath:
    local, relayed = Ledger(), Ledger()
    interrupted = 0
    moments = random.Random(SEED)
    async with RecordingSink() as sink:
        daemon = Daemon(root, _configuration(sink.port))
        loads = [
            Load(daemon.port, f"{getpass.getuser()}@localhost", local, SESSIONS // 2),
            Load(daemon.port, "somebody@remote.example", relayed, SESSIONS // 2),
        ]
        for kill in range(KILLS):
            await anyio.to_thread.run_sync(daemon.start)
            async with anyio.create_task_group() as tasks:
                for number, load in enumerate(loads):
                    tasks.start_soon(load.run, f"{kill}.{number}")
                await anyio.sleep(moments.uniform(0.05, 0.8))
                await anyio.to_thread.run_sync(daemon.kill)
            interrupted += await anyio.to_thread.run_sync(_in_flight, daemon)
        await anyio.to_thread.run_sync(_drain, daemon)
        bodies = [message.body for message in sink.messages]
    mail = [path.read_bytes() for path in (root / "Maildir/new").iterdir()]
    torn = tuple(token for body in [*mail, *bodies] for token in _tokens([body]) if f"end-{token}".encode() not in body)
    return Aftermath(local, relayed, Counter(_tokens(mail)), Counter(_tokens(bodies)), interrupted, torn)


def _in_flight(daemon: Daemon) -> int:
    return sum(entry["state"] == "inflight" and entry["action"] == "out" for entry in daemon.queue())


def _drain(daemon: Daemon) -> None:
    with daemon:
        daemon.smtpctl("schedule", "all")
        daemon.wait_queue(0)


def _tokens(messages: Iterable[bytes]) -> list[str]:
    return [match.group(1).decode() for message in messages if (match := TOKEN.search(message))]


def test_the_scene_is_worth_its_name(aftermath: Aftermath) -> None:
    assert len(aftermath.local.acknowledged) > KILLS
    assert len(aftermath.relayed.acknowledged) > KILLS


def test_no_acknowledged_local_message_is_lost(aftermath: Aftermath) -> None:
    assert aftermath.local.acknowledged - set(aftermath.in_mailbox) == set()


def test_no_local_message_arrives_twice(aftermath: Aftermath) -> None:
    assert [token for token, count in aftermath.in_mailbox.items() if count > 1] == []


def test_no_acknowledged_relayed_message_is_lost(aftermath: Aftermath) -> None:
    assert aftermath.relayed.acknowledged - set(aftermath.at_sink) == set()


def test_relayed_duplicates_are_no_more_than_what_was_in_flight(aftermath: Aftermath) -> None:
    duplicates = sum(aftermath.at_sink.values()) - len(aftermath.at_sink)
    assert duplicates <= aftermath.interrupted


def test_nothing_arrives_that_was_not_sent_to_its_last_dot(aftermath: Aftermath) -> None:
    arrived = set(aftermath.in_mailbox) | set(aftermath.at_sink)
    assert arrived <= aftermath.local.tried | aftermath.relayed.tried


def test_nothing_arrives_torn(aftermath: Aftermath) -> None:
    assert aftermath.torn == ()
