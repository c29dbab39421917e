from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from delivery.locks import STALE, WATCHED, Busy, MailboxLock
from delivery.mbox import PATIENCE
from tests.tools.deposits import NotingDesk

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
TAKER = """
import fcntl, sys
file = open(sys.argv[1], "r+")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(1)
"""


@pytest.fixture
def desk() -> Iterator[NotingDesk]:
    desk = NotingDesk()
    yield desk
    desk.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "bob").touch()
    return tmp_path / "bob"


@pytest.fixture
def descriptor(inbox: Path) -> Iterator[int]:
    descriptor = os.open(inbox, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def dot_lock(inbox: Path) -> Path:
    return inbox.with_name("bob.lock")


def a_dead_process() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def lock(descriptor: int, inbox: Path, desk: NotingDesk, patience: float = 0.2) -> MailboxLock:
    return MailboxLock(descriptor, str(inbox), desk, patience)


def test_another_program_cannot_take_the_kernel_lock_that_we_hold(
    descriptor: int, inbox: Path, desk: NotingDesk
) -> None:
    take = [sys.executable, "-c", TAKER, str(inbox)]
    with lock(descriptor, inbox, desk):
        assert subprocess.run(take, check=False).returncode == 1
    assert subprocess.run(take, check=False).returncode == 0


def test_a_kernel_lock_of_another_program_is_waited_for_and_then_given_up(
    descriptor: int, inbox: Path, desk: NotingDesk
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(inbox)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(Busy), lock(descriptor, inbox, desk):
            pass
        assert not dot_lock(inbox).exists()
        holder.communicate("")
    with lock(descriptor, inbox, desk):
        assert dot_lock(inbox).exists()


def test_a_dot_lock_of_a_living_program_is_waited_for_and_then_given_up(
    descriptor: int, inbox: Path, desk: NotingDesk
) -> None:
    dot_lock(inbox).write_text(f"{os.getppid()}\n")
    with pytest.raises(Busy), lock(descriptor, inbox, desk):
        pass
    assert dot_lock(inbox).exists()
    assert subprocess.run([sys.executable, "-c", TAKER, str(inbox)], check=False).returncode == 0


def test_a_lock_that_is_given_back_meanwhile_is_taken(descriptor: int, inbox: Path, desk: NotingDesk) -> None:
    dot_lock(inbox).write_text("0\n")
    threading.Timer(0.2, dot_lock(inbox).unlink).start()
    with lock(descriptor, inbox, desk, patience=10):
        assert dot_lock(inbox).read_text() == f"{os.getpid()}\n"
    assert not dot_lock(inbox).exists()


def test_a_dot_lock_of_a_dead_process_is_broken(descriptor: int, inbox: Path, desk: NotingDesk) -> None:
    dot_lock(inbox).write_text(f"{a_dead_process()}\n")
    with lock(descriptor, inbox, desk):
        assert dot_lock(inbox).read_text() == f"{os.getpid()}\n"


class HastyDesk(NotingDesk):
    """Waits in no time, and does something meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def wait(self, seconds: float) -> None:
        self.waited += seconds
        self._meanwhile()


@pytest.fixture
def hasty() -> Iterator[HastyDesk]:
    desk = HastyDesk()
    yield desk
    desk.close()


def leave_lock(inbox: Path, age: float) -> None:
    dot_lock(inbox).write_text("0")
    then = time.time() - age
    os.utime(dot_lock(inbox), (then, then))


@pytest.mark.reliability("3 time")
@pytest.mark.parametrize("age", [STALE + 10, 366 * 86400, -366 * 86400], ids=["old", "clock set on", "clock set back"])
def test_a_dot_lock_that_nobody_refreshes_is_broken_once_it_was_watched(
    descriptor: int, inbox: Path, hasty: HastyDesk, age: float
) -> None:
    leave_lock(inbox, age)
    with lock(descriptor, inbox, hasty, PATIENCE):
        assert dot_lock(inbox).read_text() == f"{os.getpid()}\n"
    assert WATCHED <= hasty.waited < PATIENCE


@pytest.mark.reliability("3 time")
def test_a_dot_lock_that_only_seems_old_because_the_clock_jumped_is_respected(descriptor: int, inbox: Path) -> None:
    def refresh() -> None:
        # Another delivery of that program, each under a lock of its own.
        dot_lock(inbox).unlink()
        leave_lock(inbox, 3600)

    desk = HastyDesk(refresh)
    leave_lock(inbox, 3600)
    with pytest.raises(Busy), lock(descriptor, inbox, desk, PATIENCE):
        pass
    desk.close()


def test_two_threads_of_one_process_exclude_each_other(descriptor: int, inbox: Path, desk: NotingDesk) -> None:
    other = os.open(inbox, os.O_RDWR)
    with lock(descriptor, inbox, desk):
        dot_lock(inbox).unlink()
        with pytest.raises(Busy), lock(other, inbox, desk):
            pass
    os.close(other)


def test_closing_another_descriptor_of_the_mailbox_keeps_the_lock(
    descriptor: int, inbox: Path, desk: NotingDesk
) -> None:
    with lock(descriptor, inbox, desk):
        os.close(os.open(inbox, os.O_RDWR))
        assert subprocess.run([sys.executable, "-c", TAKER, str(inbox)], check=False).returncode == 1
