"""Lanes in the database: which have something due, what the operator and a new configuration do to them.

Guarantees: nothing here reads a whole lane at once; what has to touch every envelope of one works in bounded steps.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from spool.lane import DueLane, Lane, LaneStatus, LaneWish
from spool.message import Destination
from spool.rows import STATES, read_destination
from spool.store import SQL, Transaction

#: Envelopes a step works on: some milliseconds of the writer's time.
STEP: Final = 256
#: Before every (wake, id): spool time is never negative.
_BEGINNING: Final = -1


def due_lanes(connection: sqlite3.Connection, now: int, wish: LaneWish) -> list[DueLane]:
    """Open lanes with something due, from the end that is wished."""
    which = (wish.action, int(wish.failing), now)
    if wish.newest:
        rows = connection.execute(SQL["newest_due_lanes"], (*which, wish.limit))
    else:
        wake, last = (wish.after.wake, wish.after.id) if wish.after else (_BEGINNING, _BEGINNING)
        rows = connection.execute(SQL["due_lanes"], (*which, wake, last, wish.limit))
    return [DueLane(number, Lane(action, key), wake, failures) for number, action, key, wake, failures in rows]


def lane_actions(connection: sqlite3.Connection) -> list[str]:
    """The actions that lanes name, in alphabetical order."""
    return [action for (action,) in connection.execute(SQL["lane_actions"])]


def next_wake(connection: sqlite3.Connection, after: int | None) -> int | None:
    """When the next lane wakes, of those that wake after ``after``."""
    row = connection.execute(SQL["next_wake"], (_BEGINNING if after is None else after,)).fetchone()
    return row[0] if row else None


def lanes(connection: sqlite3.Connection, after: int, limit: int) -> list[LaneStatus]:
    """Lanes by id."""
    rows = connection.execute(SQL["lanes"], (after, limit))
    return [_status(*row) for row in rows]


def _status(number: int, action: str, key: str, *rest: Any) -> LaneStatus:
    next_due, not_before, failures, last_failure, last_error, paused, parked = rest
    lane = Lane(action, key)
    return LaneStatus(
        number, lane, next_due, not_before, failures, last_failure, last_error, bool(paused), bool(parked)
    )


def pause(tx: Transaction, lane_id: int, paused: bool) -> None:
    """Nothing of the lane is claimed while it is paused."""
    tx.execute(SQL["pause_lane"], (int(paused), lane_id))
    tx.made_due = tx.made_due or not paused


def park(tx: Transaction, lane_id: int, reason: str) -> None:
    """Nothing of the lane is claimed until a configuration wants it again."""
    tx.execute(SQL["park_lane"], (1, reason, lane_id))


def unpark(tx: Transaction, lane_id: int) -> None:
    """The configuration wants it again."""
    tx.execute(SQL["park_lane"], (0, "", lane_id))
    tx.made_due = True


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk through a lane has come."""

    state: int = 0
    due: int = _BEGINNING
    id: int = _BEGINNING


@dataclass(frozen=True, slots=True)
class Step:
    """How many envelopes a step changed, and where the next one goes on; None at the end."""

    changed: int
    rest: Place | None


Handler: TypeAlias = Callable[[Transaction, Sequence[int]], int]


def step(tx: Transaction, lane_id: int, place: Place, handler: Handler) -> Step:
    """Let ``handler`` work on the next envelopes (row ids) of a lane, one state after the other."""
    rows = tx.execute(SQL["lane_page"], (lane_id, place.state, place.due, place.id, STEP)).fetchall()
    changed = handler(tx, [row[1] for row in rows]) if rows else 0
    tx.lanes.add(lane_id)
    if len(rows) == STEP:
        return Step(changed, Place(place.state, *rows[-1]))
    following = place.state + 1
    return Step(changed, Place(following) if following in STATES else None)


def moving(lane_of: Callable[[Destination], Lane]) -> Handler:
    """A handler that moves envelopes to the lanes ``lane_of`` says; reports stay where they are."""

    def move(tx: Transaction, envelopes: Sequence[int]) -> int:
        targets: dict[int, list[int]] = {}
        for row in tx.execute(SQL["destinations"], (json.dumps(envelopes),)).fetchall():
            targets.setdefault(tx.lane_id(lane_of(read_destination(row[1:]))), []).append(row[0])
        for lane, moved in targets.items():
            tx.execute(SQL["move_to_lane"], (lane, json.dumps(moved)))
        tx.lanes |= set(targets)
        tx.made_due = True
        return sum(map(len, targets.values()))

    return move
