"""A whole daemon follows .forward files, from RCPT to the user's own command."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import stat
import tempfile
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, wait_for

#: Whoever the daemon may become: as root anybody, otherwise itself.
UID = 4001 if os.geteuid() == 0 else os.geteuid()
GID = 4001 if os.geteuid() == 0 else os.getegid()
CONFIGURATION = """
table people {{ ann = "{uid}:{gid}:{root}/home/ann", bob = "{uid}:{gid}:{root}/home/bob" }}
listen on 127.0.0.1 port $port
action "local" maildir userbase <people> alias {{ team = "ann, bob" }}
match for local action "local"
"""
MESSAGE = "From: zoe@example.net\r\nSubject: hello\r\n\r\nhello\r\n"


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user can reach, with two homes."""
    folder = Path(tempfile.mkdtemp(prefix="mailspool-test-"))
    folder.chmod(0o755)
    for name in ("ann", "bob"):
        home = folder / "home" / name
        home.mkdir(parents=True)
        home.chmod(0o700)
        os.chown(home, UID, GID)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def daemon(root: Path) -> Iterator[Daemon]:
    with Daemon(root, CONFIGURATION.format(uid=UID, gid=GID, root=root)) as daemon:
        yield daemon


def write(home: Path, text: str) -> None:
    path = home / ".forward"
    path.write_text(text)
    path.chmod(0o600)
    os.chown(path, UID, GID)


def send(daemon: Daemon, recipient: str) -> tuple[int, bytes]:
    """The reply to RCPT; the message is sent when it is accepted."""
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        client.mail("zoe@example.net")
        answer = client.rcpt(recipient)
        if answer[0] == 250:
            client.data(MESSAGE)
        return answer


def inbox(home: Path) -> list[str]:
    return [path.read_text() for path in (home / "Maildir/new").glob("*")]


def test_mail_goes_where_the_forward_says_as_its_user(daemon: Daemon, root: Path) -> None:
    ann, bob = root / "home/ann", root / "home/bob"
    write(ann, 'me, /home/ann/copy, "|cat > piped"\nbob\n')
    assert send(daemon, "ann@localhost")[0] == 250
    wait_for(lambda: not daemon.queue(), "an empty queue")
    assert [len(inbox(home)) for home in (ann, bob)] == [1, 1]
    assert "Subject: hello" in (ann / "copy").read_text()
    assert "Subject: hello" in (ann / "piped").read_text()
    assert {os.stat(ann / name).st_uid for name in ("copy", "piped", "Maildir")} == {UID}


def test_so_many_commands_of_a_forward_run_at_once_and_no_more(daemon: Daemon, root: Path) -> None:
    write(root / "home/ann", '"|cat >/dev/null; echo 1 >>ran; sleep 0.2; echo -1 >>ran"\n')
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        for _ in range(20):
            client.sendmail("zoe@example.net", "ann@localhost", MESSAGE)
    wait_for(lambda: not daemon.queue(), "an empty queue")
    steps = [int(step) for step in (root / "home/ann/ran").read_text().split()]
    assert len(steps) == 40
    assert max(accumulate(steps)) <= 7


def test_mail_is_held_back_while_the_home_is_sticky_and_refused_when_others_can_write(
    daemon: Daemon, root: Path
) -> None:
    ann, bob = root / "home/ann", root / "home/bob"
    ann.chmod(0o1700)
    assert send(daemon, "ann@localhost")[0] == 451
    assert send(daemon, "team@localhost")[0] == 451
    write(bob, "ann\n")
    (bob / ".forward").chmod(0o666)
    assert send(daemon, "bob@localhost") == (550, b"5.2.4 Mailing list expansion problem: <bob@localhost>")
    daemon.wait_log("the .forward of bob: others may write to it")
    assert stat.S_IMODE((bob / ".forward").stat().st_mode) == 0o666


def test_an_explanation_shows_what_the_forward_does(daemon: Daemon, root: Path) -> None:
    write(root / "home/ann", "bob\n")
    explained = json.loads(daemon.smtpctl("explain", "--json", "ann@localhost"))
    assert [each["ends_at"] for each in explained["envelopes"]] == ["bob"]
    offline = json.loads(
        daemon.smtpctl(
            "explain", "--json", "--config", str(daemon.folder / "smtpd.conf"), "-D", "port=25", "ann@localhost"
        )
    )
    assert [each["ends_at"] for each in offline["envelopes"]] == ["bob"]
