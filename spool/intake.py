"""How a message enters the spool: rows for message, body, recipients and envelopes, in one transaction.

Guarantees: a message is there with all its envelopes and its body, or not at all. A drop file is taken once.

Failure: `DuplicateMessage`; `ValueError` for a submission that contradicts itself, which is a mistake of the caller.
"""

from __future__ import annotations

import sqlite3

from spool.bodies import StoredBody, checksum
from spool.errors import DuplicateMessage
from spool.message import Message, NewEnvelope, Recipient, Submission
from spool.outcomes import refuse, tell_expanded
from spool.rows import Row, destination_columns, message_columns, recipient_columns, seal_columns
from spool.settlement import will_be_told
from spool.store import SQL, Transaction


def accept(tx: Transaction, submission: Submission) -> None:
    """Write a message down; its large body, if it has one, is durable already."""
    _check(submission)
    message_id = _insert_message(tx, submission)
    numbers = _insert_recipients(tx, message_id, submission)
    rows = [
        _envelope_row(tx, submission.message.arrived, new, (message_id, ordinal, numbers[new.recipient]))
        for ordinal, new in enumerate(submission.envelopes, 1)
    ]
    tx.connection.executemany(SQL["insert_envelope"], rows)
    for ordinal, refusal in enumerate(submission.refused, len(submission.envelopes) + 1):
        refuse(tx, submission.message, (message_id, ordinal, numbers[refusal.recipient]), refusal)
    for recipient in submission.expanded:
        tell_expanded(tx, submission.message, (message_id, numbers[recipient]), recipient)
    tx.made_due = True


def _envelope_row(tx: Transaction, arrived: int, new: NewEnvelope, keys: tuple[int, int, int]) -> Row:
    lane_id = tx.lane_id(new.lane)
    tx.lanes.add(lane_id)
    warn_at = None if new.warn_after is None else arrived + new.warn_after
    return (*keys, *destination_columns(new.destination), lane_id, 0, tx.now, arrived + new.ttl, warn_at)


def _check(submission: Submission) -> None:
    body = submission.body
    size = len(body) if isinstance(body, bytes) else body.size
    if size != submission.message.size:
        raise ValueError(f"a body of {size} octets for a message that says {submission.message.size}")
    if not submission.envelopes and not will_be_told(submission.message.return_path, submission.refused):
        raise ValueError("a message without an envelope has nowhere to go")


def insert_message(tx: Transaction, message: Message, body: bytes | StoredBody, last_ordinal: int) -> int:
    """Write a message and its body down, without recipients; its row. Raises `DuplicateMessage`."""
    if isinstance(body, StoredBody):
        digest, file, seal, content = body.checksum, body.name, body.seal, None
    else:
        digest, file = checksum(body), None
        seal, content = tx.bodies.seal_small(message.id, body)
    columns = (*message_columns(message, digest, file, last_ordinal), *seal_columns(seal))
    try:
        message_id = tx.execute(SQL["insert_message"], columns).lastrowid
    except sqlite3.IntegrityError as error:
        raise DuplicateMessage(message.id) from error
    assert message_id is not None
    if content is not None:
        tx.execute(SQL["insert_body"], (message_id, content))
    return message_id


def _insert_message(tx: Transaction, submission: Submission) -> int:
    ordinals = len(submission.envelopes) + len(submission.refused)
    message_id = insert_message(tx, submission.message, submission.body, ordinals)
    if submission.drop:
        try:
            tx.execute(SQL["insert_drop"], (submission.drop, tx.now))
        except sqlite3.IntegrityError as error:
            raise DuplicateMessage(f"{submission.message.id} {submission.drop}") from error
    return message_id


def _insert_recipients(tx: Transaction, message_id: int, submission: Submission) -> dict[Recipient, int]:
    numbers: dict[Recipient, int] = {}
    for new in submission.envelopes:
        numbers.setdefault(new.recipient, len(numbers) + 1)
    for refusal in submission.refused:
        numbers.setdefault(refusal.recipient, len(numbers) + 1)
    for recipient in submission.expanded:
        numbers.setdefault(recipient, len(numbers) + 1)
    rows = [(message_id, number, *recipient_columns(recipient)) for recipient, number in numbers.items()]
    tx.connection.executemany(SQL["insert_recipient"], rows)
    return numbers
