"""One mbox for the daemon, procmail and programs that know one lock of the two, while the daemon's agents are killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from delivery.identity import Identity, identity_of
from tests.tools.daemon import Daemon, wait_for
from tests.tools.scorecard import Cases

pytestmark = pytest.mark.root

#: Messages that we send in a session: fewer than the daemon takes in one.
A_SESSION = 50
GAMES = identity_of("games") if os.geteuid() == 0 else Identity("games", 5, 60, (60,), "/usr/games")
CONFIGURATION = """
listen on 127.0.0.1 port $port
action "box" mbox
match for any action "box"
"""
MESSAGE = (
    'set -e; message() { echo "Subject: $1"; echo; for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "line of $1"; done;'
    " echo end; }; for i in $(seq $COUNT); do "
)
#: Procmail takes both locks. It would sleep for 8 seconds when it finds one. A copy of it has not the set-id bits with which
#: it would leave the group that may make dot-locks here.
PROCMAIL = MESSAGE + 'message "$NAME$i" | "$PROCMAIL" -f other@example.com DEFAULT="$BOX" LOCKSLEEP=0 /dev/null; done'
#: procmail's lockfile(1), as shell scripts use it: the dot-lock alone. It too can sleep whole seconds only. With the program
#: that knows the other lock alone it has an arrangement of its own, or they would tear each other's mail.
LOCKFILE = (
    MESSAGE + 'exec 9>>"$BETWEEN"; flock 9; until lockfile -r 0 "$BOX.lock" 2>/dev/null; do sleep 0.01; done;'
    '{ echo "From other@example.com Tue Nov 14 22:13:20 2023"; message "$NAME$i"; echo; } >>"$BOX";'
    ' rm -f "$BOX.lock"; flock -u 9; done'
)
#: The kernel's lock alone, in the language that every Debian system has.
FCNTL = """
use Fcntl qw(:DEFAULT :flock);
for my $i (1 .. $ENV{COUNT}) {
    my $name = "$ENV{NAME}$i";
    open(my $between, ">>", $ENV{BETWEEN}) or die $!;
    flock($between, LOCK_EX) or die $!;
    open(my $box, ">>", $ENV{BOX}) or die $!;
    my $lock = pack("ssx4qqlx4", F_WRLCK, 0, 0, 0, 0);
    fcntl($box, F_SETLKW, $lock) or die $!;
    syswrite($box, "From other\\@example.com Tue Nov 14 22:13:20 2023\\n");
    syswrite($box, "Subject: $name\\n\\n" . "line of $name\\n" x 16 . "end\\n\\n");
    close($box);
    close($between);
}
"""
WHOLE = re.compile(
    r"From (?:ann|other)@example\.com [^\n]*\n(?:[\w-]+: [^\n]*\n|[ \t][^\n]*\n)*?Subject: (\w+)\n(?:[\w-]+: [^\n]*\n)*\n"
    r"(?:line of \1\n)+end\n\n+"
)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that games can reach, with a mail directory as Debian has it."""
    folder = Path(tempfile.mkdtemp(prefix="mailspool-shared-"))
    folder.chmod(0o755)
    (folder / "var/mail").mkdir(parents=True)
    os.chown(folder / "var/mail", 0, 8)
    (folder / "var/mail").chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def agents_of(daemon: Daemon) -> list[int]:
    """Agents are the nursery's children; a thread of the daemon started the nursery."""
    assert daemon.process is not None
    found = []
    for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        with suppress(OSError):
            for nursery in (task / "children").read_text().split():
                found += children(int(nursery))
    return found


class Killer(threading.Thread):
    """Ends agents while they deliver, now and then."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__()
        self.killed = 0
        self._daemon = daemon
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(0.15):
            for agent in agents_of(self._daemon):
                with suppress(ProcessLookupError):
                    os.kill(agent, signal.SIGKILL)
                    self.killed += 1

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()


def others(box: Path, name: str, command: list[str], count: int) -> subprocess.Popen[bytes]:
    """Another program that appends as games, a member of the directory's group as Debian's setgid programs are."""
    environment = {"PATH": "/usr/bin:/bin", "BOX": str(box), "NAME": name, "COUNT": str(count), "LOGNAME": "games"}
    environment["PROCMAIL"] = str(box.parents[2] / "procmail")
    environment["BETWEEN"] = str(box.parents[2] / "between")
    return subprocess.Popen(command, env=environment, user=GAMES.uid, group=8, extra_groups=[], umask=0o077)


def hand_in(client: smtplib.SMTP, text: str) -> None:
    """Until it is taken: who looks for the user's .forward may be killed, and then the answer is "later"."""
    while True:
        try:
            client.sendmail("ann@example.com", ["games@box.example.net"], text)
        except smtplib.SMTPRecipientsRefused as error:
            if any(code >= 500 for code, _ in error.recipients.values()):
                raise
            time.sleep(0.1)
        else:
            return


def send(port: int, count: int) -> list[str]:
    for first in range(1, count + 1, A_SESSION):
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            for number in range(first, min(first + A_SESSION, count + 1)):
                # Now and then one that takes several writes.
                lines = 20_000 if number % 25 == 0 else 30
                text = f"Subject: ours{number}\n\n" + f"line of ours{number}\n" * lines + "end\n"
                hand_in(client, text)
    return [f"ours{number}" for number in range(1, count + 1)]


@pytest.mark.timeout(600)
@pytest.mark.reliability("4 local once")
def test_programs_that_share_an_mbox_tear_and_lose_nothing_though_our_agents_are_killed(
    peers: None, root: Path, cases: Cases, thorough: bool
) -> None:
    box = root / "var/mail/games"
    box.touch(0o600)
    os.chown(box, GAMES.uid, GAMES.gid)
    shutil.copyfile("/usr/bin/procmail", root / "procmail")
    (root / "procmail").chmod(0o755)
    (root / "between").touch()
    (root / "between").chmod(0o666)
    count = 700 if thorough else 25
    programs = [
        ("procmailA", ["sh", "-c", PROCMAIL]),
        ("procmailB", ["sh", "-c", PROCMAIL]),
        ("dotlock", ["sh", "-c", LOCKFILE]),
        ("fcntl", ["perl", "-e", FCNTL]),
    ]
    with Daemon(root, CONFIGURATION) as daemon:
        running = [others(box, name, command, count) for name, command in programs]
        with Killer(daemon) as killer:
            expected = send(daemon.port, 4 * count)
            expected += [f"{name}{number}" for name, _ in programs for number in range(1, count + 1)]
            assert [program.wait(500) for program in running] == [0] * len(programs)
        hurry(daemon)
    text = box.read_text()
    assert WHOLE.sub("", text) == ""
    assert Counter(match[1] for match in WHOLE.finditer(text)) == Counter(expected)
    assert sorted(path.name for path in box.parent.iterdir()) == ["games"]
    cases.tried(len(expected))
    cases.note(f"{len(expected)} messages into one mbox, {len(programs)} other programs, {killer.killed} agents killed")


def hurry(daemon: Daemon) -> None:
    """What waits for its next try is tried now, until nothing is left."""

    def is_empty() -> bool:
        daemon.smtpctl("schedule", "all")
        time.sleep(0.2)
        return not daemon.queue()

    wait_for(is_empty, "an empty queue", 120)
