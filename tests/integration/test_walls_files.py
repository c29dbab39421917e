"""Files that an operator names, beside a daemon whose processes reach none but the spool."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.separated.accounts import USERS
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others"),
    pytest.mark.skipif(
        not all(user in {entry.pw_name for entry in pwd.getpwall()} for user in USERS.values()),
        reason="the daemon's users are not on this machine",
    ),
]

USER = "games"
CONFIGURATION = """\
listen on socket
action "inbox" mbox
match from any for any action "inbox"
"""
LARGE = "a long line of a large message\n" * 5000


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with public_folder() as root, Daemon(root, CONFIGURATION, one_process=False) as daemon:
        daemon.smtpctl("pause", "mda")
        daemon.sendmail("-f", "root", USER, message="Subject: small\n\nx\n")
        daemon.sendmail("-f", "root", USER, message=f"Subject: large\n\n{LARGE}")
        daemon.wait_queue(2)
        yield daemon


def test_a_backup_goes_where_root_may_write_though_the_daemon_may_not(daemon: Daemon, tmp_path: Path) -> None:
    said = daemon.smtpctl("backup", str(tmp_path / "copy"))
    assert said.startswith(f"{tmp_path}/copy: 2 messages, 2 envelopes, ")
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    with public_folder() as root:
        (root / "var/spool").mkdir(parents=True)
        (tmp_path / "copy").rename(root / "var/spool/smtpd")
        with Daemon(root, CONFIGURATION, one_process=False) as restored:
            restored.smtpctl("resume", "mda")
            mailbox = restored.root / "var/mail" / USER
            wait_for(lambda: mailbox.exists() and mailbox.read_text().count("\nSubject: ") == 2, "both messages")
            assert LARGE in mailbox.read_text()
    assert len(daemon.queue()) == 2


def test_an_archive_is_taken_that_root_alone_can_read(daemon: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "mail.tar"
    daemon.smtpctl("export", str(archive))
    assert archive.stat().st_mode & 0o077 == 0
    with public_folder() as root, Daemon(root, CONFIGURATION, one_process=False) as other:
        other.smtpctl("pause", "mda")
        assert other.smtpctl("import", str(archive)).startswith("2 messages, 2 envelopes, ")
        assert len(other.queue()) == 2
        assert [path.name for path in (root / "var/spool/smtpd").iterdir() if "import" in path.name] == []


def test_an_archive_that_is_none_is_called_by_the_name_that_was_given(daemon: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "mail.tar"
    archive.write_text("no archive")
    done = daemon.run("smtpctl", "import", str(archive))
    assert done.returncode == 1
    assert done.stderr.startswith(f"smtpctl: {archive}: ")
    assert "smtpctl-import" not in done.stderr
    assert daemon.run("smtpctl", "import", f"{archive}.gone").stderr == (
        f"smtpctl: {archive}.gone: No such file or directory\n"
    )
