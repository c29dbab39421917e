"""Answers about .forward files: fetched by one for all, remembered for a moment, given up in time."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import anyio
import pytest

from delivery.forwards import KEPT, MAX_KEPT, UserForwards
from delivery.hands import OwnHands
from delivery.identity import Identity, identity_for, identity_of
from policy.forward import Forward, ForwardAnswer, ForwardDeferred, NoForward
from policy.tables.passwd import User
from spool.files import SystemOps
from tests.tools.forwarding import commit_nothing

pytestmark = pytest.mark.anyio

ANN = User("ann", 4001, 4002, "/srv/ann")


class FakeEyes:
    """Sees what ``answer`` is, as soon as ``open`` is set."""

    def __init__(self) -> None:
        self.answer: ForwardAnswer = Forward(b"bob\n")
        self.seen: list[Identity] = []
        self.open = anyio.Event()
        self.open.set()
        self._again = anyio.Event()

    async def look(self, who: Identity) -> ForwardAnswer:
        self.seen.append(who)
        self._again.set()
        await self.open.wait()
        return self.answer

    async def until_seen(self, count: int) -> None:
        with anyio.fail_after(5):
            while len(self.seen) < count:
                self._again = anyio.Event()
                await self._again.wait()


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def eyes() -> FakeEyes:
    return FakeEyes()


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
def forwards(eyes: FakeEyes, clock: FakeTime) -> UserForwards:
    return UserForwards(eyes, now=clock)


async def test_an_answer_is_known_for_a_moment_after_it_was_fetched(forwards: UserForwards, clock: FakeTime) -> None:
    assert forwards.known(ANN) is None
    assert await forwards.fetch(ANN) == Forward(b"bob\n")
    clock.now = KEPT - 0.1
    assert forwards.known(ANN) == Forward(b"bob\n")
    clock.now = KEPT
    assert forwards.known(ANN) is None


async def test_a_fetch_always_looks(forwards: UserForwards, eyes: FakeEyes) -> None:
    await forwards.fetch(ANN)
    eyes.answer = NoForward()
    assert await forwards.fetch(ANN) == NoForward()
    assert forwards.known(ANN) == NoForward()


async def test_many_who_ask_at_once_share_one_look(forwards: UserForwards, eyes: FakeEyes) -> None:
    eyes.open = anyio.Event()
    answers: list[ForwardAnswer] = []

    async def ask() -> None:
        answers.append(await forwards.fetch(ANN))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        await eyes.until_seen(1)
        eyes.open.set()
    assert (answers, len(eyes.seen)) == ([Forward(b"bob\n")] * 5, 1)


async def test_who_waits_for_a_look_that_is_broken_off_takes_another(forwards: UserForwards, eyes: FakeEyes) -> None:
    eyes.open = anyio.Event()
    answers: list[ForwardAnswer] = []

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            answers.append(await forwards.fetch(ANN))

    first = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(ask, first)
        await eyes.until_seen(1)
        group.start_soon(ask, anyio.CancelScope())
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await eyes.until_seen(2)
        eyes.open.set()
    assert (answers, len(eyes.seen)) == ([Forward(b"bob\n")], 2)


async def test_a_home_that_does_not_answer_is_trouble_for_now(eyes: FakeEyes) -> None:
    eyes.open = anyio.Event()
    answer = await UserForwards(eyes, patience=0.01).fetch(ANN)
    assert answer == ForwardDeferred("no answer from /srv/ann in 0.01 seconds")


async def test_so_many_answers_are_remembered_and_no_more(forwards: UserForwards) -> None:
    users = [User(f"user{number}", 4001, 4001, "/") for number in range(MAX_KEPT + 1)]
    for user in users:
        await forwards.fetch(user)
    assert forwards.known(users[0]) is None
    assert forwards.known(users[1]) is not None


async def test_the_file_is_looked_at_as_the_user_and_with_the_groups_of_nobody_else(
    forwards: UserForwards, eyes: FakeEyes
) -> None:
    await forwards.fetch(ANN)
    assert eyes.seen == [Identity("ann", 4001, 4002, (4002,), "/srv/ann")]


def test_a_user_of_the_system_has_the_system_s_groups_and_a_namesake_has_not() -> None:
    found = pwd.getpwuid(os.geteuid())
    user = User(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)
    assert identity_for(user) == identity_of(found.pw_name)
    namesake = User(found.pw_name, 4001, 4002, "/srv/x")
    assert identity_for(namesake).groups == (4002,)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    file = tmp_path / ".forward"
    file.write_text("zoe@example.net\n")
    file.chmod(0o600)
    return tmp_path


async def test_the_user_who_started_the_daemon_has_a_forward_and_others_have_none(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hands = OwnHands(commit_nothing, "/nowhere", SystemOps())
    me = User("me", os.geteuid(), os.getegid(), str(home))
    forwards = UserForwards(hands)
    assert await forwards.fetch(me) == Forward(b"zoe@example.net\n")
    assert caplog.messages == []
    for name in ("ann", "bob"):
        assert await forwards.fetch(User(name, os.geteuid() + 1, 4002, str(home))) == NoForward()
    assert [message.split(" is not followed")[0] for message in caplog.messages] == ["the .forward of ann"]
