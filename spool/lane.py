"""Lanes: what waits together.

A lane is an action's name and a key, fixed when the message is accepted: the domain for MX and ``relay domain``, the user
for local actions, empty for a fixed host. A lane becomes a route from the present configuration when it is claimed.
A route that fails moves its lane's ``not_before``, never the rows of the envelopes in it; success clears it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Lane:
    """Where an envelope queues: the ``action`` by name, and the ``key`` that keeps unlike destinations apart."""

    action: str
    key: str


#: Reports about our own mail wait here; no action of a configuration can have an empty name.
REPORTS = Lane("", "report")


@dataclass(frozen=True, slots=True)
class DueLane:
    """A lane with something to do. Times are spool time in milliseconds."""

    id: int
    lane: Lane
    #: When its first envelope is due and the lane is open.
    wake: int
    #: Failures of its route in a row; above 0 the lane is probed by one envelope at a time.
    failures: int


@dataclass(frozen=True, slots=True)
class LaneWish:
    """A wish to know at most ``limit`` due lanes of one action: of those whose route works, or of the ``failing`` ones."""

    action: str
    failing: bool
    limit: int
    #: The last lane of the page before; None begins anew.
    after: DueLane | None = None
    #: From the other end: those that became due last come first. Not with ``after``.
    newest: bool = False


@dataclass(frozen=True, slots=True)
class ClaimOrder:
    """A wish for at most ``room`` due envelopes of one lane."""

    lane_id: int
    room: int


@dataclass(frozen=True, slots=True)
class LaneFailed:
    """The route of a lane failed: nothing of it is tried before ``not_before``."""

    lane_id: int
    at: int
    not_before: int
    reason: str


@dataclass(frozen=True, slots=True)
class LaneOpened:
    """The route of a lane worked: its envelopes go when they are due."""

    lane_id: int


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """A lane as it stands, for a reload and for people. Times are spool time in milliseconds."""

    id: int
    lane: Lane
    #: When its first READY envelope is due; None when it has none.
    next_due: int | None
    not_before: int
    #: Failures of its route in a row.
    failures: int
    #: When its route failed last, or None.
    last_failure: int | None
    #: What its route said then, or why it is parked; empty when all is well.
    last_error: str
    #: The operator stopped it.
    paused: bool
    #: The configuration has no use for it.
    parked: bool


LaneVerdict: TypeAlias = LaneFailed | LaneOpened
