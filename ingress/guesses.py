"""Who guesses passwords: failed logins by address and by account, remembered for a while, so that guessing is slow.

Guessing is slowed and never ends in a lock: else anybody could shut out anybody by failing in their name. An account that is
guessed at from many addresses has its answers held back by some seconds, its owner's too; an address that has failed very
often is not listened to until that has faded.

Guarantees: an attempt counts from its beginning, so that many at once gain nothing; one that succeeds takes back its own
count and nobody else's. The tables are bounded: those that were touched longest ago are forgotten first.

Failure: none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from ingress.headers import is_loopback
from ingress.limits import Limits
from ingress.peer import customer

#: Octets of a login that tell it from others.
_MAX_LOGIN = 256


@dataclass(slots=True)
class _Score:
    failures: float
    when: float


class _Scores:
    """Failures by a key; each counts half after every half-life."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._scores: OrderedDict[str, _Score] = OrderedDict()

    def __len__(self) -> int:
        return len(self._scores)

    def of(self, key: str, limits: Limits) -> float:
        """The failures that still count."""
        score = self._scores.get(key)
        if score is None:
            return 0.0
        return float(score.failures * 0.5 ** ((self._now() - score.when) / limits.failures_fade))

    def add(self, key: str, number: float, limits: Limits) -> None:
        """Count some more, or take some back."""
        failures = max(0.0, self.of(key, limits) + number)
        self._scores[key] = _Score(failures, self._now())
        self._scores.move_to_end(key)
        while len(self._scores) > limits.failures_kept:
            self._scores.popitem(last=False)


class Guesses:
    """Of all listeners of one process."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        clock = now or anyio.current_time
        self._by_address = _Scores(clock)
        self._by_login = _Scores(clock)

    def __len__(self) -> int:
        return len(self._by_address) + len(self._by_login)

    def is_barred(self, address: str, limits: Limits) -> bool:
        """Whether nothing is taken from this address now."""
        return not is_loopback(address) and self._by_address.of(customer(address), limits) >= limits.address_failures

    def begin(self, login: str, address: str, limits: Limits) -> float:
        """An attempt: how many seconds it waits before it is looked at."""
        login, origin = _account(login), customer(address)
        worst = self._by_login.of(login, limits)
        self._by_login.add(login, 1.0, limits)
        # Behind loopback is a program of the operator's own, such as a webmail, with all of its users.
        if not is_loopback(address):
            worst = max(worst, self._by_address.of(origin, limits))
            self._by_address.add(origin, 1.0, limits)
        excess = max(0.0, worst - limits.login_slips)
        return limits.login_delay * min(excess, limits.login_delays)

    def take_back(self, login: str, address: str, limits: Limits) -> None:
        """That attempt was no guess."""
        self._by_login.add(_account(login), -1.0, limits)
        if not is_loopback(address):
            self._by_address.add(customer(address), -1.0, limits)


def _account(login: str) -> str:
    return login[:_MAX_LOGIN].lower()
