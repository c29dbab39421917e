"""The supervisor's side of the cradle.

Imports little: `smtpd` starts with this, so that both read their code at the same time.

Failure: `OSError` when no process is to be had.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from delivery.wire import Hangup, Wire

if TYPE_CHECKING:
    from control.separated.accounts import Account, Role
    from control.separated.grounds import Grounds

#: Isolated: no variable of ours and nothing in the present folder changes what it imports.
COMMAND: Final = (sys.executable, "-I", "-m", "control.separated.cradle")
#: Seconds that it may take to fork, its own start included.
PATIENCE: Final = 60.0
#: Seconds that it has to end when the supervisor does.
FAREWELL: Final = 5.0


class Cradle:
    """Started with the first order, and anew when it has died; for one thread at a time."""

    def __init__(self, *, to_syslog: bool) -> None:
        self._to_syslog = to_syslog
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Wire | None = None

    def start(self) -> None:
        """Start it, without waiting for it."""
        near, far = socket.socketpair()
        near.settimeout(PATIENCE)
        with far:
            # What the children say goes where the supervisor's own log goes.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*COMMAND, str(far.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if self._to_syslog else None,
                pass_fds=[far.fileno()],
                env={},
                cwd="/",
            )
        self._control = Wire(near)

    def fork(self, role: Role, account: Account, grounds: Grounds, bond: socket.socket) -> tuple[int, int]:
        """A process with that role at the other end of the bond: its id and a descriptor that tells of its end."""
        if self._control is None:
            self.start()
        assert self._control is not None
        order = {
            "role": role.value, "name": account.name, "uid": account.uid, "gid": account.gid,
            "spool_dir": grounds.spool_dir, "databases": grounds.databases, "to_syslog": self._to_syslog,
        }  # fmt: skip
        try:
            self._control.send_json(order, bond.fileno())
            answer = self._control.receive_json()
        except (Hangup, TimeoutError) as error:
            self.close()
            raise OSError(None, "the process that forks the others has ended") from error
        if "pid" not in answer:
            raise OSError(None, str(answer.get("trouble")))
        return answer["pid"], self._control.take_descriptor()

    def close(self) -> None:
        """End it; its children go on."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(FAREWELL)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
