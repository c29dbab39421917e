"""An agent that is killed by SIGKILL when it reaches an instant for the n-th time: ``dying_agent.py POINT N ...``.

With the instant ``trouble`` it meets an exception that nobody foresaw instead, at its first deposit.
"""

from __future__ import annotations

import os
import signal
import sys

from delivery.agent import main
from spool.files import SystemOps


class DyingOps(SystemOps):
    def __init__(self, point: str, number: int) -> None:
        self._point = point
        self._left = number

    def reached(self, point: str) -> None:
        if self._point == "trouble":
            raise ZeroDivisionError("nobody foresaw this")
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[3:], DyingOps(sys.argv[1], int(sys.argv[2]))))
