"""Every step of a local delivery as the place where it ends: ``python -m tests.tools.local_steps ORDERS``.

A process of its own, because it forks one daemon after another and so may have no threads. For each step it copies a spool
with a few messages for one user, has a daemon deliver them and meet its fate there, lets a reader work, and has one more
daemon deliver what is left. Then each message must be in the mailbox once and whole, and all else be as it was.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from delivery import hands as own
from delivery.agents import AgentHands
from delivery.hands import Hands, OwnHands
from delivery.local import make_deposits
from delivery.mailboxes import Mailboxes
from delivery.recruits import COMMAND, Recruiter
from policy.config import Config, LocalAction, Maildir, Mbox
from spool.address import parse_address
from spool.files import SystemOps
from spool.ids import new_message_id
from spool.lane import Lane
from spool.layout import Layout, layout
from spool.message import Destination, Message, NewEnvelope, Recipient, Submission
from spool.outcome import Attempt, Delivered
from spool.settlement import settle
from spool.writer import SpoolWriter
from tests.tools.spooled import DAY, HOUR, HandClock, take
from tests.tools.stepped import Fate

#: Seconds that a daemon may take for all it has to do.
PATIENCE: Final = 60.0
#: How a daemon ends that had no trouble, that had some, and that could not remove a file.
UNHARMED, STRUCK, LEFT_A_NAME = 0, 10, 11
_CONFIG: Final = Config(path="smtpd.conf", server_name="mail.example.org", listeners=(), actions={}, rules=())
_ROOT: Final = Path(__file__).parents[2]
#: Starts an agent's nursery that meets its fate; `sys.path` is given, because agents get no environment.
_STEPPED: Final = (
    f"import sys, runpy; sys.path.insert(0, {str(_ROOT)!r});"
    "runpy.run_module('tests.tools.stepped_agent', run_name='__main__', alter_sys=True)"
)
#: The middle one takes several writes.
_BODIES: Final = (b"line of text\r\n" * 3, b"line of text\r\n" * 25_000, b"line of text\r\n" * 40)
#: What was in the mbox before: two messages of others, the first of which the reader removes.
_OTHERS: Final = [
    b"From root Mon Jan  1 00:00:0%d 2024\nSubject: other %d\n\nwords of others\n\n" % (n, n) for n in (1, 2)
]
#: What another program appends between two attempts.
_THEIRS: Final = b"From cron Mon Jan  1 00:00:09 2024\nSubject: other 9\n\nwords of others\n\n"
_RECORD: Final = re.compile(rb"From ann@example\.com [^\n]*\n(?:[\w-]+: [^\n]*\n)+\n(?:line of text\n)+\n")


@dataclass(frozen=True)
class Order:
    """What is to be tried.

    ``kind``: ``maildir`` or ``mbox``. ``fate``: see `Fate`, or whom an agent ends.
    ``between``: what the reader and others do.
    ``stride``: only every so many-th step. ``repetition``: the fate is that of the second attempt; the first was torn.
    """

    kind: str
    folder: str
    fate: str
    between: str = ""
    stride: int = 1
    first: int = 1
    user: str = ""
    repetition: bool = False


def child(work: Callable[[], int]) -> int:
    """A process that does ``work``; its id."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            signal.alarm(int(PATIENCE))
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    """How it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Trial:
    """One delivery after another, each from a copy of the same spool."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._folder = Path(order.folder)
        self._folder.mkdir(exist_ok=True)
        self._template = self._folder / "template"
        self._user = order.user or pwd.getpwuid(os.geteuid()).pw_name
        self._time = 5_000_000
        self._template.mkdir()
        status = ended(child(lambda: anyio.run(self._accept)))
        assert status == 0, status

    # -- the places ---------------------------------------------------------------------------------------------------

    @property
    def _case(self) -> Path:
        return self._folder / "case"

    @property
    def _box(self) -> Path:
        return self._case / "home/box"

    def _action(self) -> LocalAction:
        return Maildir(name="local", path=str(self._box)) if self._order.kind == "maildir" else Mbox(name="local")

    def _prepare(self) -> None:
        shutil.rmtree(self._case, ignore_errors=True)
        shutil.copytree(self._template, self._case)
        home = self._case / "home"
        home.mkdir(mode=0o700)
        if self._order.kind == "mbox":
            self._box.write_bytes(b"".join(_OTHERS))
            self._box.chmod(0o600)
        if os.geteuid() == 0:
            user = pwd.getpwnam(self._user)
            for path in (home, *home.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)

    # -- one daemon ---------------------------------------------------------------------------------------------------

    def _place(self, folder: Path) -> Layout:
        return layout(str(folder))

    async def _accept(self) -> int:
        spool = await SpoolWriter.open(self._place(self._template), HandClock(self._time))
        address = parse_address(f"{self._user}@example.org")
        # A file that an alias names, so that the mailbox lies where the test wants it.
        target = f"{self._box}" if self._order.kind == "mbox" else ""
        for number, body in enumerate(_BODIES, 1):
            name = new_message_id(0)
            content = b"Received: by mail.example.org id %s\r\n" % name.encode()
            content += b"Subject: token%d\r\n\r\n" % number + body
            message = Message(name, parse_address("ann@example.com"), spool.clock.now(), 1_700_000_000.0, len(content))
            destination = Destination(address, self._user, target=target)
            envelope = NewEnvelope(Recipient(address), destination, Lane("local", self._user), DAY)
            await spool.accept(Submission(message, content, (envelope,)))
        await spool.aclose()
        return 0

    def _hands(self, spool: SpoolWriter, place: Layout, fate: Fate, address: str) -> Hands:
        if not self._order.user:
            setattr(own, "make_deposits", _counted(fate))  # noqa: B010 - it is the module's own import
            return OwnHands(spool.commit_intents, place.mail_dir, SystemOps())
        stepped = (sys.executable, "-c", _STEPPED, fate.kind, str(fate.number), address)
        return AgentHands(spool.commit_intents, Recruiter(place.mail_dir, stepped if fate.number else COMMAND))

    async def _deliver(self, fate: Fate, address: str) -> int:
        """Two rounds: what the first defers, the second tries again in the same life. Nonzero if anything is left."""
        fate.install()
        place = self._place(self._case)
        clock = HandClock(self._time)
        spool = await SpoolWriter.open(place, clock)
        hands = self._hands(spool, place, fate, address)
        mailboxes = Mailboxes(spool, place, hands, lambda: _CONFIG)
        try:
            for _ in range(2):
                claimed = await take(spool)
                results = await mailboxes.deliver(claimed, self._action())
                attempts = [one for one in results if isinstance(one, Attempt)]
                pairs = zip(claimed, attempts, strict=True)
                await spool.record([settle(one, attempt, clock.boot_ms, (HOUR,)) for one, attempt in pairs])
                if all(isinstance(attempt.outcome, Delivered) for attempt in attempts):
                    break
                fate.struck = fate.struck or "agent"
            return {"": UNHARMED, "unlink": LEFT_A_NAME}.get(fate.struck, STRUCK)
        finally:
            await mailboxes.aclose()
            await spool.aclose()

    def _life(self, kind: str = "", number: int = 0) -> int:
        """A daemon from its start to its end; how it ended."""
        self._time += 3_600_000
        if not self._order.user or not number:
            return ended(child(lambda: anyio.run(self._deliver, Fate(kind, number), "")))
        with socket.socket(socket.AF_UNIX) as listener:
            address = f"mailspool-steps-{os.getpid()}"
            listener.bind(f"\0{address}")
            listener.listen()
            pid = child(lambda: anyio.run(self._deliver, Fate(kind, number), address))
            return self._watch(pid, listener)

    def _watch(self, pid: int, listener: socket.socket) -> int:
        """End the daemon when an agent asks for it."""
        pidfd = os.pidfd_open(pid)
        try:
            if listener.fileno() in select.select([listener.fileno(), pidfd], [], [])[0]:
                with listener.accept()[0]:
                    os.kill(pid, signal.SIGKILL)
                    return ended(pid)
            return ended(pid)
        finally:
            os.close(pidfd)

    # -- what others do between the two, and what must be there at the end ----------------------------------------------

    def _between(self) -> None:
        if "read" in self._order.between:
            if self._order.kind == "maildir":
                for path in list((self._box / "new").iterdir()) if (self._box / "new").exists() else []:
                    path.rename(self._box / f"cur/{path.name}:2,S")
            else:
                self._expunge()
        if "append" in self._order.between and self._order.kind == "mbox":
            with self._box.open("ab") as mailbox:
                mailbox.write(_THEIRS)

    def _expunge(self) -> None:
        """The first message goes, and all the others move."""
        content = self._box.read_bytes().removeprefix(_OTHERS[0])
        if "new file" in self._order.between:
            stat = self._box.stat()
            new = self._box.with_name("box.new")
            new.write_bytes(content)
            new.chmod(0o600)
            os.chown(new, stat.st_uid, stat.st_gid)
            new.rename(self._box)
        else:
            self._box.write_bytes(content)

    def _wrong(self, may_leave: int) -> str:
        """What is not as it must be; empty if nothing is."""
        found = self._found_in_maildir(may_leave) if self._order.kind == "maildir" else self._found_in_mbox(may_leave)
        if isinstance(found, str):
            return found
        wanted = Counter({f"token{number}": 1 for number in range(1, len(_BODIES) + 1)})
        return "" if found == wanted else f"in the mailbox: {dict(found)}"

    def _found_in_maildir(self, may_leave: int) -> Counter[str] | str:
        left = [path.name for path in (self._box / "tmp").iterdir()]
        if len(left) > may_leave:
            return f"left in tmp: {left}"
        found: Counter[str] = Counter()
        for path in [*(self._box / "new").iterdir(), *(self._box / "cur").iterdir()]:
            content = path.read_bytes()
            if not re.fullmatch(rb"(?:[\w-]+: [^\n]*\n)+\n(?:line of text\n)+", content):
                return f"{path.name} is not whole"
            found.update(_tokens(content))
        return found

    def _found_in_mbox(self, may_leave: int) -> Counter[str] | str:
        if self._box.with_name("box.lock").exists() and not may_leave:
            return "a dot-lock is left"
        content = self._box.read_bytes()
        found = Counter(_tokens(b"".join(_RECORD.findall(content))))
        rest = re.sub(rb"\n{3,}", b"\n\n", _RECORD.sub(b"", content)).lstrip(b"\n")
        others = _OTHERS[1:] if "read" in self._order.between else _OTHERS
        others = [*others, _THEIRS] if "append" in self._order.between else others
        return found if rest == b"".join(others) else f"the rest of the mailbox: {rest[:600]!r}"

    # -- all of them --------------------------------------------------------------------------------------------------

    def case(self, number: int) -> tuple[bool, str]:
        """Whether anything happened at that step, and what was wrong afterwards."""
        self._time = 5_000_000
        self._prepare()
        if self._order.repetition:
            # The first attempt ends in the middle of the large message.
            self._life("torn", self._torn_step())
            self._between()
        status = self._life(self._order.fate, number)
        if status not in (UNHARMED, STRUCK, LEFT_A_NAME, -signal.SIGKILL):
            return True, f"the first daemon ended with {status}"
        if not self._order.repetition:
            self._between()
        last = self._life()
        if last:
            return True, f"the last daemon ended with {last}"
        return status != UNHARMED, self._wrong(may_leave=int(status == LEFT_A_NAME))

    def _torn_step(self) -> int:
        return 14 if self._order.kind == "mbox" else 22

    def run(self) -> dict[str, Any]:
        """At every step, until nothing happens any more."""
        tried, failures, number, quiet = 0, [], self._order.first, 0
        # Between two calls that can fail there are some that cannot.
        while quiet < (1 + 12 // self._order.stride if self._order.fate.startswith("E") else 1):
            has_happened, wrong = self.case(number)
            quiet = 0 if has_happened else quiet + 1
            tried += has_happened
            if wrong:
                failures.append(f"{asdict(self._order)} at step {number}: {wrong}")
            number += self._order.stride
        return {"tried": tried, "failures": failures, "steps": number}


def _counted(fate: Fate) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        fate.count_this_thread()
        return make_deposits(*arguments)

    return counted


def _tokens(content: bytes) -> list[str]:
    return [token.decode() for token in re.findall(rb"^Subject: (token\d)$", content, re.MULTILINE)]


def main(arguments: Sequence[str]) -> int:
    """Print what came of each order, as JSON."""
    for fields in json.loads(arguments[0]):
        print(json.dumps(Trial(Order(**fields)).run()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
