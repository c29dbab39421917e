"""Agents look at .forward files as the users whose files they are."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from delivery.agents import AgentHands
from delivery.deposit import ToMaildir
from delivery.identity import Identity
from delivery.recruits import Recruiter
from policy.forward import Forward, ForwardAnswer, ForwardDeferred, ForwardRefused, NoForward
from spool.outcome import Delivered
from tests.tools.deposits import deposit
from tests.tools.forwarding import commit_nothing

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="agents become other users"),
]

UID = 4001


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that its user alone can look into, in a folder that everybody can reach."""
    folder = Path(tempfile.mkdtemp(prefix="mailspool-test-"))
    folder.chmod(0o755)
    (folder / "ann").mkdir(mode=0o700)
    os.chown(folder / "ann", UID, UID)
    yield folder / "ann"
    shutil.rmtree(folder)


@pytest.fixture
def ann(home: Path) -> Identity:
    return Identity("ann", UID, UID, (UID,), str(home))


@pytest.fixture
async def hands() -> AsyncIterator[AgentHands]:
    hands = AgentHands(commit_nothing, Recruiter("/nowhere"))
    yield hands
    await hands.aclose()


def write(home: Path, text: str, owner: int = UID) -> None:
    path = home / ".forward"
    path.write_text(text)
    path.chmod(0o600)
    os.chown(path, owner, owner)


async def test_a_file_in_a_closed_home_is_read_as_its_user(hands: AgentHands, ann: Identity, home: Path) -> None:
    assert await hands.look(ann) == NoForward()
    write(home, "zoe@example.net\n")
    assert await hands.look(ann) == Forward(b"zoe@example.net\n")


async def test_a_file_that_root_put_there_is_not_the_user_s(hands: AgentHands, ann: Identity, home: Path) -> None:
    write(home, "zoe@example.net\n", 0)
    assert await hands.look(ann) == ForwardRefused("it belongs to the user 0")


async def test_a_link_to_what_root_alone_can_read_tells_nothing(hands: AgentHands, ann: Identity, home: Path) -> None:
    (home / ".forward").symlink_to("/etc/shadow")
    assert await hands.look(ann) == ForwardRefused("it is a symbolic link")


async def test_who_may_not_look_into_the_own_home_has_no_forward(hands: AgentHands, ann: Identity, home: Path) -> None:
    write(home, "zoe@example.net\n")
    os.chown(home, 0, 0)
    assert await hands.look(ann) == NoForward()


async def test_the_agent_that_looked_delivers_too(hands: AgentHands, ann: Identity, home: Path) -> None:
    await hands.look(ann)
    (agent,) = hands.running
    (result,) = await hands.make(ann, [deposit(ToMaildir(f"{home}/Maildir", "1.M1E1.x"))])
    assert isinstance(result, Delivered)
    assert hands.running == [agent]
    assert await hands.look(ann) == NoForward()
    assert hands.running == [agent]


async def test_an_agent_that_has_died_is_replaced(hands: AgentHands, ann: Identity, home: Path) -> None:
    write(home, "bob\n")
    await hands.look(ann)
    (agent,) = hands.running
    os.kill(agent.pid, signal.SIGSTOP)
    os.kill(agent.pid, signal.SIGKILL)
    assert await hands.look(ann) == Forward(b"bob\n")


async def test_an_agent_that_hangs_is_given_up_with_its_caller(hands: AgentHands, ann: Identity) -> None:
    await hands.look(ann)
    (agent,) = hands.running
    os.kill(agent.pid, signal.SIGSTOP)
    with anyio.move_on_after(0.2) as scope:
        await hands.look(ann)
    assert scope.cancelled_caught
    with anyio.fail_after(10):
        assert await hands.look(ann) == NoForward()
    assert agent not in hands.running


async def test_without_a_nursery_the_answer_is_trouble_for_now(ann: Identity) -> None:
    hands = AgentHands(commit_nothing, Recruiter("/nowhere", ["/bin/false"]))
    answer: ForwardAnswer = await hands.look(ann)
    assert answer == ForwardDeferred("no process could look at it for ann: the nursery ended at once")
    await hands.aclose()
    assert isinstance(await hands.look(ann), ForwardDeferred)
