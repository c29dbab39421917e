"""The daemon's side of the nursery: has agents forked, and starts the nursery when there is none.

Guarantees: safe from every thread. A nursery that has died is replaced by the next order; agents outlive it.

Failure: `OSError` when there is no agent to be had.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from delivery.identity import Identity
from delivery.wire import Hangup, Wire

#: Isolated: no variable of ours and nothing in the present folder changes what it imports.
COMMAND: Final = (sys.executable, "-I", "-m", "delivery.nursery")
#: Seconds that the nursery may take to fork, its own start included.
PATIENCE: Final = 60.0
#: Seconds that it has to end when the daemon does.
FAREWELL: Final = 5.0


@dataclass(frozen=True, slots=True)
class Recruit:
    """A new agent: its process, a descriptor that becomes readable at its end, and our end of the talk with it."""

    pid: int
    pidfd: int
    wire: Wire
    #: Whether it can open sealed bodies.
    opens: bool


class Recruiter:
    """See the module."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: Wire | None = None

    def recruit(self, who: Identity, opens: bool = False) -> Recruit:
        """An agent for that user, who can open sealed bodies if it ``opens``.

        Blocks for a fork; the first time for the start of the nursery.
        """
        with self._lock:
            if self._control is not None:
                try:
                    return _order(self._control, who, opens)
                except (Hangup, TimeoutError):
                    self._end()
            self._control = self._start()
            try:
                return _order(self._control, who, opens)
            except (Hangup, TimeoutError) as error:
                self._end()
                raise OSError(None, "the nursery ended at once") from error

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


def _order(control: Wire, who: Identity, opens: bool) -> Recruit:
    near, far = socket.socketpair()
    try:
        with far:
            order = {"name": who.name, "uid": who.uid, "gid": who.gid, "groups": who.groups, "opens": opens}
            control.send_json(order, far.fileno())
        answer = control.receive_json()
        if "pid" not in answer:
            raise OSError(None, str(answer.get("trouble")))
        return Recruit(answer["pid"], control.take_descriptor(), Wire(near), opens)
    except BaseException:
        near.close()
        raise
