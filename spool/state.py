"""The life of an envelope: its states and the events that move it.

=============  ==================================================  =======================================
from           event                                               to
=============  ==================================================  =======================================
(nothing)      ACCEPTED                                            READY
READY          CLAIMED (due, lane open), with a lease              INFLIGHT
INFLIGHT       DELIVERED                                           gone
INFLIGHT       DEFERRED                                            READY, later due
INFLIGHT       FAILED, or EXPIRED: deferred past its deadline      gone, its bounce READY
READY          EXPIRED: its lane failed after its deadline         gone, its bounce READY
INFLIGHT       RECOVERED: the lease is of an earlier start         READY
READY, HELD    HELD / RELEASED by the operator                     HELD / READY
READY, HELD    REMOVED by the operator                             gone
INFLIGHT       HELD or REMOVED by the operator                     marked, obeyed when the attempt ends
any            DAMAGED: a body or a row that cannot be trusted     DAMAGED, until released or removed
=============  ==================================================  =======================================

`spool.settlement` decides which event an attempt's outcome is; the store applies each event in one transaction.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where an envelope stands. The values are what the database keeps."""

    READY = "ready"
    INFLIGHT = "inflight"
    HELD = "held"
    DAMAGED = "damaged"


class Kind(enum.Enum):
    """What an envelope carries: a message on its way, or a report about one (RFC 3464 2.3.3 names the reports)."""

    MAIL = "mail"
    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"

    @property
    def is_report(self) -> bool:
        """Whether delivering this envelope means telling the sender something."""
        return self is not Kind.MAIL


class Event(enum.Enum):
    """What can happen to an envelope in flight when its attempt ends."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether the envelope is gone afterwards."""
        return self is not Event.DEFERRED
