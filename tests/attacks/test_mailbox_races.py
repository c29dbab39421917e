"""A user who exchanges his own mailbox while mail is put into it: links to files of others, pipes, folders, nothing at all.

The old attack on programs that deliver as root: what was looked at is not what is opened a moment later, and mail is
appended to /etc/passwd, or a file of somebody else's is given to the attacker. Here nobody who appends has more rights than
the user whose mailbox it is, and root, who makes mailboxes in the mail directory, makes new files only and gives away what
it holds.

This machine's kernel need not protect links in sticky folders: the tests say nothing of /proc/sys/fs/protected_*.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from delivery.agents import AgentHands
from delivery.deposit import Deposit, Method, ToMaildir, ToMbox
from delivery.identity import Identity, identity_of
from delivery.recruits import Recruiter
from spool.bodies import SmallBody
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.outcome import Damaged, Deferred, Delivered, Failed
from tests.tools.folders import public_folder

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root delivers to others"),
]

#: Seconds that mailboxes are exchanged while mail comes in.
RACE = 1.5
SECRET = b"what nobody but its owner may touch\n"

#: Exchanges what is at the first path for one thing after the other, as often as it can; says how often.
ATTACKER = """
import contextlib, os, signal, sys
place, victim, missing, uid, gid = sys.argv[1:]
os.setgroups([])
os.setresgid(*[int(gid)] * 3)
os.setresuid(*[int(uid)] * 3)
count = 0
def end(*_):
    print(count, flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
def link(): os.symlink(victim, place)
def dangling(): os.symlink(missing, place)
def hard(): os.link(victim, place)
def pipe(): os.mkfifo(place)
def folder(): os.mkdir(place)
def parent(): os.symlink(os.path.dirname(victim), place)
def nothing(): pass
def plain(): os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o600))
print("ready", flush=True)
while True:
    for make in (link, dangling, hard, pipe, folder, parent, nothing, plain):
        with contextlib.suppress(OSError):
            os.rename(place, place + ".old")
        for remove in (os.unlink, os.rmdir):
            with contextlib.suppress(OSError):
                remove(place + ".old")
        with contextlib.suppress(OSError):
            make()
            count += 1
"""


@dataclass
class Scene:
    """A mail directory where everybody may make files, a home, and what must not be touched."""

    mail: Path
    home: Path
    victim: Path
    #: Where a file must not appear.
    missing: Path
    hands: AgentHands
    who: Identity

    async def deliver(self, number: int, method: Method) -> Delivered | Deferred | Failed | Damaged:
        deposit = Deposit(
            EnvelopeId(f"race.{number}"), method, b"", "games@example.org", SmallBody(b"A: b\r\n\r\nc\r\n")
        )
        (result,) = await self.hands.make(self.who, [deposit])
        return result

    def is_untouched(self) -> bool:
        found = self.victim.stat()
        names = sorted(path.name for path in self.victim.parent.iterdir())
        return (
            self.victim.read_bytes() == SECRET
            and (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o644)
            and names == [self.victim.name]
        )


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async def commit(intents: Sequence[MboxIntent]) -> None:
        return

    who = identity_of("games")
    with public_folder() as root:
        mail, home, vault = root / "mail", root / "home", root / "vault"
        for folder in (mail, home, vault):
            folder.mkdir()
        mail.chmod(0o1777)
        os.chown(home, who.uid, who.gid)
        victim = vault / "victim"
        victim.write_bytes(SECRET)
        hands = AgentHands(commit, Recruiter(str(mail)))
        yield Scene(mail, home, victim, vault / "missing", hands, who)
        await hands.aclose()


class Attacker:
    """Runs as the user, on the same file system."""

    def __init__(self, scene: Scene, place: Path) -> None:
        words = (place, scene.victim, scene.missing, scene.who.uid, scene.who.gid)
        command = [sys.executable, "-I", "-c", ATTACKER, *map(str, words)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> int:
        """How often it has exchanged the mailbox."""
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=10)
        return int(out)


def places(scene: Scene) -> Iterator[tuple[Path, Method]]:
    box = str(scene.mail / "games")
    yield scene.mail / "games", ToMbox(box, "bob@example.org", 0.0)
    yield scene.home / "inbox", ToMbox(str(scene.home / "inbox"), "bob@example.org", 0.0)
    yield scene.home / "Maildir", ToMaildir(str(scene.home / "Maildir"), "name")
    yield scene.home / "Maildir" / "new", ToMaildir(str(scene.home / "Maildir"), "name")


@pytest.mark.parametrize("number", range(4), ids=["mbox in the mail directory", "mbox at home", "Maildir", "its new"])
async def test_whoever_exchanges_his_mailbox_touches_nothing_of_others(scene: Scene, number: int) -> None:
    place, method = list(places(scene))[number]
    if place.name == "new":
        await scene.deliver(0, method)
    attacker = Attacker(scene, place)
    until, tried, delivered = time.monotonic() + RACE, 0, 0
    while time.monotonic() < until:
        tried += 1
        result = await scene.deliver(tried, method)
        # He may keep his mail from coming, and lose it; nobody is told that it came where it cannot be.
        assert isinstance(result, Delivered | Deferred)
        delivered += isinstance(result, Delivered)
    exchanged = attacker.stop()
    assert tried > 10
    assert exchanged > 50
    assert scene.is_untouched(), (tried, delivered, exchanged)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "folder"])
async def test_a_mailbox_that_is_no_plain_file_of_its_user_is_refused_with_a_reason(scene: Scene, kind: str) -> None:
    box = scene.mail / "games"
    match kind:
        case "symlink":
            box.symlink_to(scene.victim)
        case "hard link":
            os.link(scene.victim, box)
        case "pipe":
            os.mkfifo(box)
        case "folder":
            box.mkdir()
    result = await scene.deliver(1, ToMbox(str(box), "bob@example.org", 0.0))
    assert isinstance(result, Deferred)
    assert str(box) in result.reply.text
    assert [path.name for path in scene.victim.parent.iterdir()] == ["victim"]
    assert scene.victim.read_bytes() == SECRET
