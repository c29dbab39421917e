"""Several ingress and several delivery processes around the one queue."""

from __future__ import annotations

import os
import pwd
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.separated.accounts import USERS, Role
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder
from tests.tools.roles import processes_of

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
smtp processes 2
mta processes 2
listen on socket
listen on 127.0.0.1 port $port
action "inbox" mbox
match from any for any action "inbox"
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """For tests that leave it as it was."""
    with public_folder() as root, Daemon(root, CONFIGURATION, one_process=False) as daemon:
        yield daemon


def send(daemon: Daemon, text: str) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
        client.sendmail("ann@example.org", [f"{USER}@example.org"], f"Subject: x\r\n\r\n{text}\r\n")


def mailbox(daemon: Daemon) -> Path:
    return daemon.root / "var/mail" / USER


def wait_arrived(daemon: Daemon, text: str) -> None:
    wait_for(lambda: mailbox(daemon).exists() and text in mailbox(daemon).read_text(), f"{text!r}:\n{daemon.log}")


@pytest.mark.parametrize("role", [Role.INGRESS, Role.DELIVERY])
def test_there_are_as_many_as_the_configuration_says(shared: Daemon, role: Role) -> None:
    assert len(processes_of(shared, role)) == 2


def test_the_walls_of_each_are_shown(shared: Daemon) -> None:
    shown = shared.smtpctl("show", "status")
    assert all(f"{name}:" in shown or f"{name} " in shown for name in ("ingress 2", "delivery 2")), shown


def test_mail_through_either_arrives_once(shared: Daemon) -> None:
    # They wait for connections side by side; so many do not all reach the same one.
    for number in range(30):
        send(shared, f"message {number} of many")
    wait_arrived(shared, "message 29 of many")
    wait_for(lambda: mailbox(shared).read_text().count("of many") == 30, "all of them, once")


def test_the_drop_is_read_once(shared: Daemon) -> None:
    shared.smtpctl("pause", "smtp")
    shared.sendmail("-i", f"{USER}@example.org", message="Subject: x\n\nfrom the drop\n")
    shared.smtpctl("resume", "smtp")
    wait_arrived(shared, "from the drop")
    assert "known-drop" not in shared.log


def test_a_pause_holds_for_both(shared: Daemon) -> None:
    shared.smtpctl("pause", "smtp")
    try:
        for _ in range(10):
            with pytest.raises(smtplib.SMTPConnectError, match="421"):
                smtplib.SMTP("127.0.0.1", shared.port, timeout=30)
    finally:
        shared.smtpctl("resume", "smtp")


def test_a_reload_with_another_number_is_refused_and_says_what_to_do() -> None:
    with public_folder() as root:
        daemon = Daemon(root, CONFIGURATION, one_process=False)
        daemon.start()
        daemon.configure(CONFIGURATION.replace("smtp processes 2", "smtp processes 3"))
        daemon.reload()
        assert daemon.stop() == 0
        assert "smtp processes 3: the daemon was started with 2: restart smtpd" in daemon.log


@pytest.mark.parametrize("role", [Role.INGRESS, Role.DELIVERY])
def test_when_one_dies_the_other_goes_on_and_the_seat_is_taken_again(role: Role) -> None:
    with public_folder() as root:
        daemon = Daemon(root, CONFIGURATION, one_process=False)
        daemon.start()
        before = processes_of(daemon, role)
        os.kill(before[1], signal.SIGKILL)
        wait_for(lambda: len(set(processes_of(daemon, role)) - set(before)) == 1, f"another {role.value}\n{daemon.log}")
        for number in range(10):
            send(daemon, f"afterwards {number}")
        for number in range(10):
            wait_arrived(daemon, f"afterwards {number}")
        assert before[0] in processes_of(daemon, role)
        assert daemon.stop() == 0


def test_one_process_for_all_refuses_to_be_several(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    assert daemon.launch().wait(30) == 1
    assert "remove these lines, or start smtpd as root without --one-process" in daemon.log
