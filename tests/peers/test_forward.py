"""A user's .forward on a whole machine: what it names gets the mail, as the user, and what is wrong with it is told."""

from __future__ import annotations

import pytest

from tests.peers.machine import VENV, Machine, wait_for
from tests.peers.spooler import Spooler

CONFIGURATION = """
listen on localhost
action "local" maildir
action "away" relay host "smtp://127.0.0.1:2626"
match for local action "local"
match for any action "away"
"""
MESSAGE = "Subject: forwarded\n\nbody\n"


@pytest.fixture
def spooler(machine: Machine) -> Spooler:
    machine.add_user("roger")
    spooler = Spooler(machine)
    spooler.configure(CONFIGURATION)
    spooler.start()
    return spooler


def forward(machine: Machine, text: str, mode: int = 0o644) -> None:
    machine.write("/home/roger/.forward", text, mode)
    machine.run(["chown", "roger:", "/home/roger/.forward"])


def send(machine: Machine) -> str:
    """What ``sendmail`` says; nothing when it could hand the message in."""
    result = machine.run([str(VENV / "sendmail"), "-i", "roger"], stdin=MESSAGE, check=False)
    return result.stderr


def arrived(machine: Machine) -> int:
    new = machine.path("/home/roger/Maildir/new")
    return len(list(new.iterdir())) if new.is_dir() else 0


def test_mail_goes_to_the_user_to_a_program_and_away(machine: Machine, spooler: Spooler) -> None:
    forward(machine, '# everywhere\n\\roger, "|procmail -f - ./rules"\nbob@example.net\n')
    machine.write("/home/roger/rules", "SHELL=/bin/sh\n:0cw\n| id -un > ran\n:0\nfiled\n")
    machine.run(["chown", "roger:", "/home/roger/rules"])
    assert send(machine) == ""
    wait_for(lambda: arrived(machine) == 1, f"the user's copy\n{spooler.log()}")
    wait_for(machine.path("/home/roger/filed").exists, f"the program\n{spooler.log()}")
    assert machine.path("/home/roger/ran").read_text() == "roger\n"
    (waiting,) = spooler.wait_queue(1)
    assert (waiting["recipient"], waiting["destination"]) == ("roger@box.example.net", "bob@example.net")


def test_a_new_forward_counts_within_seconds_and_without_it_mail_stays(machine: Machine, spooler: Spooler) -> None:
    assert send(machine) == ""
    wait_for(lambda: arrived(machine) == 1, f"the user's copy\n{spooler.log()}")
    forward(machine, "bob@example.net\n")
    wait_for(lambda: send(machine) == "" and bool(spooler.queue()), "the new file to count")


def test_a_file_that_is_not_trusted_refuses_mail_and_the_log_says_why(machine: Machine, spooler: Spooler) -> None:
    forward(machine, "bob@example.net\n", 0o666)
    assert "550 5.2.4" in send(machine)
    assert "others may write to it" in spooler.log()


def test_a_link_to_anothers_file_is_not_followed(machine: Machine, spooler: Spooler) -> None:
    machine.run(["ln", "-s", "/etc/shadow", "/home/roger/.forward"])
    assert "550 5.2.4" in send(machine)
    assert "it is a symbolic link" in spooler.log()
    assert "root:" not in spooler.log()
