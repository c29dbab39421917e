"""Agents as real processes of another user: what they are, how long they live, and that their death loses nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from delivery.agents import MAX_IDLE, AgentHands
from delivery.deposit import Deposit, Result, ToCommand, ToMaildir
from delivery.identity import Identity, identity_of
from delivery.recruits import COMMAND, Recruiter
from spool.bodies import Body, LargeBody, checksum
from spool.errors import SpoolFull
from spool.files import SystemOps
from spool.intent import MboxIntent
from spool.outcome import Damaged, Deferred, Delivered, Stage
from spool.seal import Sealing, seal_whole
from tests.tools.deposits import HEADER, again, deposit, maildir_deposits, mbox_deposits
from tests.tools.sealing import SEALED_WAYS, called

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="agents become other users"),
]

DYING = Path(__file__).parents[1] / "tools" / "dying_agent.py"
GAMES = identity_of("games") if os.geteuid() == 0 else Identity("games", 5, 60, (60,), "/usr/games")
MAIL_GROUP = 8

MAILDIR_POINTS = [
    ("maildir.created", 2),
    ("maildir.written", 1),
    ("maildir.written", 3),
    ("maildir.fsynced", 1),
    ("maildir.fsynced", 3),
    ("maildir.linked", 1),
    ("maildir.linked", 3),
    ("maildir.unlinked", 1),
    ("maildir.settled", 1),
]
MBOX_POINTS = [
    ("mbox.locked", 1),
    ("mbox.intended", 1),
    ("mbox.writing", 1),
    ("mbox.writing", 2),
    ("mbox.appended", 1),
    ("mbox.fsynced", 1),
]

Make = Callable[..., AgentHands]


class Spool:
    """Keeps intents as the spool does: the last one of each envelope."""

    def __init__(self) -> None:
        self.intents: dict[str, MboxIntent] = {}

    async def commit(self, intents: Sequence[MboxIntent]) -> None:
        self.intents.update({intent.envelope: intent for intent in intents})

    def again(self, deposits: Sequence[Deposit]) -> list[Deposit]:
        return again(deposits, list(self.intents.values()))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach, with a home for games."""
    folder = Path(tempfile.mkdtemp(prefix="mailspool-test-"))
    folder.chmod(0o755)
    (folder / "home").mkdir(mode=0o700)
    os.chown(folder / "home", GAMES.uid, GAMES.gid)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def store() -> Spool:
    return Spool()


@pytest.fixture
async def make_hands(store: Spool, public: Path) -> AsyncIterator[Make]:
    made: list[AgentHands] = []

    def make(command: Sequence[str] = COMMAND, idle: float = 30.0) -> AgentHands:
        made.append(AgentHands(store.commit, Recruiter(str(public / "mail"), command), idle))
        return made[-1]

    yield make
    for hands in made:
        await hands.aclose()


def dying(point: str, number: int) -> list[str]:
    return [sys.executable, "-I", str(DYING), point, str(number)]


def shell(script: str) -> Deposit:
    return deposit(ToCommand(("/bin/sh", "-c", script), {"PATH": "/usr/bin:/bin"}))


def only(results: Sequence[Result]) -> Result:
    (result,) = results
    return result


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await anyio.sleep(0.02)
    raise AssertionError("it did not come about")


# -- what an agent is -------------------------------------------------------------------------------------------------


async def test_an_agent_is_the_user_and_nothing_else(make_hands: Make, public: Path) -> None:
    hands = make_hands()
    who = replace(GAMES, groups=(60, 12, 20))
    await hands.make(who, maildir_deposits(public / "home/Maildir"))
    (agent,) = hands.running
    pid = agent.pid
    found = status(pid)
    assert found["Uid"] == ["5"] * 4
    assert found["Gid"] == ["60"] * 4
    assert sorted(found["Groups"]) == ["12", "20", "60"]
    assert found["CapEff"] == found["CapPrm"] == ["0" * 16]
    assert found["Umask"] == ["0077"]
    assert os.getsid(pid) == pid
    assert_bare(Path(f"/proc/{pid}"))


def assert_bare(process: Path) -> None:
    """No environment, no core dumps, no descriptor but the standard ones and a socket."""
    assert (process / "environ").read_bytes() == b""
    assert "Max core file size        0                    0" in (process / "limits").read_text()
    kinds = [os.readlink(path) for path in (process / "fd").iterdir() if int(path.name) > 2]
    assert [kind.partition(":")[0] for kind in kinds] == ["socket"]


async def test_the_mail_is_the_users_own(make_hands: Make, public: Path) -> None:
    assert isinstance(only(await make_hands().make(GAMES, maildir_deposits(public / "home/Maildir"))), Delivered)
    for path in (public / "home/Maildir").rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (GAMES.uid, GAMES.gid), path


async def test_a_command_may_open_so_many_files_and_dump_no_core(make_hands: Make, public: Path) -> None:
    result = only(
        await make_hands().make(GAMES, [shell(f"cat >/dev/null; (ulimit -n; ulimit -c) >{public}/home/limits")])
    )
    assert isinstance(result, Delivered)
    assert (public / "home/limits").read_text() == "1024\n0\n"


async def test_a_command_runs_as_the_user_with_the_users_groups(make_hands: Make, public: Path) -> None:
    who = replace(GAMES, groups=(60, 12))
    result = only(await make_hands().make(who, [shell(f"cat >/dev/null; (id -ru; id -G) >{public}/home/id")]))
    assert isinstance(result, Delivered)
    uid, *groups = (public / "home/id").read_text().split()
    assert uid == "5"
    assert sorted(groups) == ["12", "60"]


async def test_nobody_can_write_where_only_root_can(make_hands: Make, public: Path) -> None:
    (public / "rootly").mkdir(mode=0o755)
    result = only(await make_hands().make(GAMES, maildir_deposits(public / "rootly/Maildir")))
    assert isinstance(result, Deferred)
    assert result.stage is Stage.CONNECT
    assert list((public / "rootly").iterdir()) == []


async def test_a_large_body_of_the_spool_reaches_a_user_who_could_not_open_it(make_hands: Make, public: Path) -> None:
    octets = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 30_000
    (public / "body").write_bytes(octets)
    (public / "body").chmod(0o600)
    body = LargeBody(str(public / "body"), len(octets), checksum(octets), SystemOps())
    to = [ToMaildir(str(public / "home/Maildir"), name) for name in ("one", "two")]
    results = await make_hands().make(GAMES, [deposit(method, body) for method in to])
    assert [type(result) for result in results] == [Delivered] * 2
    for name in ("one", "two"):
        assert (public / f"home/Maildir/new/{name}").read_bytes() == HEADER + octets.replace(b"\r\n", b"\n")


@pytest.mark.reliability("7 at rest")
@pytest.mark.parametrize("way", SEALED_WAYS, ids=called)
async def test_a_sealed_body_reaches_an_agent_that_has_no_key_but_its_own(
    make_hands: Make, public: Path, way: Sealing
) -> None:
    octets = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 30_000
    seal, sealed = seal_whole(way, "message", octets)
    body = LargeBody(str(public / "body"), len(octets), checksum(octets), SystemOps(), way.opening(seal, "message"))
    altered = replace(body, path=str(public / "altered"))
    (public / "body").write_bytes(sealed)
    (public / "altered").write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    to = [
        (ToMaildir(str(public / "home/Maildir"), "one"), body),
        (ToMaildir(str(public / "home/Maildir"), "two"), altered),
    ]
    hands = make_hands()
    # This one is kept; it has not loaded what opening takes, and as this user perhaps cannot.
    assert isinstance(only(await hands.make(GAMES, maildir_deposits(public / "home/Maildir"))), Delivered)
    results = await hands.make(GAMES, [deposit(method, each, number) for number, (method, each) in enumerate(to, 1)])
    assert [type(result) for result in results] == [Delivered, Damaged]
    third = await hands.make(GAMES, [deposit(ToMaildir(str(public / "home/Maildir"), "three"), body, 3)])
    assert isinstance(only(third), Delivered)
    assert len(hands.running) == 2, "the one that can open it is kept, too"
    assert (public / "home/Maildir/new/one").read_bytes() == HEADER + octets.replace(b"\r\n", b"\n")


async def test_damaged_and_missing_bodies_are_told_apart_from_sound_ones(make_hands: Make, public: Path) -> None:
    (public / "body").write_bytes(b"x" * 100_000)
    altered = LargeBody(str(public / "body"), 100_000, checksum(b"y" * 100_000), SystemOps())
    missing = LargeBody(str(public / "gone"), 100_000, checksum(b"y" * 100_000), SystemOps())
    bodies: list[Body | bytes] = [altered, b"Subject: x\r\n\r\n", missing]
    deposits = [
        deposit(ToMaildir(str(public / "home/Maildir"), f"n{number}"), body, number)
        for number, body in enumerate(bodies, 1)
    ]
    results = await make_hands().make(GAMES, deposits)
    assert [type(result) for result in results] == [Damaged, Delivered, Damaged]
    assert [path.name for path in (public / "home/Maildir/new").iterdir()] == ["n2"]


# -- mailboxes in the system's directory ------------------------------------------------------------------------------


async def test_a_missing_mailbox_is_made_for_the_user_and_locked_through_the_directorys_group(
    make_hands: Make, public: Path
) -> None:
    (public / "mail").mkdir()
    os.chown(public / "mail", 0, MAIL_GROUP)
    (public / "mail").chmod(0o2775)
    hands = make_hands()
    inbox = public / "mail/games"
    inbox.with_name("games.lock").write_text(f"{os.getpid()}\n")
    async with anyio.create_task_group() as group:
        results: list[Result] = []

        async def run() -> None:
            results.extend(await hands.make(GAMES, mbox_deposits(inbox)))

        group.start_soon(run)
        await until(inbox.exists)
        await anyio.sleep(0.3)
        assert inbox.read_bytes() == b""
        inbox.with_name("games.lock").unlink()
    assert isinstance(only(results), Delivered)
    found = inbox.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (GAMES.uid, 0o600)
    assert not inbox.with_name("games.lock").exists()
    assert sorted(status(hands.running[0].pid)["Groups"]) == ["60", "8"]


async def test_only_the_agent_of_a_mailbox_belongs_to_the_directorys_group(make_hands: Make, public: Path) -> None:
    (public / "mail").mkdir()
    os.chown(public / "mail", 0, MAIL_GROUP)
    (public / "mail").chmod(0o2775)
    hands = make_hands()
    await hands.make(GAMES, mbox_deposits(public / "mail/games"))
    await hands.make(GAMES, [shell(f"cat >/dev/null; id -G >{public}/home/groups")])
    assert (public / "home/groups").read_text().split() == ["60"]
    assert len(hands.running) == 2


async def test_a_burst_has_its_mailbox_looked_after_once_and_a_user_who_removes_it_loses_nothing(
    make_hands: Make, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (public / "mail").mkdir()
    os.chown(public / "mail", 0, MAIL_GROUP)
    (public / "mail").chmod(0o2775)
    looked_after: list[Sequence[str]] = []
    prepare = Recruiter.prepare

    def noting(self: Recruiter, who: Identity, paths: Sequence[str]) -> Identity:
        looked_after.append(paths)
        return prepare(self, who, paths)

    monkeypatch.setattr(Recruiter, "prepare", noting)
    hands, inbox = make_hands(), public / "mail/games"
    assert isinstance(only(await hands.make(GAMES, mbox_deposits(inbox))), Delivered)
    inbox.unlink()
    assert isinstance(only(await hands.make(GAMES, mbox_deposits(inbox))), Delivered)
    assert inbox.stat().st_uid == GAMES.uid
    assert looked_after == [(str(inbox),)]


async def test_a_mailbox_where_the_user_may_make_no_dot_lock_is_delivered_to(make_hands: Make, public: Path) -> None:
    (public / "mail").mkdir(mode=0o755)
    assert isinstance(only(await make_hands().make(GAMES, mbox_deposits(public / "mail/games"))), Delivered)
    assert (public / "mail/games").stat().st_uid == GAMES.uid


@pytest.mark.parametrize("kind", ["link", "second name", "fifo", "directory", "other owner"])
async def test_what_is_not_the_users_own_plain_file_is_refused(make_hands: Make, public: Path, kind: str) -> None:
    (public / "mail").mkdir(mode=0o755)
    inbox, target = public / "mail/games", public / "target"
    target.write_text("precious")
    match kind:
        case "link":
            inbox.symlink_to(target)
        case "second name":
            os.chown(target, GAMES.uid, GAMES.gid)
            inbox.hardlink_to(target)
        case "fifo":
            os.mkfifo(inbox)
        case "directory":
            inbox.mkdir()
        case _:
            inbox.write_text("")
            inbox.chmod(0o666)
    result = only(await make_hands().make(GAMES, mbox_deposits(inbox)))
    assert isinstance(result, Deferred)
    assert result.stage is Stage.CONNECT
    assert target.read_text() == "precious"


# -- a small disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(public: Path) -> Iterator[Path]:
    disk = public / "disk"
    disk.mkdir()
    options = f"size=128k,mode=700,uid={GAMES.uid},gid={GAMES.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_defers_a_maildir_and_leaves_it_clean(make_hands: Make, small_disk: Path) -> None:
    hands = make_hands()
    to = ToMaildir(str(small_disk / "Maildir"), "big")
    result = only(await hands.make(GAMES, [deposit(to, b"x" * 300_000)]))
    assert isinstance(result, Deferred)
    assert result.reply.status == "4.3.1"
    assert [path for path in (small_disk / "Maildir").rglob("*") if path.is_file()] == []
    assert isinstance(only(await hands.make(GAMES, maildir_deposits(small_disk / "Maildir"))), Delivered)


async def test_a_full_disk_defers_an_mbox_and_leaves_it_as_it_was(make_hands: Make, small_disk: Path) -> None:
    hands = make_hands()
    inbox = small_disk / "inbox"
    await hands.make(GAMES, mbox_deposits(inbox))
    before = inbox.read_bytes()
    result = only(await hands.make(GAMES, mbox_deposits(inbox, b"x" * 300_000)))
    assert isinstance(result, Deferred)
    assert result.reply.status == "4.3.1"
    assert inbox.read_bytes() == before
    assert isinstance(only(await hands.make(GAMES, mbox_deposits(inbox))), Delivered)


# -- how long agents live ---------------------------------------------------------------------------------------------


async def test_an_agent_is_kept_for_its_user_and_for_nobody_else(make_hands: Make, public: Path) -> None:
    hands = make_hands()
    for number in range(3):
        await hands.make(GAMES, [shell(f"cat >/dev/null; echo {number}")])
    assert len(hands.running) == 1
    await hands.make(identity_of("nobody"), [shell("cat >/dev/null")])
    assert {agent.who.name for agent in hands.running} == {"games", "nobody"}


async def test_an_agent_without_work_ends(make_hands: Make) -> None:
    hands = make_hands(idle=0.1)
    await hands.make(GAMES, [shell("cat >/dev/null")])
    pid = hands.running[0].pid
    await until(lambda: not hands.running)
    assert_gone(pid)


def assert_gone(pid: int) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_few_agents_without_work_are_kept(make_hands: Make) -> None:
    hands = make_hands()
    async with anyio.create_task_group() as group:
        for _ in range(MAX_IDLE + 2):
            group.start_soon(hands.make, GAMES, [shell("cat >/dev/null; sleep 1")])
    await until(lambda: len(hands.running) == MAX_IDLE)


async def test_an_agent_killed_while_idle_is_replaced_without_a_deferral(make_hands: Make, public: Path) -> None:
    hands = make_hands()
    await hands.make(GAMES, [shell("cat >/dev/null")])
    pid = hands.running[0].pid
    os.kill(pid, signal.SIGKILL)
    # No time for the loop to notice.
    assert isinstance(only(await hands.make(GAMES, [shell("cat >/dev/null")])), Delivered)
    assert [agent.pid for agent in hands.running] != [pid]


async def test_a_nursery_that_was_killed_is_replaced_and_its_agents_go_on(make_hands: Make) -> None:
    hands = make_hands()
    await hands.make(GAMES, [shell("cat >/dev/null")])
    pid = hands.running[0].pid
    nursery = int(status(pid)["PPid"][0])
    os.kill(nursery, signal.SIGKILL)
    assert isinstance(only(await hands.make(GAMES, [shell("cat >/dev/null")])), Delivered)
    assert hands.running[0].pid == pid
    assert isinstance(only(await hands.make(identity_of("nobody"), [shell("cat >/dev/null")])), Delivered)
    assert len(hands.running) == 2


def test_agents_and_nursery_end_when_the_daemon_is_killed(public: Path) -> None:
    script = public / "daemon.py"
    script.write_text(DAEMON.format(home=public / "home"))
    daemon = subprocess.Popen([sys.executable, "-I", str(script)], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    agent = int(daemon.stdout.readline())
    nursery = int(status(agent)["PPid"][0])
    daemon.kill()
    daemon.communicate()
    for _ in range(500):
        if not Path(f"/proc/{agent}").exists() and not Path(f"/proc/{nursery}").exists():
            return
        time.sleep(0.02)
    pytest.fail("an agent or its nursery lives on")


DAEMON = """
import anyio
from delivery.agents import AgentHands
from delivery.deposit import Deposit, ToCommand
from delivery.identity import identity_of
from delivery.recruits import Recruiter
from spool.bodies import SmallBody
from spool.ids import EnvelopeId

async def commit(intents):
    pass

async def main():
    hands = AgentHands(commit, Recruiter("/nowhere"))
    method = ToCommand(("/bin/sh", "-c", "cat >/dev/null"), {{"PATH": "/usr/bin:/bin"}}, "{home}")
    await hands.make(identity_of("games"), [Deposit(EnvelopeId("x.1"), method, b"", "a@b", SmallBody(b""))])
    print(hands.running[0].pid, flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


async def test_an_agent_that_cannot_be_started_closes_the_lane(make_hands: Make) -> None:
    result = only(await make_hands(["/no/such/interpreter"]).make(GAMES, [shell("cat")]))
    assert isinstance(result, Deferred)
    assert result.stage is Stage.ROUTE


async def test_an_agent_that_cannot_become_its_user_defers(make_hands: Make) -> None:
    # Out of range: the kernel refuses.
    who = Identity("games", (1 << 32) - 1, 60, (60,), "/")
    result = only(await make_hands().make(who, [shell("cat")]))
    assert isinstance(result, Deferred)


async def test_an_unforeseen_exception_is_logged_and_defers(
    make_hands: Make, public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hands = make_hands(dying("trouble", 1))
    result = only(await hands.make(GAMES, maildir_deposits(public / "home/Maildir")))
    assert isinstance(result, Deferred)
    assert "foresaw" not in result.reply.text
    assert "ZeroDivisionError: nobody foresaw this" in caplog.text


async def test_a_cancelled_caller_ends_the_command(make_hands: Make, public: Path) -> None:
    hands = make_hands()
    mark = public / "home/pid"
    async with anyio.create_task_group() as group:
        group.start_soon(
            hands.make, GAMES, [shell(f"echo $$ >{mark}.new; mv {mark}.new {mark}; cat >/dev/null; sleep 60")]
        )
        await until(mark.exists)
        group.cancel_scope.cancel()
    pid = int(mark.read_text())
    await until(lambda: not hands.running)
    with suppress(FileNotFoundError):
        assert status(pid)["State"][0] == "Z"


async def test_closing_ends_agents_at_work_too(make_hands: Make, public: Path) -> None:
    hands = make_hands()
    mark = public / "home/mark"
    results: list[Result] = []

    async def run() -> None:
        results.extend(await hands.make(GAMES, [shell(f"touch {mark}; cat >/dev/null; sleep 60")]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(mark.exists)
        with anyio.fail_after(10):
            await hands.aclose()
    assert hands.running == []
    assert isinstance(only(results), Deferred)


# -- death at every instant -------------------------------------------------------------------------------------------


def subjects(folder: Path) -> list[str]:
    lines = [line for path in folder.iterdir() for line in path.read_text().splitlines()]
    return sorted(line for line in lines if line.startswith("Subject: "))


def record(body: bytes) -> bytes:
    return b"From ann@example.com Tue Nov 14 22:13:20 2023\n" + HEADER + body.replace(b"\r\n", b"\n") + b"\n"


@pytest.mark.parametrize("reader_moves", [False, True], ids=["", "reader moves"])
@pytest.mark.parametrize(("point", "number"), MAILDIR_POINTS)
async def test_a_maildir_gets_each_message_once_though_the_agent_is_killed(
    make_hands: Make, public: Path, point: str, number: int, reader_moves: bool
) -> None:
    maildir = public / "home/Maildir"
    deposits = [deposit(ToMaildir(str(maildir), f"n{n}"), b"Subject: %d\r\n\r\n" % n, n) for n in range(1, 4)]
    for result in await make_hands(dying(point, number)).make(GAMES, deposits):
        assert isinstance(result, Deferred)
        assert result.reply.status == "4.3.0"
    if reader_moves:
        for path in (maildir / "new").iterdir():
            path.rename(maildir / f"cur/{path.name}:2,S")
    results = await make_hands().make(GAMES, again(deposits))
    assert [type(result) for result in results] == [Delivered] * 3
    assert sorted(subjects(maildir / "new") + subjects(maildir / "cur")) == ["Subject: 1", "Subject: 2", "Subject: 3"]
    assert list((maildir / "tmp").iterdir()) == []


@pytest.mark.parametrize(("point", "number"), MBOX_POINTS)
async def test_an_mbox_gets_each_message_once_though_the_agent_is_killed(
    make_hands: Make, public: Path, store: Spool, point: str, number: int
) -> None:
    inbox = public / "home/inbox"
    # Large enough that the append takes several writes.
    bodies = [b"Subject: %d\r\n\r\n" % n + b"%d\r\n" % n * 200_000 for n in range(1, 4)]
    deposits = mbox_deposits(inbox, *bodies)
    for result in await make_hands(dying(point, number)).make(GAMES, deposits):
        assert isinstance(result, Deferred)
    results = await make_hands().make(GAMES, store.again(deposits))
    assert [type(result) for result in results] == [Delivered] * 3
    assert inbox.read_bytes() == b"".join(map(record, bodies))
    assert not inbox.with_name("inbox.lock").exists()


@pytest.mark.parametrize(("point", "number"), [("mbox.cut", 1), ("mbox.fsynced", 1), ("mbox.intended", 1)])
async def test_an_mbox_gets_each_message_once_though_the_repetition_is_killed_too(
    make_hands: Make, public: Path, store: Spool, point: str, number: int
) -> None:
    inbox = public / "home/inbox"
    body = b"Subject: 1\r\n\r\n" + b"x" * 400_000 + b"\r\n"
    deposits = mbox_deposits(inbox, body)
    await make_hands(dying("mbox.writing", 1)).make(GAMES, deposits)
    await make_hands(dying(point, number)).make(GAMES, store.again(deposits))
    (result,) = await make_hands().make(GAMES, store.again(deposits))
    assert isinstance(result, Delivered)
    assert inbox.read_bytes() == record(body)


async def test_an_intent_that_cannot_be_committed_leaves_the_mailbox_alone(public: Path) -> None:
    async def refuse(intents: Sequence[MboxIntent]) -> None:
        raise SpoolFull(28, "No space left on device")

    hands = AgentHands(refuse, Recruiter(str(public / "mail")))
    result = only(await hands.make(GAMES, mbox_deposits(public / "home/inbox")))
    assert isinstance(result, Deferred)
    assert (public / "home/inbox").read_bytes() == b""
    await hands.aclose()
