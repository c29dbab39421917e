"""Commands and files of users and of aliases on a whole machine: who runs and writes them, and what is not written to."""

from __future__ import annotations

import pytest

from tests.peers.machine import VENV, Machine, wait_for
from tests.peers.spooler import Spooler

USERS = ("ann", "bob")
CONFIGURATION = r"""
listen on localhost
table aliases file:/etc/smtpd/aliases
mda wrapper marked "env MARK=%{user.username} %{mda}"
action "local" maildir junk alias <aliases>
action "wrapped" expand-only alias <aliases> wrapper marked
match for rcpt-to { "marked@box.example.net" } action "wrapped"
match for local action "local"
"""
ALIASES = """
list: |"cat >/var/pipes/list; id -un >>/var/pipes/list"
box: /var/pipes/box
link: /var/pipes/link
pipe: /var/pipes/fifo
marked: |"cat >/dev/null; echo $MARK >/var/pipes/mark"
"""


@pytest.fixture
def spooler(machine: Machine) -> Spooler:
    for user in USERS:
        machine.add_user(user)
    machine.run(["sh", "-c", "mkdir /var/pipes && cd /var/pipes && touch other && ln -s other link && mkfifo fifo"])
    machine.run(["chown", "-hR", "_smtpm:", "/var/pipes"])
    machine.run(["mkdir", "--mode=1777", "/var/meet"])
    spooler = Spooler(machine)
    spooler.configure(CONFIGURATION, {"aliases": ALIASES})
    spooler.start()
    return spooler


def send(machine: Machine, *recipients: str, header: str = "") -> None:
    machine.run([str(VENV / "sendmail"), "-i", *recipients], stdin=f"{header}Subject: hello\n\nbody\n")


def owner(machine: Machine, path: str) -> str:
    return machine.run(["stat", "-c", "%U", path]).stdout.strip()


def test_each_user_s_command_runs_as_that_user_side_by_side(machine: Machine, spooler: Spooler) -> None:
    for user in USERS:
        # Each waits for the other: one after the other they would not end.
        other = next(name for name in USERS if name != user)
        script = (
            f"touch /var/meet/up.{user}; while [ ! -e /var/meet/up.{other} ]; do sleep 0.1; done; id -un; id -Gn; pwd"
        )
        machine.write(f"/home/{user}/.forward", f'"|cat >/dev/null; ({script}) >said 2>&1"\n')
        machine.run(["chown", f"{user}:", f"/home/{user}/.forward"])
    send(machine, *USERS)
    wait_for(lambda: not spooler.queue(), f"both commands\n{spooler.log()}")
    for user in USERS:
        assert machine.path(f"/home/{user}/said").read_text() == f"{user}\n{user}\n/home/{user}\n"
        assert owner(machine, f"/home/{user}/said") == user


def test_what_aliases_name_is_run_and_written_by_a_user_of_its_own(machine: Machine, spooler: Spooler) -> None:
    send(machine, "list", "box")
    wait_for(lambda: not spooler.queue(), f"the command and the file\n{spooler.log()}")
    assert machine.path("/var/pipes/list").read_text().endswith("\nbody\n_smtpm\n")
    assert machine.path("/var/pipes/box").read_text().startswith("From root@box.example.net ")
    assert [owner(machine, f"/var/pipes/{name}") for name in ("list", "box")] == ["_smtpm"] * 2


@pytest.mark.parametrize("name", ["link", "pipe"])
def test_a_file_that_is_no_plain_one_is_not_written_to_and_the_history_says_why(
    machine: Machine, spooler: Spooler, name: str
) -> None:
    send(machine, name)
    wait_for(lambda: "is not a regular file" in spooler.log(), f"a deferral\n{spooler.log()}")
    assert len(spooler.queue()) == 1
    assert machine.path("/var/pipes/other").read_bytes() == b""


def test_a_wrapper_runs_around_a_command_that_an_alias_names(machine: Machine, spooler: Spooler) -> None:
    send(machine, "marked@box.example.net")
    wait_for(lambda: not spooler.queue(), f"the command\n{spooler.log()}")
    assert machine.path("/var/pipes/mark").read_text() == "_smtpm\n"


def test_spam_goes_to_the_folder_for_it_and_other_mail_does_not(machine: Machine, spooler: Spooler) -> None:
    send(machine, "ann", header="X-Spam-Flag: YES\n")
    send(machine, "ann")
    wait_for(lambda: not spooler.queue(), f"both messages\n{spooler.log()}")
    counts = [len(list(machine.path(f"/home/ann/Maildir/{folder}").iterdir())) for folder in (".Junk/new", "new")]
    assert counts == [1, 1]
