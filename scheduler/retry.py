"""When to try again: envelopes by the timetable of their action, failing routes by a growing pause.

By a timetable of squares an envelope is tried at arrival, then ``base`` times 1, 4, 9, 16 ... after it: mail for another
server at 0, 400, 1600, 3600 s, mail for this machine at 0, 10, 40, 90 s, unless ``retry`` of its action names another
base. Or ``retry`` names the waits after the first failure, the second, and so on.

A route that fails is left alone for 15 s times 1, 4, 9 ..., whatever waits behind it. Where ``retry`` is given, it is left
alone for as long as the timetable makes an envelope wait that fails each time: who says ``retry`` has the last word.

Guarantees: an answer is always after ``now``; no wait is longer than `MAX_WAIT`, or than what ``retry`` names; what would be
tried only after its deadline is tried at its deadline, so that nothing ends without a try as late as it was promised.

RFC 5321 4.5.4.1 (retry at least every 30 minutes at first, give up after 4 to 5 days) asks for no particular timetable.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Final

from policy.config import Retry, Squares, Waits
from spool.message import Claimed

#: The timetable of mail for another server, in milliseconds.
RELAY_RETRY: Final = Squares(400_000)
#: That of mail for this machine, and of reports.
LOCAL_RETRY: Final = Squares(10_000)
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

    def next_try(self, claimed: Claimed, retry: Retry, now: int) -> int:
        """When an envelope that was deferred at ``now`` is due again (spool ms)."""
        envelope, age = claimed.envelope, max(0, now - claimed.message.arrived)
        attempts = envelope.attempts + 1
        due = now + self._scatter(
            retry.after(attempts) if isinstance(retry, Waits) else _wait(retry.base, age, attempts)
        )
        return min(due, envelope.deadline) if envelope.deadline > now else due

    def after_pause(self, failures: int, retry: Retry | None, now: int) -> int:
        """When a route that failed ``failures`` times in a row, just now again, is probed (spool ms).

        ``retry`` is what its action says, None for nothing.
        """
        return now + self._scatter(_pause(failures, retry))

    def soon(self, now: int) -> int:
        """When to try again what one of several sessions with a working route could not do (spool ms)."""
        return now + self._scatter(PROBE_BASE)

    def _scatter(self, wait: int) -> int:
        return max(1, round(wait * (1 + JITTER * (2 * self.chance() - 1))))


def _pause(failures: int, retry: Retry | None) -> int:
    match retry:
        case None:
            return min(PROBE_BASE * failures**2, MAX_PAUSE)
        case Squares(base):
            # The distance of two squares, within an hour of the other side's return, unless the base is longer itself.
            return min(base * (2 * failures - 1), max(MAX_PAUSE, base))
        case Waits():
            return retry.after(failures)


def _wait(base: int, age: int, attempts: int) -> int:
    """Milliseconds until the next instant of the timetable.

    The instant follows from the age; the number of attempts moves it on by one at most, for a try that came a little early.
    So neither the probes of a dead route nor an operator's impatience push an envelope's next try far away.
    """
    natural = isqrt(age // base) + 1
    step = max(natural, min(attempts, natural + 1))
    if base * step**2 - age < base // 4:
        step += 1
    return min(base * step**2 - age, max(MAX_WAIT, base))
