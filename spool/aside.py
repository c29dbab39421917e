"""Setting damage aside: an envelope that cannot be sent as it was accepted is shown, never sent, and its sender is told.

Guarantees: the envelope stays, with its reason, until an operator releases or removes it; the report to the sender is the
same transaction. A row so damaged that it does not say who its sender is, is shown all the same.

Failure: none of its own.
"""

from __future__ import annotations

from typing import Final

from spool.ids import EnvelopeId
from spool.keys import find
from spool.outcome import Attempt, Failed
from spool.outcomes import Line, damage, read_subjects, report_if_owed, write_history
from spool.reading import read_rows
from spool.reply import Reply
from spool.rows import CorruptRow, read_message
from spool.state import Event
from spool.store import SQL, Transaction

#: What history and sender are told; the reason itself names files of this machine, and is for the operator.
DAMAGED: Final = Failed(
    Reply(554, "5.3.0", "The message was damaged on this server's disk. It is not sent: please send it again")
)


def set_aside(tx: Transaction, envelope: EnvelopeId, reason: str, *, tells: bool = True) -> None:
    """DAMAGED, whatever it was; raises `UnknownEnvelope`."""
    row = find(tx, envelope)
    if tells:
        set_aside_row(tx, row[0], reason)
    else:
        damage(tx, row[0], reason)
    tx.lanes.add(row[2])


def set_aside_row(tx: Transaction, row: int, reason: str) -> None:
    """The same by row id; the caller says which lane was touched."""
    damage(tx, row, reason)
    subjects, _ = read_subjects(tx.connection, [row])
    for subject in subjects:
        write_history(tx, subject, Attempt(subject.id, tx.now, tx.now, "", DAMAGED), Event.FAILED)
        if _is_readable(tx, subject.message):
            report_if_owed(tx, subject, Line(Event.FAILED, DAMAGED, tx.now))


def _is_readable(tx: Transaction, message: int) -> bool:
    """Whether a report about this message could be made."""
    row = read_rows(tx.connection, SQL["messages"], [message]).whole.get(message)
    try:
        return row is not None and bool(read_message(row[1:16]))
    except CorruptRow:
        return False
