"""``smtpctl verify``, as an operator types it, with the daemon and without it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, wait_for

pytestmark = pytest.mark.reliability("10 verify")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "in" maildir "/Maildir"
match for local action "in"
"""
MESSAGE = "Subject: x\n\nwhole\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Two messages wait: deliveries are paused."""
    with Daemon(tmp_path, CONFIGURATION, arguments=("-d", "-v", "-P", "mda")) as daemon:
        for _ in range(2):
            daemon.sendmail("-f", "root", "root", message=MESSAGE)
        yield daemon


def damage(daemon: Daemon) -> None:
    """The first message's body is not what it was."""
    with closing(sqlite3.connect(daemon.root / "var/spool/smtpd/state.db", isolation_level=None)) as connection:
        connection.execute("UPDATE body SET content = zeroblob(length(content)) WHERE message = 1")


def test_a_whole_spool_is_said_to_be_whole(daemon: Daemon) -> None:
    done = daemon.run("smtpctl", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("2 envelopes, 1 lane: nothing is wrong\n")


def test_what_is_wrong_is_said_with_what_to_do(daemon: Daemon) -> None:
    damage(daemon)
    done = daemon.run("smtpctl", "verify")
    assert done.returncode == 1
    first, last = done.stdout.splitlines()
    assert first.endswith("is not what was accepted (smtpctl verify --repair sets it aside and tells its sender)")
    assert last.endswith(": 1 finding")


def test_after_a_repair_the_sender_is_told_and_the_rest_is_delivered(daemon: Daemon) -> None:
    damage(daemon)
    done = daemon.run("smtpctl", "verify", "--repair")
    assert "(set aside, its sender is told)" in done.stdout
    daemon.smtpctl("resume", "mda")
    new = daemon.root / "Maildir/new"
    wait_for(lambda: new.exists() and len(list(new.iterdir())) == 2, "the other message and the report")
    arrived = sorted(path.read_text() for path in new.iterdir())
    assert sum("whole" in text for text in arrived) == 1
    assert sum("The message was damaged on this server's disk" in text for text in arrived) == 1
    assert daemon.stop() == 0


def test_a_stopped_spool_can_be_verified_and_repaired(daemon: Daemon) -> None:
    damage(daemon)
    daemon.stop()
    assert daemon.run("smtpctl", "verify").returncode == 1
    assert "set aside" in daemon.run("smtpctl", "verify", "--repair").stdout
    done = daemon.run("smtpctl", "verify")
    assert (done.returncode, done.stdout.splitlines()[1].partition(";")[0]) == (0, "set aside: 1 envelope")
    daemon.start()


def test_programs_read_findings_as_json(daemon: Daemon) -> None:
    damage(daemon)
    rows = [json.loads(line) for line in daemon.run("smtpctl", "verify", "--json").stdout.splitlines()]
    assert (rows[0]["remedy"], rows[0]["repaired"], rows[-1]["envelopes"]) == ("set-aside", False, 2)


def test_the_option_is_for_this_command_alone(daemon: Daemon) -> None:
    done = daemon.run("smtpctl", "show", "queue", "--repair")
    assert (done.returncode, done.stderr.splitlines()[0]) == (64, "smtpctl: option --repair is not for this command")
