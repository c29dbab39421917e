"""A nursery whose agents are killed by SIGKILL when they reach an instant for the n-th time: ``POINT N DESCRIPTOR``.

With the instant ``trouble`` they meet an exception that nobody foresaw instead, at their first deposit.
"""

from __future__ import annotations

import os
import signal
import sys

from delivery.nursery import main
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
