"""A nursery whose agents end at their n-th step, or have the daemon ended there: ``VICTIM N ADDRESS DESCRIPTOR``.

An agent is not allowed to signal root's daemon: somebody listens at the abstract socket ADDRESS and does it for him.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from delivery import agent
from delivery.local import make_deposits
from delivery.nursery import main
from spool.files import SystemOps
from tests.tools.stepped import Fate


def fate_of(victim: str, number: int, address: str) -> Fate:
    """What the agents of this nursery meet. One that outlives the daemon goes on at once, or after a while."""

    def end() -> None:
        if victim != "agent":
            with socket.socket(socket.AF_UNIX) as executioner:
                executioner.connect(f"\0{address}")
                executioner.recv(1)
        if victim in ("agent", "both"):
            os.kill(os.getpid(), signal.SIGKILL)

    return Fate("linger" if victim == "daemon, slowly" else "kill", number, end)


if __name__ == "__main__":
    fate = fate_of(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    fate.install()

    def counted(*arguments: object) -> object:
        fate.count_this_thread()
        return make_deposits(*arguments)  # type: ignore[arg-type]

    setattr(agent, "make_deposits", counted)  # noqa: B010 - it is the module's own import
    sys.exit(main(sys.argv[4:], SystemOps()))
