"""From an envelope's id to its row.

Failure: `UnknownEnvelope`.
"""

from __future__ import annotations

from spool.errors import UnknownEnvelope
from spool.ids import EnvelopeId
from spool.rows import Row
from spool.store import SQL, Transaction


def key_of(envelope: EnvelopeId) -> tuple[str, int]:
    """Message and ordinal, as the queries want them; raises `UnknownEnvelope` for what is no envelope id."""
    message, _, ordinal = envelope.partition(".")
    if not ordinal.isdecimal():
        raise UnknownEnvelope(f"{envelope!a} is no envelope")
    return message, int(ordinal)


def find(tx: Transaction, envelope: EnvelopeId) -> Row:
    """Envelope, message, lane (row ids), state and what was asked (codes); raises `UnknownEnvelope`."""
    row: Row | None = tx.execute(SQL["find_envelope"], key_of(envelope)).fetchone()
    if row is None:
        raise UnknownEnvelope(f"no envelope {envelope}")
    return row
