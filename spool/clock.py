"""Spool time: the time that queued mail lives by.

Within one boot it is CLOCK_BOOTTIME (it counts on through suspend, and no clock setting moves it) plus an offset kept in
the database; across boots the wall clock's difference if that is positive, else nothing, and at most `MAX_GAP`. So an RTC of
1970 or of the next century expires nothing, and a jump of the wall clock moves no retry. Wall time is for people.

Guarantees: `SpoolClock.now` never goes back within a boot, nor across boots behind the last `TimeMark`, which is a minute
old at most, and the ``floor``, the last of the history. Spool time starts as the wall time of the day the spool was made, so
that its numbers can be read.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

#: Milliseconds that a machine which was off counts as, at most: a wall clock that is wrong by years after a boot must end no
#: mail and no history. Mail that waited through a longer time off is tried for as long as it would have been after a day.
MAX_GAP: Final = 24 * 3600 * 1000
#: Milliseconds that the history can go on after the last mark, generously: the spool keeps one every minute.
MAX_UNMARKED: Final = 10 * 60 * 1000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """The seam through which tests move time."""

    def boottime_ms(self) -> int:
        """Milliseconds since boot, suspend included."""

    def wall(self) -> float:
        """Seconds since 1970, as the machine believes."""

    def boot_id(self) -> str:
        """A name for this boot of the machine."""


class SystemClock:
    """The machine's own clocks."""

    def boottime_ms(self) -> int:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()

    def boot_id(self) -> str:
        """The kernel's random name for this boot."""
        return _BOOT_ID.read_text().strip()


@dataclass(frozen=True, slots=True)
class TimeMark:
    """A moment on all clocks at once, kept in the database so that time can go on from there."""

    boot_id: str
    boottime_ms: int
    wall: float
    spool_ms: int


class SpoolClock:
    """Spool time on top of a `Clock`, continued from the last `TimeMark` of an earlier process."""

    def __init__(self, clock: Clock, last: TimeMark | None, floor: int = 0) -> None:
        self.clock = clock
        self._boot_id = clock.boot_id()
        #: The end of another boot, when there was one.
        self._before = last if last is not None and last.boot_id != self._boot_id else None
        self._offset = self._resume(last, floor) - clock.boottime_ms()

    def _resume(self, last: TimeMark | None, floor: int) -> int:
        if last is None:
            return int(self.clock.wall() * 1000)
        if last.boot_id == self._boot_id:
            return last.spool_ms + max(0, self.clock.boottime_ms() - last.boottime_ms)
        gap = min(int((self.clock.wall() - last.wall) * 1000), MAX_GAP)
        recorded = min(floor, last.spool_ms + MAX_UNMARKED)
        return max(last.spool_ms + gap, last.spool_ms, recorded)

    @classmethod
    def ahead(cls, clock: Clock, offset: int) -> SpoolClock:
        """The spool time of another process of this boot, which is ``offset`` ahead of the time since boot."""
        boottime = clock.boottime_ms()
        return cls(clock, TimeMark(clock.boot_id(), boottime, clock.wall(), boottime + offset))

    @property
    def offset(self) -> int:
        """Milliseconds that spool time is ahead of the time since boot."""
        return self._offset

    def now(self) -> int:
        """Spool time in milliseconds."""
        return self.clock.boottime_ms() + self._offset

    def mark(self) -> TimeMark:
        """This moment, to be kept."""
        return TimeMark(self._boot_id, self.clock.boottime_ms(), self.clock.wall(), self.now())

    def wall_at(self, spool_ms: int) -> float:
        """The wall time (seconds since 1970) that people should read for a spool time.

        What happened before this boot is told by the wall clock of the boot before, whatever has become of it since.
        """
        if self._before is not None and spool_ms <= self._before.spool_ms:
            return self._before.wall + (spool_ms - self._before.spool_ms) / 1000
        return self.clock.wall() + (spool_ms - self.now()) / 1000
