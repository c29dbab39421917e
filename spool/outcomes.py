"""What attempts came to: history, next try, reports, and what ends without an attempt of its own.

Guarantees: an envelope that ends and the report about it are one transaction. Failures of one message gather in one report
envelope as long as it waits; one that is in flight is left alone and followed by another.

Failure: an outcome for an envelope that is not in flight is written into the log and changes nothing.

RFC 3461 5.2 (who is told), RFC 3464 2.3 (of what).
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from typing import Final

from spool.address import Address
from spool.claims import damage, key_of
from spool.errors import UnknownEnvelope
from spool.ids import EnvelopeId, MessageId, envelope_id
from spool.lane import REPORTS, LaneFailed, LaneVerdict
from spool.message import Notify
from spool.outcome import Attempt, Deferred, Outcome, Stage
from spool.reading import read_rows
from spool.reply import Reply
from spool.report import ReportLine
from spool.rows import ASKED_REMOVE, EVENT_CODE, KIND_CODE, KINDS, Row, outcome_columns, read_report_line
from spool.settlement import Settlement, next_warning, report_owed
from spool.state import Event, Kind
from spool.store import SQL, Transaction

_log: Final = logging.getLogger("mailspool.spool")

#: Milliseconds that a report waits for others about the same message.
REPORT_DELAY: Final = 1_000
#: Milliseconds that a report may wait for its own delivery: as long as mail does by default.
REPORT_TTL: Final = 4 * 24 * 3600 * 1000
#: Envelopes that one transaction ends or warns of, so that mail flows meanwhile.
SWEEP_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Subject:
    """An envelope as its history and its report will speak of it; ids are row ids."""

    envelope: int
    message: int
    lane: int
    kind: Kind
    asked: int
    recipient: int | None
    sender: Address
    destination: tuple[str, str, str, str, str]
    given: Address
    deadline: int

    @classmethod
    def of(cls, row: Row) -> Subject:
        """The subject of the first 16 columns of ``inflight`` or ``subjects``."""
        sender = Address(row[6], row[7])
        given = sender if row[13] is None else Address(row[13], row[14])
        return cls(row[0], row[1], row[2], KINDS[row[3]], row[4], row[5], sender, row[8:13], given, row[15])

    @property
    def address(self) -> Address:
        """The address of the final destination."""
        return Address(*self.destination[:2])


def record(tx: Transaction, settlement: Settlement) -> None:
    """Write down what came of one attempt."""
    attempt = settlement.attempt
    row: Row | None = tx.execute(SQL["inflight"], key_of(attempt.envelope)).fetchone()
    if row is None:
        _log.warning("outcome for an envelope that is not in flight", extra={"envelope": attempt.envelope})
        return
    subject = Subject.of(row)
    write_history(tx, subject, attempt, settlement.event)
    tx.lanes.add(subject.lane)
    removed = subject.asked == ASKED_REMOVE
    if settlement.report is not None and not (removed and settlement.event is not Event.DELIVERED):
        line = _Line(settlement.event, attempt.outcome, attempt.ended)
        add_report(tx, subject, settlement.report, line)
    if settlement.event.is_final or removed:
        end(tx, subject)
    else:
        _wait(tx, subject, settlement)


def judge(tx: Transaction, verdict: LaneVerdict) -> None:
    """Write down what a lane's route proved to be."""
    if isinstance(verdict, LaneFailed):
        tx.execute(SQL["lane_failed"], (verdict.at, verdict.not_before, verdict.reason, verdict.lane_id))
    else:
        tx.execute(SQL["lane_opened"], (verdict.lane_id,))


def expire(tx: Transaction, lane_id: int, at: int) -> int:
    """End what waits in a lane whose route failed at ``at``, after the deadline; at most `SWEEP_BATCH`."""
    outcome = _lane_trouble(tx, lane_id)
    ids = [row[0] for row in tx.execute(SQL["overdue"], (lane_id, at, SWEEP_BATCH))]
    for row in _subjects(tx, ids):
        subject = Subject.of(row)
        envelope = envelope_id(MessageId(row[17]), row[18])
        write_history(tx, subject, Attempt(envelope, at, at, "", outcome), Event.EXPIRED)
        _report_if_owed(tx, subject, row, _Line(Event.EXPIRED, outcome, at))
        end(tx, subject)
    tx.lanes.add(lane_id)
    return len(ids)


def warn(tx: Transaction, lane_id: int, at: int, warn_intervals: tuple[int, ...]) -> int:
    """Queue the delay notices that are owed for what waits in a lane; at most `SWEEP_BATCH`."""
    outcome = _lane_trouble(tx, lane_id)
    ids = [row[0] for row in tx.execute(SQL["unwarned"], (lane_id, at, SWEEP_BATCH))]
    for row in _subjects(tx, ids):
        subject = Subject.of(row)
        _report_if_owed(tx, subject, row, _Line(Event.DEFERRED, outcome, at))
        tx.execute(SQL["set_warn_at"], (next_warning(row[19], at, warn_intervals), subject.envelope))
    tx.lanes.add(lane_id)
    return len(ids)


def _subjects(tx: Transaction, ids: list[int]) -> list[Row]:
    """The rows of these envelopes in their order; those that cannot be read are set aside."""
    rows = read_rows(tx.connection, SQL["subjects"], ids)
    for one in ids:
        if one not in rows.whole:
            damage(tx, one, rows.spoilt.get(one, "its message is not there"))
    return [rows.whole[one] for one in ids if one in rows.whole]


def _report_if_owed(tx: Transaction, subject: Subject, row: Row, line: _Line) -> None:
    kind = report_owed(subject.kind, subject.sender, Notify(row[16] or 0), line.event, line.outcome)
    if kind is not None:
        add_report(tx, subject, kind, line)


def report_lines(connection: sqlite3.Connection, envelope: EnvelopeId) -> list[ReportLine]:
    """What a report envelope is about; raises `UnknownEnvelope`."""
    row: Row | None = connection.execute(SQL["find_envelope"], key_of(envelope)).fetchone()
    if row is None:
        raise UnknownEnvelope(f"no envelope {envelope}")
    return [read_report_line(line) for line in connection.execute(SQL["report_lines"], (row[0],))]


@dataclass(frozen=True, slots=True)
class _Line:
    event: Event
    outcome: Outcome
    at: int


def add_report(tx: Transaction, subject: Subject, kind: Kind, line: _Line) -> None:
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
    tx.execute(SQL["delete_envelope"], (subject.envelope,))
    tx.lanes.add(subject.lane)
    tx.messages.add(subject.message)


def _wait(tx: Transaction, subject: Subject, settlement: Settlement) -> None:
    attempt = settlement.attempt
    error = str(attempt.outcome.reply)
    tx.execute(SQL["defer_envelope"], (settlement.due, settlement.warn_at, attempt.ended, error, subject.envelope))


def write_history(tx: Transaction, subject: Subject, attempt: Attempt, event: Event) -> None:
    """Keep an attempt, with names as values: it outlives its message."""
    given, destination = str(subject.given), str(subject.address)
    names = (str(subject.sender), given, "" if destination == given else destination)
    what = (EVENT_CODE[event], attempt.started, attempt.ended, attempt.route)
    tx.execute(SQL["insert_attempt"], (*key_of(attempt.envelope), *names, *what, *outcome_columns(attempt.outcome)))


def _lane_trouble(tx: Transaction, lane_id: int) -> Deferred:
    row: Row | None = tx.execute(SQL["lane_trouble"], (lane_id,)).fetchone()
    return Deferred(Reply(451, "4.4.7", row[0] if row else ""), stage=Stage.ROUTE)
