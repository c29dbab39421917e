"""Taking envelopes in flight and putting them back: claims, leases of earlier starts, mbox intents.

Guarantees: an envelope is claimed once until it is settled, put back, or this start ends. A row or body that cannot be
trusted costs its own envelope a delivery, nobody else's.

Failure: damage is never an error here: the envelope is set aside, with the reason. One whose body is sealed with
a key that is not at hand is held until `unlock` finds the key.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from spool.aside import set_aside_row
from spool.bodies import Body, BodyFiles, UnreadableBody, open_small
from spool.errors import BodyDamaged, KeyMissing
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.keys import find, key_of
from spool.lane import ClaimOrder, Lane
from spool.message import Claimed, Message
from spool.outcome import Attempt, Deferred, Stage
from spool.outcomes import read_subjects, write_history
from spool.reading import Rows, read_rows
from spool.reply import Reply
from spool.rows import ASKED_REMOVE, STATE_CODE, CorruptRow, Row, read_envelope, read_message, read_seal
from spool.state import Event, State
from spool.store import SQL, Transaction

#: What came of what was in flight when the process died.
IN_DOUBT: Final = Deferred(
    Reply(451, "4.4.2", "in flight when smtpd died: if it was sent, no reply was seen"), stage=Stage.DOT
)
_READY, _INFLIGHT = STATE_CODE[State.READY], STATE_CODE[State.INFLIGHT]
#: The message and its body, or why nothing can be said of it.
_Found: TypeAlias = "tuple[Message, Body] | CorruptRow | KeyMissing"

#: Held envelopes that are looked at in one transaction: some milliseconds of the writer's time.
STEP: Final = 256


def claim(tx: Transaction, order: ClaimOrder) -> list[Claimed]:
    """At most ``order.room`` due envelopes of an open lane, earliest due first, in flight from here on."""
    ids = [row[0] for row in tx.execute(SQL["claimable"], (order.lane_id, tx.now, order.room))]
    if not ids:
        return []
    tx.execute(SQL["mark_inflight"], (tx.now, json.dumps(ids)))
    tx.lanes.add(order.lane_id)
    lane = Lane(*tx.execute(SQL["get_lane"], (order.lane_id,)).fetchone())
    rows = read_rows(tx.connection, SQL["envelopes"], ids)
    messages = _messages(tx, {row[1] for row in rows.whole.values()})
    claimed: list[Claimed] = []
    for one in ids:
        try:
            claimed.append(_claimed(rows, one, lane, messages))
        except KeyMissing as error:
            tx.execute(SQL["lock_envelope"], (str(error), one))
        except (CorruptRow, BodyDamaged) as error:
            set_aside_row(tx, one, str(error))
    return claimed


@dataclass(frozen=True, slots=True)
class Step:
    """How many envelopes a step changed, and after which it goes on; None when that was all."""

    changed: int
    rest: int | None


def unlock(tx: Transaction, after: int) -> Step:
    """Let go of those whose keys are at hand now, among the next envelopes that are held."""
    rows = tx.execute(SQL["locked_page"], (after, STEP)).fetchall()
    at_hand = tx.bodies.sealing.fingerprints
    free = [(envelope, lane) for envelope, lane, key in rows if key in at_hand]
    if free:
        tx.execute(SQL["set_state"], (_READY, json.dumps([envelope for envelope, _ in free])))
        tx.lanes |= {lane for _, lane in free}
        tx.made_due = True
    return Step(len(free), rows[-1][0] if len(rows) == STEP else None)


def _claimed(rows: Rows, one: int, lane: Lane, messages: dict[int, _Found]) -> Claimed:
    row = rows.whole.get(one)
    if row is None:
        raise CorruptRow(rows.spoilt.get(one, "its row is not there"))
    found = messages.get(row[1])
    if found is None:
        raise CorruptRow("its message is not there")
    if isinstance(found, CorruptRow | KeyMissing):
        raise found
    message, body = found
    envelope = read_envelope(row, message, lane)
    # A report says what can be said without the message it is about.
    if isinstance(body, UnreadableBody) and not envelope.kind.is_report:
        raise BodyDamaged(body.reason)
    return Claimed(row[8], envelope, message, body, bool(row[15]))


def _messages(tx: Transaction, ids: Iterable[int]) -> dict[int, _Found]:
    rows = read_rows(tx.connection, SQL["messages"], list(ids))
    found: dict[int, _Found] = {one: CorruptRow(reason) for one, reason in rows.spoilt.items()}
    return found | {one: _found(tx, row) for one, row in rows.whole.items()}


def _found(tx: Transaction, row: Row) -> _Found:
    try:
        return read_message(row[1:16]), find_body(tx.bodies, row)
    except (CorruptRow, KeyMissing) as error:
        return error
    except BodyDamaged as error:
        return read_message(row[1:16]), UnreadableBody(row[6], str(error))


def find_body(bodies: BodyFiles, row: Row) -> Body:
    """The body of a row of ``messages``; raises `BodyDamaged`, `KeyMissing`, `CorruptRow`."""
    name, size, digest, file, content = row[1], row[6], row[16], row[17], row[18]
    opening = bodies.sealing.opening(read_seal(row[19:22]), name)
    if file is not None:
        return bodies.large(file, size, digest, opening)
    if content is None:
        raise BodyDamaged(f"the body of {name} is missing")
    try:
        return open_small(content, opening, size, digest)
    except BodyDamaged as error:
        raise BodyDamaged(f"the body of {name}: {error}") from error


def unclaim(tx: Transaction, envelopes: Iterable[EnvelopeId]) -> None:
    """Back to READY, or to what the operator asked meanwhile; those not in flight are left alone."""
    for envelope in envelopes:
        row: Row | None = tx.execute(SQL["find_envelope"], key_of(envelope)).fetchone()
        if row is not None and row[3] == _INFLIGHT:
            _put_back(tx, (row[0], row[1], row[2], row[4]), "unclaim_envelope")
    tx.made_due = True


def recover(tx: Transaction) -> int:
    """Void every lease: nobody can hold one when the spool is opened. How many there were."""
    stranded = tx.execute(SQL["stranded"]).fetchall()
    _doubt(tx, {row[0]: row[4] for row in stranded})
    for row in stranded:
        _put_back(tx, row[:4], "recover_envelope")
    return len(stranded)


def _doubt(tx: Transaction, begun: dict[int, int | None]) -> None:
    """Say in the history of what leaves this machine that nobody knows whether it did; mailboxes recognise their mail."""
    subjects, _ = read_subjects(tx.connection, list(begun))
    for subject in subjects:
        if not (subject.kind.is_report or subject.user):
            started = begun[subject.row] or tx.now
            write_history(tx, subject, Attempt(subject.id, started, tx.now, "", IN_DOUBT), Event.DEFERRED)


def _put_back(tx: Transaction, row: Row, statement: str) -> None:
    envelope, message, lane, asked = row
    tx.lanes.add(lane)
    if asked == ASKED_REMOVE:
        tx.execute(SQL["delete_envelope"], (envelope,))
        tx.messages.add(message)
    else:
        tx.execute(SQL[statement], (envelope,))


def keep_intent(tx: Transaction, intent: MboxIntent) -> None:
    """Commit to what is about to be appended to a mailbox."""
    row = find(tx, intent.envelope)
    numbers = (_signed(intent.device), _signed(intent.inode), intent.offset, intent.length)
    tx.execute(SQL["set_intent"], (row[0], os.fsencode(intent.path), *numbers, intent.checksum))


def read_intent(connection: sqlite3.Connection, envelope: EnvelopeId) -> MboxIntent | None:
    """What `keep_intent` kept last."""
    row: Row | None = connection.execute(SQL["get_intent"], key_of(envelope)).fetchone()
    if row is None:
        return None
    path, device, inode, offset, length, digest = row
    return MboxIntent(envelope, os.fsdecode(path), _unsigned(device), _unsigned(inode), offset, length, digest)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _unsigned(number: int) -> int:
    return number % (1 << 64)
