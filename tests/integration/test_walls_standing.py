"""The walls of a whole daemon: which processes have which, and what a configuration needs behind them."""

from __future__ import annotations

import os
import pwd
import smtplib
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.separated.accounts import USERS, Role
from control.walls.landlock import landlock_version
from control.walls.privileges import OF_CRADLE, OF_SUPERVISOR, bounding_set
from control.walls.seccomp import has_seccomp
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others"),
    pytest.mark.skipif(
        not all(user in {entry.pw_name for entry in pwd.getpwall()} for user in USERS.values()),
        reason="the daemon's users are not on this machine",
    ),
    pytest.mark.skipif(landlock_version() < 6 or not has_seccomp(), reason="the kernel lacks some walls"),
]

USER = "games"
CONFIGURATION = """\
table aliases sqlite:{folder}/aliases.conf
listen on socket
listen on 127.0.0.1 port $port
action "inbox" mbox alias <aliases>
match from any for any action "inbox"
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with public_folder() as root:
        configuration = CONFIGURATION.format(folder=aliases_in(root / "srv" / "mail", root))
        with Daemon(root, configuration, one_process=False) as daemon:
            yield daemon


def aliases_in(folder: Path, root: Path) -> str:
    """A database with one alias there; the folder as the configuration names it."""
    folder.mkdir(parents=True)
    named = f"/{folder.relative_to(root)}"
    text = f"dbpath {named}/aliases.sqlite\nquery_alias SELECT value FROM alias WHERE name = ?\n"
    (folder / "aliases.conf").write_text(text)
    with sqlite3.connect(folder / "aliases.sqlite") as database:
        database.execute("CREATE TABLE alias (name TEXT, value TEXT)")
        database.execute("INSERT INTO alias VALUES ('somebody', ?)", (USER,))
    database.close()
    for path in (folder.parent, folder, folder / "aliases.sqlite"):
        path.chmod(0o755)
    return named


def family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from family(int(child))


def processes(daemon: Daemon) -> dict[str, list[dict[str, str]]]:
    """The status of each process that is not root's, by its user."""
    assert daemon.process is not None
    users = {pwd.getpwnam(user).pw_uid: user for user in USERS.values()}
    found: dict[str, list[dict[str, str]]] = {user: [] for user in users.values()}
    for pid in family(daemon.process.pid):
        uid = os.stat(f"/proc/{pid}").st_uid
        if uid in users:
            found[users[uid]].append(status_of(pid))
    return found


def program_of(daemon: Daemon, module: str) -> dict[str, str]:
    """The status of root's process that was started as this module."""
    assert daemon.process is not None
    return next(
        status
        for pid in family(daemon.process.pid)
        if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        and (status := status_of(pid))["Uid"].split()[1] == "0"
    )


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_every_role_of_a_daemon_is_walled_in(daemon: Daemon) -> None:
    found = processes(daemon)
    assert sorted(user for user, statuses in found.items() for _ in statuses) == sorted(USERS.values())
    for user, statuses in found.items():
        for status in statuses:
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), user
            assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}, user
            assert status["Groups"].split() == [], user
    for role in Role:
        assert f"{role.value}: no privileges, Landlock {landlock_version()}, " in daemon.log


def test_the_supervisor_keeps_of_its_rights_only_those_that_it_needs(daemon: Daemon) -> None:
    assert daemon.process is not None
    status = status_of(daemon.process.pid)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == sum(1 << one for one in OF_SUPERVISOR)


def test_the_process_that_forks_the_roles_keeps_less(daemon: Daemon) -> None:
    status = program_of(daemon, "control.separated.cradle")
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == sum(1 << one for one in OF_CRADLE)


def test_the_setuid_programs_of_users_get_what_they_expect(daemon: Daemon) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("a@example.org", ["somebody@box.example.net"], b"Subject: agent\r\n\r\nx\r\n")
    mailbox = daemon.root / "var/mail" / USER
    wait_for(lambda: mailbox.exists() and b"Subject: agent" in mailbox.read_bytes(), "the mail")
    status = program_of(daemon, "delivery.nursery")
    assert int(status["CapBnd"], 16) == sum(1 << one for one in bounding_set())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("0", "0")


def test_the_status_shows_which_walls_stand(daemon: Daemon) -> None:
    status = daemon.smtpctl("show", "status")
    for role in Role:
        assert f"\n{role.value}: no privileges, Landlock {landlock_version()}, " in status


def test_nobody_but_root_looks_into_a_process_of_the_daemon(daemon: Daemon) -> None:
    for user, statuses in processes(daemon).items():
        for status in statuses:
            done = subprocess.run(
                ["/bin/ls", f"/proc/{status['Pid']}/fd"],
                user=user, group=user, extra_groups=[], check=False, capture_output=True,
            )  # fmt: skip
            assert b"Permission denied" in done.stderr, user


def test_mail_goes_through_the_walls_by_a_database_in_a_folder_of_its_own(daemon: Daemon) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("a@example.org", ["somebody@box.example.net"], b"Subject: through\r\n\r\nwalls\r\n")
    mailbox = daemon.root / "var/mail" / USER
    wait_for(lambda: mailbox.exists() and b"Subject: through" in mailbox.read_bytes(), "the mail")


def test_a_folder_that_no_table_named_before_needs_a_restart() -> None:
    with public_folder() as root:
        daemon = Daemon(root, CONFIGURATION.format(folder=aliases_in(root / "srv" / "mail", root)), one_process=False)
        daemon.start()
        daemon.configure(CONFIGURATION.format(folder=aliases_in(root / "home" / "other", root)))
        daemon.reload()
        assert "cannot read the folder" in daemon.log
        assert "restart smtpd" in daemon.log
        daemon.configure(daemon.configuration)
        daemon.reload()
        assert daemon.log.rstrip().endswith("configuration reloaded")
        assert daemon.stop() == 0
