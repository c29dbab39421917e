"""What the operator does to envelopes: hold, release, remove, schedule, in bounded steps.

A `Selection` is first resolved to a `Range`, which ends with the newest envelope of that moment; then a step looks at the
next `LOOK` of them, works on at most `STEP` that pass the filter, and says where it stopped, so that mail flows between
steps whatever was selected.

Guarantees: an envelope in flight is marked, and the mark is obeyed when its attempt has ended without success.

Failure: `UnknownEnvelope` when the selection names nothing, or more than one message.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from spool.errors import UnknownEnvelope
from spool.outcome import Attempt, Failed
from spool.outcomes import read_subjects, write_history
from spool.reply import Reply
from spool.rows import ASKED_HOLD, ASKED_KEY, ASKED_NOTHING, ASKED_REMOVE, STATE_CODE
from spool.selection import Selection
from spool.sieve import OPEN, Sieve
from spool.state import Event, State
from spool.store import SQL, Transaction

_log: Final = logging.getLogger(__name__)

#: Envelopes a step works on: some milliseconds of the writer's time.
STEP: Final = 64
#: Envelopes a step looks at to find those that pass a filter; for the same reason.
LOOK: Final = 2_000
#: Sorts after every continuation of a message id.
AFTER_ALL: Final = "~"
_READY, _INFLIGHT, _HELD, _DAMAGED = (STATE_CODE[state] for state in State)
_REMOVED: Final = Failed(Reply(550, "5.7.0", "removed by the operator"))


@dataclass(frozen=True, slots=True)
class Range:
    """Envelopes after one and up to another: by row id of the whole queue, or by ordinal of one message (its row id)."""

    after: int
    last: int
    message: int | None = None
    sieve: Sieve = OPEN


@dataclass(frozen=True, slots=True)
class Step:
    """How many envelopes a step changed, and what is left to do."""

    changed: int
    rest: Range | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """One envelope of a step; ids are row ids, state and what was asked are codes."""

    place: int
    id: int
    message: int
    lane: int
    state: int
    asked: int


Handler: TypeAlias = Callable[[Transaction, Sequence[Chosen]], int]


def resolve(connection: sqlite3.Connection, selection: Selection, now: int) -> Range:
    """What the selection means at spool time ``now``."""
    sieve = Sieve.of(selection.filter, now)
    if not selection.message:
        return Range(0, connection.execute(SQL["newest_envelope"]).fetchone()[0] or 0, None, sieve)
    message, name, last_ordinal = find_message(connection, selection.message)
    if selection.ordinal is None:
        return Range(0, last_ordinal, message, sieve)
    if not connection.execute(SQL["find_envelope"], (name, selection.ordinal)).fetchone():
        raise UnknownEnvelope(f"no envelope {name}.{selection.ordinal}")
    return Range(selection.ordinal - 1, selection.ordinal, message, sieve)


def find_message(connection: sqlite3.Connection, beginning: str) -> tuple[int, str, int]:
    """Row id, id and highest ordinal of the one message whose id begins like this; raises `UnknownEnvelope`."""
    found = connection.execute(SQL["messages_like"], (beginning, beginning + AFTER_ALL)).fetchall()
    if not found:
        raise UnknownEnvelope(f"no message {beginning}")
    if len(found) > 1:
        raise UnknownEnvelope(f"more than one message begins with {beginning}")
    message, name, last_ordinal = found[0]
    return message, name, last_ordinal


def window_end(connection: sqlite3.Connection, rest: Range, look: int) -> int:
    """The place of the last of the next ``look`` envelopes; that of the last of all when there are no more."""
    if rest.message is not None:
        return min(rest.after + look, rest.last)
    end: int | None = connection.execute(SQL["window_end"], (rest.after, rest.last, look)).fetchone()[0]
    return rest.last if end is None else end


def step(tx: Transaction, rest: Range, handler: Handler) -> Step:
    """Let ``handler`` work on the next envelopes of ``rest``."""
    end = window_end(tx.connection, rest, LOOK)
    place = {"after": rest.after, "end": end, "message": rest.message, "limit": STEP}
    statement = rest.sieve.chosen if rest.message is None else rest.sieve.chosen_of_message
    chosen = [Chosen(*row) for row in tx.execute(statement, rest.sieve.parameters(**place))]
    changed = handler(tx, chosen) if chosen else 0
    tx.lanes |= {one.lane for one in chosen}
    after = chosen[-1].place if len(chosen) == STEP else end
    return Step(changed, None if after >= rest.last else replace(rest, after=after))


def hold(tx: Transaction, chosen: Sequence[Chosen]) -> int:
    """READY to HELD, and a mark for those in flight; what is held for its key is held for good."""
    marked = _ask(tx, chosen, ASKED_HOLD)
    locked = [one for one in chosen if one.asked == ASKED_KEY]
    return marked + _move(tx, chosen, {_READY}, _HELD) + _move(tx, locked, {_HELD}, _HELD)


def release(tx: Transaction, chosen: Sequence[Chosen]) -> int:
    """HELD and DAMAGED to READY, and the mark off those in flight."""
    tx.made_due = True
    held_in_flight = [one for one in chosen if one.asked == ASKED_HOLD]
    return _ask(tx, held_in_flight, ASKED_NOTHING) + _move(tx, chosen, {_HELD, _DAMAGED}, _READY)


def remove(tx: Transaction, chosen: Sequence[Chosen]) -> int:
    """Gone, with a line of history, and a mark for those in flight."""
    marked = _ask(tx, chosen, ASKED_REMOVE)
    waiting = [one for one in chosen if one.state != _INFLIGHT]
    _remember_removals(tx, waiting)
    for one in waiting:
        tx.execute(SQL["delete_envelope"], (one.id,))
        tx.messages.add(one.message)
    return marked + len(waiting)


def schedule(tx: Transaction, chosen: Sequence[Chosen]) -> int:
    """READY ones are due, their lanes open."""
    ready = [one for one in chosen if one.state == _READY]
    tx.execute(SQL["make_due"], (tx.now, _ids(ready)))
    tx.execute(SQL["open_lanes"], (json.dumps(list({one.lane for one in ready})),))
    tx.made_due = True
    return len(ready)


def lasting(ttl: int) -> Handler:
    """A handler that makes deadlines arrival + ``ttl``; reports keep theirs."""

    def last(tx: Transaction, chosen: Sequence[Chosen]) -> int:
        return tx.execute(SQL["set_ttl"], (ttl, _ids(chosen))).rowcount

    return last


def _ask(tx: Transaction, chosen: Sequence[Chosen], what: int) -> int:
    inflight = [one for one in chosen if one.state == _INFLIGHT]
    if inflight:
        tx.execute(SQL["ask"], (what, _ids(inflight)))
    return len(inflight)


def _move(tx: Transaction, chosen: Sequence[Chosen], states: set[int], to: int) -> int:
    moved = [one for one in chosen if one.state in states]
    if moved:
        tx.execute(SQL["set_state"], (to, _ids(moved)))
    return len(moved)


def _remember_removals(tx: Transaction, waiting: Sequence[Chosen]) -> None:
    subjects, spoilt = read_subjects(tx.connection, [one.id for one in waiting])
    for subject in subjects:
        write_history(tx, subject, Attempt(subject.id, tx.now, tx.now, "operator", _REMOVED), Event.FAILED)
    for row, reason in spoilt.items():
        _log.warning("an unreadable envelope was removed", extra={"row": row, "reason": reason})


def _ids(chosen: Sequence[Chosen]) -> str:
    return json.dumps([one.id for one in chosen])
