"""``smtpctl backup``, as an operator types it, and what a restored copy does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, wait_for

pytestmark = pytest.mark.reliability("9 moving house")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "in" maildir "/Maildir"
match for local action "in"
"""
LARGE = "Subject: large\n\n" + "a long line of a large message\n" * 5000


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A small and a large message wait: deliveries are paused."""
    with Daemon(tmp_path / "old", CONFIGURATION, arguments=("-d", "-v", "-P", "mda")) as daemon:
        daemon.sendmail("-f", "root", "root", message="Subject: small\n\nx\n")
        daemon.sendmail("-f", "root", "root", message=LARGE)
        yield daemon


def restored(copy: Path, root: Path) -> Daemon:
    """A house that begins with the copy."""
    (root / "var/spool").mkdir(parents=True)
    copy.rename(root / "var/spool/smtpd")
    return Daemon(root, CONFIGURATION)


def delivered(daemon: Daemon, count: int) -> list[str]:
    # What the operator had paused is paused in the copy.
    daemon.smtpctl("resume", "mda")
    new = daemon.root / "Maildir/new"
    wait_for(lambda: new.exists() and len(list(new.iterdir())) == count, "all of them")
    return sorted(path.read_text() for path in new.iterdir())


def test_a_copy_made_while_it_runs_says_what_it_holds_and_delivers_it(daemon: Daemon, tmp_path: Path) -> None:
    said = daemon.smtpctl("backup", str(tmp_path / "copy"))
    assert said.startswith(f"{tmp_path}/copy: 2 messages, 2 envelopes, ")
    assert said.endswith(" seconds\n")
    with restored(tmp_path / "copy", tmp_path / "new") as new:
        small, large = sorted(delivered(new, 2), key=len)
    assert "Subject: small" in small
    assert large.endswith("a long line of a large message\n" * 5000)
    assert len(daemon.queue()) == 2


def test_a_stopped_spool_can_be_copied(daemon: Daemon, tmp_path: Path) -> None:
    daemon.stop()
    daemon.sendmail("-f", "root", "root", message="Subject: dropped\n\nx\n")
    said = json.loads(daemon.smtpctl("backup", str(tmp_path / "copy"), "--json"))
    assert (said["messages"], said["envelopes"], said["drops"]) == (2, 2, 1)
    with restored(tmp_path / "copy", tmp_path / "new") as new:
        assert sum("Subject: dropped" in text for text in delivered(new, 3)) == 1
    daemon.start()


def test_a_name_that_is_taken_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    done = daemon.run("smtpctl", "backup", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"smtpctl: {tmp_path} is there already: a backup goes into a new directory\n"


def test_a_path_counts_from_where_the_operator_stands(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.smtpctl("backup", "copy")
    assert (tmp_path / "copy/state.db").exists()


def test_damage_is_said_and_the_status_tells_it(daemon: Daemon, tmp_path: Path) -> None:
    (body,) = (path for path in (daemon.root / "var/spool/smtpd/msg").rglob("*") if path.is_file())
    body.write_bytes(b"")
    done = daemon.run("smtpctl", "backup", str(tmp_path / "copy"))
    assert done.returncode == 1
    assert "0 octets where " in done.stdout
    assert "see smtpctl verify" in done.stderr
    assert (tmp_path / "copy").exists()
