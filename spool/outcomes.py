"""What attempts came to: history, next try, reports, and what ends without an attempt of its own.

Guarantees: an envelope that ends and the report about it are one transaction. Failures of one message gather in one report
envelope as long as it waits; one that is in flight is left alone and followed by another.

Failure: an outcome for an envelope that is not in flight is written into the log and changes nothing.

RFC 3461 5.2 (who is told), RFC 3464 2.3 (of what).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from spool.address import Address
from spool.errors import UnknownEnvelope
from spool.ids import EnvelopeId, MessageId, envelope_id
from spool.keys import key_of
from spool.lane import REPORTS, LaneFailed, LaneVerdict
from spool.message import Destination, Message, Notify, Recipient, Refusal
from spool.outcome import Attempt, Deferred, Delivered, Failed, Outcome, Stage
from spool.reading import read_rows
from spool.reply import Reply
from spool.report import ReportLine
from spool.rows import (
    ASKED_REMOVE,
    EVENT_CODE,
    KIND_CODE,
    KINDS,
    NOTIFY,
    CorruptRow,
    Row,
    destination_columns,
    outcome_columns,
    read_outcome,
    read_report_line,
)
from spool.settlement import Settlement, next_warning, report_owed
from spool.state import Event, Kind
from spool.store import SQL, Transaction

_log: Final = logging.getLogger(__name__)

#: Milliseconds that a report waits for others about the same message.
REPORT_DELAY: Final = 1_000
#: Milliseconds that a report may wait for its own delivery: as long as mail does by default.
REPORT_TTL: Final = 4 * 24 * 3600 * 1000
_EXPANDED: Final = Delivered(Reply(250, "2.0.0", "stands for several recipients"), stage=Stage.LOCAL)
#: Envelopes that one transaction ends or warns of, so that mail flows meanwhile.
SWEEP_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Subject:
    """An envelope as its history and its report will speak of it."""

    #: Row ids of the envelope, its message and its lane.
    row: int
    message: int
    lane: int
    id: EnvelopeId
    kind: Kind
    #: What the operator asked of it, a code.
    asked: int
    sender: Address
    #: The number and the address of the recipient as given; None and the sender for a report.
    recipient: int | None
    given: Address
    notify: Notify
    #: The five columns of a destination.
    destination: tuple[str, str, str, str, str]
    arrived: int
    deadline: int

    @classmethod
    def of(cls, row: Row) -> Subject:
        """The subject of a row of ``inflight`` or ``subjects``; raises `CorruptRow`."""
        number, message, name, ordinal, lane, kind, asked, arrived, deadline, recipient = row[:10]
        sender = Address(row[10], row[11])
        given = sender if recipient is None else Address(row[17], row[18])
        try:
            codes = (KINDS[kind], asked, sender, recipient, given, NOTIFY[row[19] or 0])
        except KeyError as error:
            raise CorruptRow(f"impossible kind {kind} or wish for reports {row[19]}") from error
        return cls(number, message, lane, envelope_id(name, ordinal), *codes, row[12:17], arrived, deadline)

    @property
    def address(self) -> Address:
        """The address of the final destination."""
        return Address(*self.destination[:2])

    @property
    def user(self) -> str:
        """The local user who gets it; empty when it leaves this machine."""
        return self.destination[2]


def read_subjects(connection: sqlite3.Connection, rows: Sequence[int]) -> tuple[list[Subject], dict[int, str]]:
    """These envelopes (row ids) in their order, and the reason for each that cannot be read."""
    found = read_rows(connection, SQL["subjects"], rows)
    subjects: list[Subject] = []
    spoilt: dict[int, str] = {}
    for one in rows:
        if one not in found.whole:
            spoilt[one] = found.spoilt.get(one, "its message is not there")
            continue
        try:
            subjects.append(Subject.of(found.whole[one]))
        except CorruptRow as error:
            spoilt[one] = str(error)
    return subjects, spoilt


def record(tx: Transaction, settlement: Settlement) -> bool:
    """Write down what came of one attempt; whether its envelope was in flight."""
    attempt = settlement.attempt
    row: Row | None = tx.execute(SQL["inflight"], key_of(attempt.envelope)).fetchone()
    if row is None:
        _log.warning("outcome for an envelope that is not in flight", extra={"envelope": attempt.envelope})
        return False
    subject = Subject.of(row)
    write_history(tx, subject, attempt, settlement.event)
    tx.lanes.add(subject.lane)
    removed = subject.asked == ASKED_REMOVE
    if settlement.report is not None and not (removed and settlement.event is not Event.DELIVERED):
        line = Line(settlement.event, attempt.outcome, attempt.ended)
        add_report(tx, subject, settlement.report, line)
    if settlement.event.is_final or removed:
        end(tx, subject)
    else:
        _wait(tx, subject, settlement)
    return True


def refuse(tx: Transaction, message: Message, keys: tuple[int, int, int], refusal: Refusal) -> None:
    """End a recipient that never became an envelope: its history, and the report if one is owed.

    ``keys`` are the message's row, the ordinal that the envelope would have had, and the recipient's number.
    """
    row, ordinal, number = keys
    subject = _never_queued(message, envelope_id(message.id, ordinal), (row, number), refusal.recipient, tx.now)
    outcome = Failed(refusal.reply, stage=Stage.RCPT)
    write_history(tx, subject, Attempt(subject.id, tx.now, tx.now, "", outcome), Event.FAILED)
    report_if_owed(tx, subject, Line(Event.FAILED, outcome, tx.now))


def tell_expanded(tx: Transaction, message: Message, keys: tuple[int, int], recipient: Recipient) -> None:
    """Tell the sender that a recipient stands for several, who now have envelopes of their own.

    ``keys`` are the message's row and the recipient's number.
    """
    subject = _never_queued(message, envelope_id(message.id, 0), keys, recipient, tx.now)
    add_report(tx, subject, Kind.EXPANDED, Line(Event.DELIVERED, _EXPANDED, tx.now))


def _never_queued(
    message: Message, name: EnvelopeId, keys: tuple[int, int], recipient: Recipient, deadline: int
) -> Subject:
    """A recipient without an envelope, as reports speak of it; ``keys`` are the rows of its message and its own number."""
    row, number = keys
    return Subject(
        row=0,
        message=row,
        lane=0,
        id=name,
        kind=Kind.MAIL,
        asked=0,
        sender=message.return_path,
        recipient=number,
        given=recipient.address,
        notify=recipient.notify,
        destination=destination_columns(Destination(recipient.address)),
        arrived=message.arrived,
        deadline=deadline,
    )


def judge(tx: Transaction, verdict: LaneVerdict) -> None:
    """Write down what a lane's route proved to be."""
    if isinstance(verdict, LaneFailed):
        tx.execute(SQL["lane_failed"], (verdict.at, verdict.not_before, verdict.reason, verdict.lane_id))
    else:
        tx.execute(SQL["lane_opened"], (verdict.lane_id,))


def expire(tx: Transaction, lane_id: int, at: int) -> int:
    """End what waits in a lane whose route failed at ``at``, after the deadline; at most `SWEEP_BATCH`."""
    outcome = _lane_trouble(tx, lane_id)
    rows = [row for (row,) in tx.execute(SQL["overdue"], (lane_id, at, SWEEP_BATCH))]
    for subject in _sound(tx, rows):
        write_history(tx, subject, Attempt(subject.id, at, at, "", outcome), Event.EXPIRED)
        report_if_owed(tx, subject, Line(Event.EXPIRED, outcome, at))
        end(tx, subject)
    tx.lanes.add(lane_id)
    return len(rows)


def warn(tx: Transaction, at: int, warn_intervals: tuple[int, ...]) -> int:
    """Queue the delay notices that are owed for what waits, whatever it waits for; at most `SWEEP_BATCH`."""
    rows = {row[0]: row[1:] for row in tx.execute(SQL["unwarned"], (at, SWEEP_BATCH))}
    subjects = _sound(tx, list(rows))
    last = _last_attempts(tx, subjects)
    for subject in subjects:
        _lane, error, since = rows[subject.row]
        line = last.get(subject.id) or Line(Event.DEFERRED, _trouble(error), at if since is None else since)
        report_if_owed(tx, subject, line)
        tx.execute(SQL["set_warn_at"], (next_warning(subject.arrived, at, warn_intervals), subject.row))
    tx.lanes.update(lane for lane, _error, _since in rows.values())
    return len(rows)


def _sound(tx: Transaction, rows: Sequence[int]) -> list[Subject]:
    subjects, spoilt = read_subjects(tx.connection, rows)
    for row, reason in spoilt.items():
        damage(tx, row, reason)
    return subjects


def damage(tx: Transaction, envelope: int, reason: str) -> None:
    """DAMAGED, by row id; the caller says which lane was touched, and whether anybody can be told (`spool.aside`)."""
    _log.error("envelope set aside: smtpctl verify shows it", extra={"reason": reason, "row": envelope})
    tx.execute(SQL["damage_envelope"], (reason, envelope))


def report_if_owed(tx: Transaction, subject: Subject, line: Line) -> None:
    """Tell the sender, unless he is null or does not want to know."""
    kind = report_owed(subject.kind, subject.sender, subject.notify, line.event, line.outcome)
    if kind is not None:
        add_report(tx, subject, kind, line)


def report_lines(connection: sqlite3.Connection, envelope: EnvelopeId) -> list[ReportLine]:
    """What a report envelope is about; raises `UnknownEnvelope`."""
    row: Row | None = connection.execute(SQL["find_envelope"], key_of(envelope)).fetchone()
    if row is None:
        raise UnknownEnvelope(f"no envelope {envelope}")
    return [read_report_line(line) for line in connection.execute(SQL["report_lines"], (row[0],))]


@dataclass(frozen=True, slots=True)
class Line:
    """What a report says of its subject, at spool time ``at``."""

    event: Event
    outcome: Outcome
    at: int


def add_report(tx: Transaction, subject: Subject, kind: Kind, line: Line) -> None:
    """Tell the sender of ``subject``, in the report about its message that still waits, or in a new one."""
    assert subject.recipient is not None, "a report is never about a report"
    open_report: Row | None = tx.execute(SQL["open_report"], (subject.message, KIND_CODE[kind])).fetchone()
    report = open_report[0] if open_report else _new_report(tx, subject.message, kind)
    columns = (report, subject.message, subject.recipient, *subject.destination)
    what = (EVENT_CODE[line.event], line.at, subject.deadline, *outcome_columns(line.outcome))
    tx.execute(SQL["insert_report"], (*columns, *what))


def _new_report(tx: Transaction, message: int, kind: Kind) -> int:
    ordinal, local, domain = tx.execute(SQL["next_ordinal"], (message,)).fetchone()
    lane = tx.lane_id(REPORTS)
    columns = (message, ordinal, None, local, domain, "", "", "", lane, KIND_CODE[kind])
    due, deadline = tx.now + REPORT_DELAY, tx.now + REPORT_TTL
    report = tx.execute(SQL["insert_envelope"], (*columns, due, deadline, None)).lastrowid
    assert report is not None
    tx.lanes.add(lane)
    tx.made_due = True
    return report


def end(tx: Transaction, subject: Subject) -> None:
    """The envelope is gone; the message goes with its last one."""
    tx.execute(SQL["delete_envelope"], (subject.row,))
    tx.lanes.add(subject.lane)
    tx.messages.add(subject.message)


def _wait(tx: Transaction, subject: Subject, settlement: Settlement) -> None:
    attempt = settlement.attempt
    error = str(attempt.outcome.reply)
    tx.execute(SQL["defer_envelope"], (settlement.due, settlement.warn_at, attempt.ended, error, subject.row))


def write_history(tx: Transaction, subject: Subject, attempt: Attempt, event: Event) -> None:
    """Keep an attempt, with names as values: it outlives its message."""
    given, destination = str(subject.given), str(subject.address)
    names = (str(subject.sender), given, "" if destination == given else destination)
    what = (EVENT_CODE[event], attempt.started, attempt.ended, attempt.route)
    tx.execute(SQL["insert_attempt"], (*key_of(attempt.envelope), *names, *what, *outcome_columns(attempt.outcome)))


def _lane_trouble(tx: Transaction, lane_id: int) -> Deferred:
    row: Row | None = tx.execute(SQL["lane_trouble"], (lane_id,)).fetchone()
    return _trouble(row[0] if row else "")


def _trouble(said: str) -> Deferred:
    """What keeps mail waiting, out of what is remembered of it; a lane's words may be any."""
    reply = Reply.parse(said)
    if reply is None or not said.startswith("4"):
        reply = Reply(451, "4.4.7", said or "it has not been tried yet")
    return Deferred(reply, stage=Stage.ROUTE)


def _last_attempts(tx: Transaction, subjects: Iterable[Subject]) -> dict[EnvelopeId, Line]:
    """What the last attempt for each envelope came to, as far as history goes back: a server's words and its name."""
    names = {subject.id.partition(".")[0] for subject in subjects}
    return {
        envelope_id(MessageId(name), ordinal): Line(Event.DEFERRED, read_outcome(tuple(columns)), ended)
        for name in names
        for ordinal, ended, *columns in tx.execute(SQL["attempts_of"], (name,))
    }
