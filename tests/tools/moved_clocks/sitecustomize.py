"""Clocks that a test moves, for every Python program that starts with this folder in ``PYTHONPATH``.

The file that ``MAILSPOOL_CLOCKS`` names has two numbers: by how many seconds the wall clock, and the time since boot, differ
from the machine's. The monotonic clock, and so every timer, goes on as it is: a suspend moves the other two.
"""

from __future__ import annotations

import os
import time
from typing import Final

_FILE: Final = os.environ.get("MAILSPOOL_CLOCKS", "")
_real_time, _real_gettime = time.time, time.clock_gettime_ns


def _differences() -> tuple[float, float]:
    with open(_FILE, encoding="ascii") as file:
        wall, boot = file.read().split()
    return float(wall), float(boot)


def _time() -> float:
    return _real_time() + _differences()[0]


def _gettime(clock: int) -> int:
    moved = int(_differences()[1] * 1e9) if clock == time.CLOCK_BOOTTIME else 0
    return _real_gettime(clock) + moved


if _FILE:
    time.time, time.clock_gettime_ns = _time, _gettime
