"""The daemon is killed again and again while it delivers through agents: every mailbox has every message once.

A reader moves messages of the Maildir from new to cur all the time.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import smtplib
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

pytestmark = [
    pytest.mark.reliability("4 local once"),
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="agents become other users"),
]

GAMES = identity_of("games") if os.geteuid() == 0 else Identity("games", 5, 60, (60,), "/usr/games")
KILLS = int(os.environ.get("MAILSPOOL_KILLS", "6"))
SESSIONS = 4
CONFIGURATION = """
listen on 127.0.0.1 port $port
action "box" mbox
action "dir" maildir "/home/Maildir"
match for domain "box.example" action "box"
match for domain "dir.example" action "dir"
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that games can reach, with a home and a mail directory as Debian has it."""
    folder = Path(tempfile.mkdtemp(prefix="mailspool-test-"))
    folder.chmod(0o755)
    (folder / "home").mkdir(mode=0o700)
    os.chown(folder / "home", GAMES.uid, GAMES.gid)
    (folder / "var/mail").mkdir(parents=True)
    os.chown(folder / "var/mail", 0, 8)
    (folder / "var/mail").chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


class Load:
    """Sessions that send numbered messages to both mailboxes, each once, whatever becomes of it; and a reader."""

    def __init__(self, port: int, maildir: Path) -> None:
        self.sent: set[str] = set()
        self.accepted: set[str] = set()
        self._port = port
        self._maildir = maildir
        self._is_over = threading.Event()
        senders = [threading.Thread(target=self._send, args=(session,)) for session in range(SESSIONS)]
        self._threads = [threading.Thread(target=self._read), *senders]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Send no more."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, session: int) -> None:
        number = 0
        while not self._is_over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, timeout=10) as client:
                    while not self._is_over.is_set():
                        number += 1
                        self._send_one(client, f"t{session}x{number}t", is_large=number % 20 == 0)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.02)

    def _send_one(self, client: smtplib.SMTP, token: str, *, is_large: bool) -> None:
        # A large one has a file of its own in the spool, and takes several writes into the mailbox.
        filling = "line of text\n" * (30_000 if is_large else 100)
        self.sent.add(token)
        text = f"Subject: {token}\n\n{filling}"
        if not client.sendmail("ann@example.com", ["games@box.example", "games@dir.example"], text):
            self.accepted.add(token)
        time.sleep(0.01)

    def _read(self) -> None:
        while not self._is_over.is_set():
            with suppress(OSError):
                for path in list((self._maildir / "new").iterdir())[::2]:
                    path.rename(self._maildir / f"cur/{path.name}:2,S")
            time.sleep(0.05)


def in_mbox(root: Path) -> Counter[str]:
    return Counter(re.findall(r"^Subject: (\w+)$", (root / "var/mail/games").read_text(), re.MULTILINE))


def in_maildir(root: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in [*(root / "home/Maildir/new").iterdir(), *(root / "home/Maildir/cur").iterdir()]:
        text = path.read_text()
        assert text.endswith("line of text\n"), path
        found.update(re.findall(r"^Subject: (\w+)$", text, re.MULTILINE))
    return found


def test_every_mailbox_has_every_message_once(root: Path) -> None:
    daemon = Daemon(root, CONFIGURATION)
    with Load(daemon.port, root / "home/Maildir") as load:
        for _ in range(KILLS):
            daemon.start()
            time.sleep(random.uniform(0.1, 1.2))
            daemon.kill()
        with daemon:
            time.sleep(0.5)
            load.end()
            wait_for(lambda: load.accepted <= in_mbox(root).keys() & in_maildir(root).keys(), "all accepted mail")
            wait_for(lambda: not daemon.queue(), "an empty queue")
    assert len(load.accepted) > KILLS
    for found in (in_mbox(root), in_maildir(root)):
        assert {token for token, count in found.items() if count > 1} == set()
        assert load.accepted <= found.keys() <= load.sent
    assert list((root / "home/Maildir/tmp").iterdir()) == []
    whole = re.compile(r"From ann@example\.com .*\n(?:[\w-]+: .*\n|[ \t].*\n)+\n(?:line of text\n)+\n")
    assert whole.sub("", (root / "var/mail/games").read_text()) == ""
