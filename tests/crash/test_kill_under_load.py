"""Kills under load: nothing acknowledged is lost, local mail arrives once, relayed mail nearly so.

One long scene, played once; each test looks at one thing that it left behind. Twenty sessions send small and large messages,
half to a Maildir and half through a relay to a sink, until the daemon dies of SIGKILL; each start seals what it accepts in
another way than the one before. After some such cycles it may deliver all that is left, and what arrived is compared with
what was promised.
"""

from __future__ import annotations

import getpass
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.tools.daemon import Daemon, wait_for
from tests.tools.load import Ledger, Load
from tests.tools.recording_sink import RecordingSink
from tests.tools.scorecard import Cases

pytestmark = [
    pytest.mark.reliability("1 kills under load"),
    pytest.mark.timeout(2000),
    pytest.mark.xdist_group("kill-under-load"),
]

#: Kills between two times at which everything may be delivered.
KILLS = 20
ROUNDS, MANY_ROUNDS = 1, 25
#: The same moments in every run; what is under way at each of them differs all the same.
SEED = 20261123
#: Octets: in the database, and in a file of its own.
SMALL, LARGE = 4000, 150_000
#: Sessions that send each size to each place: twenty in all.
SMALL_SESSIONS, LARGE_SESSIONS = 8, 2
TOKEN = re.compile(rb"^X-Token: (\S+)\r?$", re.MULTILINE)


@dataclass(slots=True)
class Aftermath:
    """What the kills left."""

    kills: int = 0
    local: Ledger = field(default_factory=Ledger)
    relayed: Ledger = field(default_factory=Ledger)
    in_mailbox: Counter[str] = field(default_factory=Counter)
    at_sink: Counter[str] = field(default_factory=Counter)
    #: Envelopes that were in flight to the sink when the daemon was killed, all kills together.
    interrupted: int = 0
    torn: list[str] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        """How many messages too many the sink has."""
        return sum(self.at_sink.values()) - len(self.at_sink)


#: How waiting mail is sealed, start by start: keys change while it is queued.
SEALING = (
    "",
    "queue compression zstd\n",
    'queue encryption "/etc/smtpd/one.key" old "/etc/smtpd/two.key"\n',
    'queue compression gzip\nqueue encryption "/etc/smtpd/two.key" old "/etc/smtpd/one.key"\n',
)
OPENING = 'queue encryption old { "/etc/smtpd/one.key" "/etc/smtpd/two.key" }\n'
KEYS = {"one.key": "1" * 64, "two.key": "2" * 64}


def _configuration(sink: int, start: int) -> str:
    sealing = SEALING[start % len(SEALING)]
    return (
        f"{sealing if 'encryption' in sealing else sealing + OPENING}"
        'listen on "127.0.0.1" port $port\n'
        'action "in" maildir "/Maildir"\n'
        f'action "out" relay host "smtp://127.0.0.1:{sink}"\n'
        'match for local action "in"\n'
        'match for any action "out"\n'
    )


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory, thorough: bool) -> Aftermath:
    return anyio.run(_play, tmp_path_factory.mktemp("killed"), MANY_ROUNDS if thorough else ROUNDS)


async def _play(root: Path, rounds: int) -> Aftermath:
    aftermath = Aftermath()
    moments = random.Random(SEED)
    async with RecordingSink() as sink:
        daemon = Daemon(root, _configuration(sink.port, 0), arguments=("-d",), tables=KEYS)
        for number in range(rounds):
            for kill in range(KILLS):
                daemon.configure(_configuration(sink.port, kill))
                await _cycle(daemon, aftermath, f"{number}.{kill}", moments.uniform(0.05, 0.6))
            await anyio.to_thread.run_sync(_drain, daemon)
            _take_stock(root / "Maildir/new", sink, aftermath)
    return aftermath


async def _cycle(daemon: Daemon, aftermath: Aftermath, label: str, lifetime: float) -> None:
    """A start, sessions that send as fast as they can, a kill in the midst of it."""
    loads = [
        Load(daemon.port, recipient, ledger, sessions, size)
        for recipient, ledger in (
            (f"{getpass.getuser()}@localhost", aftermath.local),
            ("somebody@remote.example", aftermath.relayed),
        )
        for sessions, size in ((SMALL_SESSIONS, SMALL), (LARGE_SESSIONS, LARGE))
    ]
    await anyio.to_thread.run_sync(daemon.start)
    async with anyio.create_task_group() as tasks:
        for number, load in enumerate(loads):
            tasks.start_soon(load.run, f"{label}.{number}")
        await anyio.sleep(lifetime)
        await anyio.to_thread.run_sync(daemon.kill)
    aftermath.kills += 1
    aftermath.interrupted += await anyio.to_thread.run_sync(_in_flight, daemon)


def _in_flight(daemon: Daemon) -> int:
    return sum(entry["state"] == "inflight" and entry["action"] == "out" for entry in daemon.queue())


def _drain(daemon: Daemon) -> None:
    with daemon:
        daemon.smtpctl("schedule", "all")
        wait_for(lambda: _is_empty(daemon), "an empty queue", patience=120)


def _is_empty(daemon: Daemon) -> bool:
    time.sleep(0.2)
    return not daemon.queue()


def _take_stock(mailbox: Path, sink: RecordingSink, aftermath: Aftermath) -> None:
    """Count what arrived, and take it away: nothing of it is in flight any more."""
    files = list(mailbox.iterdir())
    aftermath.in_mailbox.update(_arrived((path.read_bytes() for path in files), aftermath.torn))
    shutil.rmtree(mailbox)
    mailbox.mkdir(mode=0o700)
    aftermath.at_sink.update(_arrived((message.body for message in sink.messages), aftermath.torn))
    sink.messages.clear()


def _arrived(messages: Iterable[bytes], torn: list[str]) -> Iterable[str]:
    for message in messages:
        found = TOKEN.search(message)
        token = found[1].decode() if found else "without a token"
        if f"\nend-{token}".encode() not in message:
            torn.append(token)
        yield token


def test_the_scene_is_worth_its_name(aftermath: Aftermath) -> None:
    assert len(aftermath.local.acknowledged) > aftermath.kills
    assert len(aftermath.relayed.acknowledged) > aftermath.kills


def test_no_acknowledged_message_is_lost_in_any_cycle(aftermath: Aftermath, cases: Cases) -> None:
    cases.tried(aftermath.kills)
    for lost in aftermath.local.acknowledged - set(aftermath.in_mailbox):
        cases.failed(f"{lost} is not in the mailbox")
    for lost in aftermath.relayed.acknowledged - set(aftermath.at_sink):
        cases.failed(f"{lost} is not at the sink")
    cases.note(
        f"{aftermath.kills} kills, {len(aftermath.local.acknowledged)} local and {len(aftermath.relayed.acknowledged)} "
        f"relayed messages acknowledged; {aftermath.duplicates} relayed twice, "
        f"{aftermath.interrupted} in flight at a kill"
    )


def test_no_local_message_arrives_twice(aftermath: Aftermath) -> None:
    assert [token for token, count in aftermath.in_mailbox.items() if count > 1] == []


def test_relayed_duplicates_are_no_more_than_what_was_in_flight(aftermath: Aftermath) -> None:
    assert aftermath.duplicates <= aftermath.interrupted


def test_nothing_arrives_that_was_not_sent_to_its_last_dot(aftermath: Aftermath) -> None:
    assert set(aftermath.in_mailbox) | set(aftermath.at_sink) <= aftermath.local.tried | aftermath.relayed.tried


def test_nothing_arrives_torn(aftermath: Aftermath) -> None:
    assert aftermath.torn == []
