"""What came of the envelopes of a batch on this machine: one entry each, and a line in the log.

Guarantees: `results` has one entry for each envelope, in the order they were given.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from delivery.consignment import duration
from spool.ids import EnvelopeId
from spool.message import Claimed
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Outcome

_RESULTS: Final = {Delivered: "Ok", Deferred: "TempFail", Failed: "PermFail"}

#: All that is said of local delivery has one name, so that it is traced together.
_log = logging.getLogger("delivery.agent")


class Ledger:
    """See the module. ``now`` is spool time in milliseconds."""

    def __init__(self, items: Sequence[Claimed], now: Callable[[], int]) -> None:
        self._items = items
        self._now = now
        self._started = now()
        self._session = secrets.token_hex(8)
        self._results: dict[EnvelopeId, Attempt | Damaged] = {}

    def waiting(self) -> list[Claimed]:
        """Those without an entry."""
        return [one for one in self._items if one.envelope.id not in self._results]

    def settle(self, one: Claimed, route: str, outcome: Outcome, user: str = "") -> None:
        """So it ended. ``user`` is whose files it was about, when that is not the recipient."""
        name = one.envelope.id
        attempt = self._results[name] = Attempt(name, self._started, self._now(), route, outcome)
        if _log.isEnabledFor(logging.INFO):
            self._log(one, attempt, user or one.envelope.destination.user or "-")

    def spoil(self, one: Claimed, reason: str) -> None:
        """Its body is damaged; nothing of it was delivered."""
        self._results[one.envelope.id] = Damaged(one.envelope.id, reason)

    def results(self) -> list[Attempt | Damaged]:
        """See the module."""
        return [self._results[one.envelope.id] for one in self._items]

    def _log(self, one: Claimed, attempt: Attempt, user: str) -> None:
        _log.info(
            "%s mda delivery evpid=%s from=<%s> to=<%s> rcpt=<%s> user=%s delay=%s result=%s stat=%s",
            self._session,
            attempt.envelope,
            one.message.return_path,
            one.envelope.destination.address,
            one.envelope.recipient.address,
            user,
            duration(attempt.ended - one.message.arrived),
            _RESULTS[type(attempt.outcome)],
            _stat(attempt.outcome),
        )


def _stat(outcome: Outcome) -> str:
    if isinstance(outcome, Delivered):
        return "Delivered"
    return outcome.reply.text if outcome.reply.status == "5.4.6" else f"Error ({outcome.reply.text})"
