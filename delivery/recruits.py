"""Where agents come from: root's side of the nursery, which has them forked and is started when there is none.

Guarantees: safe from every thread. A nursery that has died is replaced by the next order; agents outlive it.

Failure: `OSError` when there is no agent to be had.
"""

from __future__ import annotations

import enum
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from delivery import mbox
from delivery.identity import Identity
from delivery.wire import Hangup, Wire

#: Isolated: no variable of ours and nothing in the present folder changes what it imports.
COMMAND: Final = (sys.executable, "-I", "-m", "delivery.nursery")
#: Seconds that the nursery may take to fork, its own start included.
PATIENCE: Final = 60.0
#: Seconds that it has to end when the daemon does.
FAREWELL: Final = 5.0


class Duty(enum.Enum):
    """What an agent does for whoever has its socket, and nothing beyond."""

    #: Look at the .forward of its user.
    LOOK = "look"
    #: That, and make deposits.
    DELIVER = "deliver"


class Recruits(Protocol):
    """Who has agents started. Safe from every thread; raises `OSError`."""

    def recruit(self, who: Identity, duty: Duty, opens: bool = False) -> Recruit:
        """An agent for that user, who can open sealed bodies if it ``opens``. Blocks for a fork."""

    def kill(self, recruit: Recruit) -> None:
        """End it at once; called in the loop."""

    def prepare(self, who: Identity, paths: Sequence[str]) -> Identity:
        """Make the mailboxes of ``who`` that are missing in the mail directory; the identity that can lock them."""

    def close(self) -> None:
        """Nobody is recruited any more."""


@dataclass(frozen=True, slots=True)
class Recruit:
    """A new agent: its process, a descriptor that becomes readable at its end, and our end of the talk with it."""

    pid: int
    pidfd: int
    wire: Wire
    #: Whether it can open sealed bodies.
    opens: bool
    duty: Duty
    #: Who can end it.
    hirer: Recruits


class Recruiter:
    """See the module; `Recruits` for a process of root's. ``mail_dir`` holds the mailboxes of the system's users."""

    def __init__(self, mail_dir: str, command: Sequence[str] = COMMAND) -> None:
        self._mail_dir = mail_dir
        self._command = command
        self._lock = threading.Lock()
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: Wire | None = None

    def recruit(self, who: Identity, duty: Duty, opens: bool = False) -> Recruit:
        """See `Recruits`. The first time it blocks for the start of the nursery."""
        near, far = socket.socketpair()
        try:
            with far:
                pid, pidfd = self.fork(who, duty, far.fileno(), opens=opens)
        except BaseException:
            near.close()
            raise
        return Recruit(pid, pidfd, Wire(near), opens, duty, self)

    def fork(
        self, who: Identity, duty: Duty, end: int, *, opens: bool, is_for_stranger: bool = False
    ) -> tuple[int, int]:
        """An agent at the other end of ``end``, which stays the caller's: its process id and a descriptor for it.

        What it does as root is bounded when it ``is_for_stranger``, for a process that is not root itself.
        """
        order = {
            "name": who.name, "uid": who.uid, "gid": who.gid, "groups": who.groups, "home": who.home,
            "duty": duty.value, "mail_dir": self._mail_dir if is_for_stranger else "", "opens": opens,
        }  # fmt: skip
        with self._lock:
            if self._control is not None:
                try:
                    return _order(self._control, order, end)
                except (Hangup, TimeoutError):
                    self._end()
            self._control = self._start()
            try:
                return _order(self._control, order, end)
            except (Hangup, TimeoutError) as error:
                self._end()
                raise OSError(None, "the nursery ended at once") from error

    def kill(self, recruit: Recruit) -> None:
        """See `Recruits`."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(recruit.pidfd, signal.SIGKILL)

    def prepare(self, who: Identity, paths: Sequence[str]) -> Identity:
        """See `Recruits`.

        Where the directory belongs to a group that may write (Debian's ``mail``), only its members can make a dot-lock: the
        agent of a mailbox becomes one, no other agent does.
        """
        for path in paths:
            if os.path.dirname(path) != self._mail_dir:
                continue
            mbox.make_directory(self._mail_dir)
            mbox.make(path, who.uid, who.gid)
            if gid := shared_group(self._mail_dir):
                who = who.with_group(gid)
        return who

    def close(self) -> None:
        """End the nursery; its agents go on."""
        with self._lock:
            self._end()

    def _start(self) -> Wire:
        near, far = socket.socketpair()
        near.settimeout(PATIENCE)
        with far:
            try:
                self._nursery = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [*self._command, str(far.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[far.fileno()],
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError:
                near.close()
                raise
        return Wire(near)

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            try:
                self._nursery.wait(FAREWELL)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
            self._nursery = None


def shared_group(mail_dir: str) -> int | None:
    """The group that may write to the mail directory, if it is not root's; raises `OSError`."""
    found = os.stat(mail_dir)
    return found.st_gid if found.st_mode & stat.S_IWGRP and found.st_gid else None


def _order(control: Wire, order: object, end: int) -> tuple[int, int]:
    control.send_json(order, end)
    answer = control.receive_json()
    if "pid" not in answer:
        raise OSError(None, str(answer.get("trouble")))
    return answer["pid"], control.take_descriptor()
