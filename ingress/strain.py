"""Stress: what a server does when nearly all its connections are used, and that it stops doing so afterwards.

The limits become shorter for everybody, those who are there and those who come: a crowd that holds connections without mail
has to give them back, and whoever has a message is served as before.

Guarantees: stress begins and ends at different shares of the connections, and each is one line in the log.

Failure: none. Postfix calls the same "stress-adaptive behavior".
"""

from __future__ import annotations

import logging
from typing import Final

from ingress.limits import Limits

_log: Final = logging.getLogger(__name__)


class Strain:
    """Told how many connections there are; says which limits hold."""

    def __init__(self, limits: Limits, capacity: int) -> None:
        self._normal = limits
        self._short = limits.under_stress()
        self._begins = capacity * limits.stress_begins
        self._ends = capacity * limits.stress_ends
        self._capacity = capacity
        #: Those of now.
        self.limits = limits

    @property
    def is_high(self) -> bool:
        """Whether there is stress."""
        return self.limits is self._short

    def update(self, connections: int) -> bool:
        """Take note of how many there are now; true when `limits` are others than before."""
        if not self.is_high and connections >= self._begins:
            self.limits = self._short
            _log.warning("smtp: stress begins: %s; limits are shorter now", self._share(connections))
            return True
        if self.is_high and connections <= self._ends:
            self.limits = self._normal
            _log.warning("smtp: stress ends: %s", self._share(connections))
            return True
        return False

    def _share(self, connections: int) -> str:
        return f"{connections} of {self._capacity} connections are used"

    def trouble(self, connections: int) -> str:
        """What an operator should know, or nothing."""
        return f"smtp is under stress: {self._share(connections)}, and limits are shorter" if self.is_high else ""
