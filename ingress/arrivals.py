"""How fast one client opens connections: a bucket of tokens for each address that is not full.

Guarantees: at most `Limits.arrivals_kept` addresses are remembered, and an arrival costs the same whatever their number, but
for one sweep in as many arrivals. Whoever is forgotten begins afresh.

Failure: none.
"""

from __future__ import annotations

from ingress.limits import Limits


class Arrivals:
    """Asked once for each connection of an address that is not exempt."""

    def __init__(self, limits: Limits) -> None:
        self._most = float(limits.arrivals_at_once)
        self._rate = limits.arrivals_per_second
        self._kept = limits.arrivals_kept
        #: How many more may come at once, and when that was so.
        self._left: dict[str, tuple[float, float]] = {}

    def admit(self, customer: str, now: float) -> bool:
        """Whether another connection of ``customer`` is welcome at ``now`` (seconds); one that is not costs no token."""
        left = self._left_of(customer, now)
        if left < 1:
            return False
        if customer not in self._left and len(self._left) >= self._kept:
            self._sweep(now)
        self._left[customer] = (left - 1, now)
        return True

    def __len__(self) -> int:
        return len(self._left)

    def _left_of(self, customer: str, now: float) -> float:
        left, then = self._left.get(customer, (self._most, now))
        return min(self._most, left + (now - then) * self._rate)

    def _sweep(self, now: float) -> None:
        """Forget who has been quiet for so long that nothing is known of him; all, when that makes too little room."""
        self._left = {each: entry for each, entry in self._left.items() if self._left_of(each, now) < self._most}
        if len(self._left) > self._kept // 2:
            self._left.clear()
