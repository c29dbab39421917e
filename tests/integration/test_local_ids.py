"""A command that is run again for the same message knows it by its environment."""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, wait_for

pytestmark = pytest.mark.reliability("4 local once")

#: Nothing is delivered by a command as root.
USER = "games" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "run" mda "/bin/sh SCRIPT" virtual { "ann" = USER, "bob" = USER }
match from any for any action "run"
"""
#: Keeps each message once, whatever becomes of the first run for it.
SCRIPT = """\
cd FOLDER || exit 75
echo "$MESSAGE_ID $ENVELOPE_ID $ORIGINAL_RECIPIENT" >>runs
cat >"incoming.$$"
if mkdir "seen.$ENVELOPE_ID" 2>/dev/null; then
    mv "incoming.$$" "kept.$ENVELOPE_ID"
    FIRST
fi
rm -f "incoming.$$"
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that another user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="mailspool-ids-"))
    folder.chmod(0o755)
    (folder / "box").mkdir()
    (folder / "box").chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def daemon_of(root: Path, first: str) -> Daemon:
    script = root / "script"
    script.write_text(SCRIPT.replace("FOLDER", str(root / "box")).replace("FIRST", first))
    return Daemon(root, CONFIGURATION.replace("SCRIPT", str(script)).replace("USER", USER))


def send(daemon: Daemon) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("eve@example.org", ["ann@example.net", "bob@example.net"], "Subject: x\r\n\r\nx\r\n")


def runs(root: Path) -> list[str]:
    path = root / "box/runs"
    return path.read_text().splitlines() if path.exists() else []


def must_have_each_once(root: Path) -> None:
    assert len(list((root / "box").glob("kept.*"))) == 2
    first, again = runs(root)[:2], runs(root)[2:]
    assert sorted(first) == sorted(again)
    # One message, two copies of it.
    assert len({line.split()[0] for line in first}) == 1
    assert {line.split()[1].partition(".")[2] for line in first} == {"1", "2"}
    assert {line.split()[2] for line in first} == {"ann@example.net", "bob@example.net"}


def test_a_command_that_failed_after_its_work_knows_the_message_when_it_comes_again(root: Path) -> None:
    with daemon_of(root, "exit 75") as daemon:
        send(daemon)
        wait_for(lambda: len(runs(root)) == 2 and all(one["error"] for one in daemon.queue()), "two failures")
        daemon.smtpctl("schedule", "all")
        daemon.wait_queue(0)
    must_have_each_once(root)


def test_a_command_that_died_with_the_daemon_knows_the_message_at_the_next_start(root: Path) -> None:
    daemon = daemon_of(root, "touch done.$ENVELOPE_ID; exec sleep 60")
    daemon.start()
    send(daemon)
    wait_for(lambda: len(list((root / "box").glob("done.*"))) == 2, "two commands at work")
    daemon.kill()
    with daemon:
        daemon.wait_queue(0)
    must_have_each_once(root)
