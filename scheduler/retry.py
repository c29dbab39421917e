"""When to try again: envelopes by a quadratic timetable, failing routes by a growing pause.

An envelope is tried at arrival, then ``base`` times 1, 4, 9, 16 ... after it: mail for another server at 0, 400, 1600,
3600 s, mail for this machine at 0, 10, 40, 90 s. A route that fails is left alone for 15 s times 1, 4, 9 ..., whatever
waits behind it.

Guarantees: an answer is always after ``now``; no wait is longer than `MAX_WAIT`; what would be tried only after its
deadline is tried at its deadline, so that nothing ends without a try as late as it was promised.

RFC 5321 4.5.4.1 (retry at least every 30 minutes at first, give up after 4 to 5 days) asks for no particular timetable.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Final

from spool.message import Claimed

#: The base of mail for another server, in milliseconds.
RELAY_BASE: Final = 400_000
#: The base of mail for this machine, and of reports.
LOCAL_BASE: Final = 10_000
#: The longest wait: a quadratic one would be 13 hours at the end of 4 days, when nobody believes in a retry any more.
MAX_WAIT: Final = 6 * 3600 * 1000
#: The first pause of a failing route, and of one envelope that a crowded route turned away.
PROBE_BASE: Final = 15_000
#: The longest pause of a failing route: mail leaves within an hour of the other side's return.
MAX_PAUSE: Final = 3600 * 1000
#: How far a wait may be stretched or shortened, so that what failed together does not come back together.
JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Timetable:
    """The instants of the next tries; ``chance`` yields numbers from 0 to 1."""

    chance: Callable[[], float] = random.random

    def next_try(self, claimed: Claimed, base: int, now: int) -> int:
        """When an envelope that was deferred at ``now`` is due again (spool ms)."""
        envelope, arrived = claimed.envelope, claimed.message.arrived
        due = now + self._scatter(_wait(base, max(0, now - arrived), envelope.attempts + 1))
        return min(due, envelope.deadline) if envelope.deadline > now else due

    def after_pause(self, failures: int, now: int) -> int:
        """When a route that failed ``failures`` times in a row, just now again, is probed (spool ms)."""
        return now + self._scatter(min(PROBE_BASE * failures**2, MAX_PAUSE))

    def soon(self, now: int) -> int:
        """When to try again what one of several sessions with a working route could not do (spool ms)."""
        return now + self._scatter(PROBE_BASE)

    def _scatter(self, wait: int) -> int:
        return max(1, round(wait * (1 + JITTER * (2 * self.chance() - 1))))


def _wait(base: int, age: int, attempts: int) -> int:
    """Milliseconds until the next instant of the timetable.

    The instant follows from the age; the number of attempts moves it on by one at most, for a try that came a little early.
    So neither the probes of a dead route nor an operator's impatience push an envelope's next try far away.
    """
    natural = isqrt(age // base) + 1
    step = max(natural, min(attempts, natural + 1))
    if base * step**2 - age < base // 4:
        step += 1
    return min(base * step**2 - age, MAX_WAIT)
