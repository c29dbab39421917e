"""Mail that moves house: from rows to what an archive says of it, and into the rows of another spool.

Times become wall times on the way out and the other spool's time on the way in, so that ages and deadlines stay what they
are.

Guarantees: a message comes in with all its envelopes, its history and its body, or not at all; once from the same archive,
and never beside one of the same id.

Failure: `AlreadyHere`; `UnknownEnvelope` when a message has left meanwhile; `BodyDamaged` and `CorruptRow` for what cannot
be carried along.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spool.address import Address
from spool.archive import (
    Moved,
    MovedAttempt,
    MovedClient,
    MovedDestination,
    MovedEnvelope,
    MovedLine,
    MovedOutcome,
    MovedRecipient,
    ResultName,
    StateName,
    Wish,
)
from spool.bodies import Body, BodyFiles, StoredBody
from spool.claims import find_body
from spool.clock import SpoolClock
from spool.errors import SpoolError, UnknownEnvelope
from spool.ids import MessageId
from spool.intake import insert_message
from spool.lane import Lane
from spool.message import BodyKind, Client, Destination, Message, Notify, Ret
from spool.outcome import Deferred, Delivered, Failed, Outcome
from spool.reading import read_rows
from spool.reply import Reply
from spool.rows import (
    EVENT_CODE,
    EVENTS,
    KIND_CODE,
    KINDS,
    NOTIFY,
    STATE_CODE,
    STATES,
    CorruptRow,
    Row,
    destination_columns,
    outcome_columns,
    read_message,
    read_outcome,
)
from spool.selected import find_message
from spool.state import State
from spool.store import SQL, Transaction

_WISHES: dict[Notify, Wish] = {Notify.SUCCESS: "success", Notify.FAILURE: "failure", Notify.DELAY: "delay"}
_STATES: dict[State, StateName] = {State.READY: "ready", State.HELD: "held", State.DAMAGED: "damaged"}
_RESULTS: dict[type[Outcome], ResultName] = {Delivered: "delivered", Deferred: "deferred", Failed: "failed"}


class AlreadyHere(SpoolError):
    """This message was taken in before, or is queued here."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A message that moves, and its body."""

    moved: Moved
    body: Body


class Packer:
    """Says of messages in this spool what an archive has to say."""

    def __init__(self, connection: sqlite3.Connection, bodies: BodyFiles, clock: SpoolClock) -> None:
        self._connection = connection
        self._bodies = bodies
        self._wall = clock.wall_at

    def pack(self, name: str, ordinals: Sequence[int]) -> Leaving:
        """A message with those of its envelopes."""
        number, name, last_ordinal = find_message(self._connection, name)
        rows = read_rows(self._connection, SQL["messages"], [number])
        if number not in rows.whole:
            raise CorruptRow(rows.spoilt.get(number, "its message is not there"))
        message, body = read_message(rows.whole[number][1:16]), find_body(self._bodies, rows.whole[number])
        digest = hashlib.sha256()
        for piece in body.chunks():
            digest.update(piece)
        envelopes = [self._envelope(row) for row in self._rows("moving_envelopes", number, json.dumps(list(ordinals)))]
        if not envelopes:
            raise UnknownEnvelope(f"message {name} has left meanwhile")
        moved = Moved(
            id=message.id,
            sender_local=message.return_path.local,
            sender_domain=message.return_path.domain,
            arrived=self._wall(message.arrived),
            received=message.received_at,
            size=message.size,
            sha256=digest.hexdigest(),
            eight_bit=BodyKind.EIGHT_BIT in message.body_kind,
            smtputf8=BodyKind.SMTPUTF8 in message.body_kind,
            envid=message.envid,
            ret=message.ret.value if message.ret else "",
            client=_client(message.client),
            last_ordinal=last_ordinal,
            recipients=[_recipient(row) for row in self._rows("moving_recipients", number)],
            envelopes=envelopes,
            history=[self._attempt(row) for row in self._rows("moving_attempts", name, json.dumps(list(ordinals)))],
        )
        return Leaving(moved, body)

    def _rows(self, query: str, *parameters: object) -> list[Row]:
        return self._connection.execute(SQL[query], parameters).fetchall()

    def _envelope(self, row: Row) -> MovedEnvelope:
        number, ordinal, recipient = row[:3]
        action, key, kind, state, due, deadline, warn_at, attempts, recovered, last_try, error = row[8:]
        stands = STATES[state]
        return MovedEnvelope(
            ordinal=ordinal,
            kind=KINDS[kind],
            state="ready" if stands is State.INFLIGHT else _STATES[stands],
            recipient=recipient,
            destination=_destination(row[3:8]),
            action=action,
            key=key,
            due=self._wall(due),
            deadline=self._wall(deadline),
            warn_at=None if warn_at is None else self._wall(warn_at),
            attempts=attempts,
            was_in_flight=bool(recovered) or stands is State.INFLIGHT,
            last_try=None if last_try is None else self._wall(last_try),
            error=error,
            report=[self._line(line) for line in self._rows("moving_report", number)],
        )

    def _line(self, row: Row) -> MovedLine:
        return MovedLine(
            recipient=row[0],
            destination=_destination(row[1:6]),
            event=EVENTS[row[6]],
            at=self._wall(row[7]),
            deadline=self._wall(row[8]),
            outcome=_outcome(row[9:]),
        )

    def _attempt(self, row: Row) -> MovedAttempt:
        ordinal, sender, recipient, destination, event, started, ended, route = row[:8]
        return MovedAttempt(
            ordinal=ordinal,
            sender=sender,
            recipient=recipient,
            destination=destination,
            event=EVENTS[event],
            started=self._wall(started),
            ended=self._wall(ended),
            route=route,
            outcome=_outcome(row[8:]),
        )


# -- into another spool -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that comes from an archive."""

    moved: Moved
    body: bytes | StoredBody
    #: The name of the archive: a message is taken from it once.
    archive: str
    #: The lane of an envelope in this house.
    lane_of: Callable[[MovedEnvelope], Lane]


def take_in(tx: Transaction, arrival: Arrival) -> int:
    """Write a message down with all that it brings; how many envelopes. Raises `AlreadyHere`."""
    moved = arrival.moved
    require_new(tx.connection, arrival.archive, moved.id)
    times = _Times(tx)
    number = insert_message(tx, _message(moved, times), arrival.body, moved.last_ordinal)
    tx.execute(SQL["insert_drop"], (_taken(arrival.archive, moved.id), tx.now))
    tx.connection.executemany(SQL["insert_recipient"], [(number, *_recipient_columns(one)) for one in moved.recipients])
    for envelope in moved.envelopes:
        lane = tx.lane_id(arrival.lane_of(envelope))
        tx.lanes.add(lane)
        _insert_envelope(tx, (number, lane), envelope, times)
    for attempt in moved.history:
        _insert_attempt(tx, moved.id, attempt, times)
    tx.made_due = True
    return len(moved.envelopes)


def require_new(connection: sqlite3.Connection, archive: str, message: str) -> None:
    """Raise `AlreadyHere` for a message that is queued, or was taken from this archive in the last days."""
    if connection.execute(SQL["was_taken"], (_taken(archive, message),)).fetchone():
        raise AlreadyHere("it was taken from this archive before")
    if connection.execute(SQL["find_message"], (message,)).fetchone():
        raise AlreadyHere("it is queued here already")


def _taken(archive: str, message: str) -> str:
    return f"archive {archive} {message}"


class _Times:
    """Wall times as this spool's time."""

    def __init__(self, tx: Transaction) -> None:
        self._now, self._wall = tx.now, tx.clock.clock.wall()

    def __call__(self, wall: float) -> int:
        return max(0, self._now + round((wall - self._wall) * 1000))

    def if_any(self, wall: float | None) -> int | None:
        return None if wall is None else self(wall)


def _message(moved: Moved, times: _Times) -> Message:
    kind = (BodyKind.EIGHT_BIT if moved.eight_bit else BodyKind.PLAIN) | (
        BodyKind.SMTPUTF8 if moved.smtputf8 else BodyKind.PLAIN
    )
    client = moved.client
    return Message(
        MessageId(moved.id),
        Address(moved.sender_local, moved.sender_domain),
        times(moved.arrived),
        moved.received,
        moved.size,
        kind,
        moved.envid,
        Ret(moved.ret) if moved.ret else None,
        Client(client.address, client.host, client.helo, client.protocol, client.login, client.uid),
    )


def _recipient_columns(one: MovedRecipient) -> Row:
    notify = Notify.NEVER
    for flag, word in _WISHES.items():
        if word in one.notify:
            notify |= flag
    return (one.number, one.local, one.domain, one.orcpt, notify.value, int(one.notify_given))


def _insert_envelope(tx: Transaction, keys: tuple[int, int], envelope: MovedEnvelope, times: _Times) -> None:
    message, lane = keys
    state = next(state for state, word in _STATES.items() if word == envelope.state)
    row = tx.execute(
        SQL["insert_moved"],
        (
            message,
            envelope.ordinal,
            envelope.recipient,
            *_destination_columns(envelope.destination),
            lane,
            KIND_CODE[envelope.kind],
            STATE_CODE[state],
            times(envelope.due),
            times(envelope.deadline),
            times.if_any(envelope.warn_at),
            envelope.attempts,
            int(envelope.was_in_flight),
            times.if_any(envelope.last_try),
            envelope.error,
        ),
    ).lastrowid
    for line in envelope.report:
        columns = (*_destination_columns(line.destination), EVENT_CODE[line.event])
        when = (times(line.at), times(line.deadline))
        outcome = outcome_columns(_read_outcome(line.outcome))
        tx.execute(SQL["insert_report"], (row, message, line.recipient, *columns, *when, *outcome))


def _insert_attempt(tx: Transaction, name: str, one: MovedAttempt, times: _Times) -> None:
    names = (name, one.ordinal, one.sender, one.recipient, one.destination, EVENT_CODE[one.event])
    when = (times(one.started), times(one.ended), one.route)
    tx.execute(SQL["insert_attempt"], (*names, *when, *outcome_columns(_read_outcome(one.outcome))))


# -- words ------------------------------------------------------------------------------------------------------------


def _client(client: Client) -> MovedClient:
    return MovedClient(
        address=client.address,
        host=client.host,
        helo=client.helo,
        protocol=client.protocol,
        login=client.login,
        uid=client.uid,
    )


def _recipient(row: Row) -> MovedRecipient:
    number, local, domain, orcpt, notify, given = row
    wishes = [word for flag, word in _WISHES.items() if flag in NOTIFY[notify]]
    return MovedRecipient(
        number=number, local=local, domain=domain, orcpt=orcpt, notify=wishes, notify_given=bool(given)
    )


def _destination(row: Row) -> MovedDestination:
    local, domain, user, extension, target = row
    return MovedDestination(local=local, domain=domain, user=user, extension=extension, target=target)


def _destination_columns(one: MovedDestination) -> Row:
    return destination_columns(destination_of(one))


def destination_of(one: MovedDestination) -> Destination:
    """The destination that an archive names."""
    return Destination(Address(one.local, one.domain), one.user, one.extension, one.target)


def _outcome(row: Row) -> MovedOutcome:
    outcome = read_outcome(row)
    return MovedOutcome(
        result=_RESULTS[type(outcome)],
        code=outcome.reply.code,
        status=outcome.reply.status,
        text=outcome.reply.text,
        remote=outcome.remote,
        stage=outcome.stage,
        dsn_passed_on=isinstance(outcome, Delivered) and outcome.dsn_passed_on,
    )


def _read_outcome(one: MovedOutcome) -> Outcome:
    reply, stage = Reply(one.code, one.status, one.text), one.stage
    match one.result:
        case "delivered":
            return Delivered(reply, one.remote, stage, one.dsn_passed_on)
        case "deferred":
            return Deferred(reply, one.remote, stage)
        case "failed":
            return Failed(reply, one.remote, stage)
