"""What a report to a sender says: one line for each recipient it is about (RFC 3464 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from spool.message import Destination, Recipient
from spool.outcome import Outcome
from spool.state import Event


@dataclass(frozen=True, slots=True)
class ReportLine:
    """What became of one recipient, at spool time ``at`` (ms). ``Event.DEFERRED`` means that it still waits."""

    recipient: Recipient
    destination: Destination
    event: Event
    outcome: Outcome
    at: int
    #: Until when it is or was tried (spool ms).
    deadline: int
