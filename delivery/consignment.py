"""One message on its way to its recipients: who still waits, and what came of the others.

Guarantees: each envelope ends once; `results` has one for each, in the order they were given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from delivery.commands import Parcel
from policy.config import Relay
from policy.route import Route
from spool.address import Address
from spool.ids import EnvelopeId
from spool.message import Claimed
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Outcome

#: A session's name in the log, where there was none.
NO_SESSION = "0" * 16

_RESULTS = {Delivered: "Ok", Deferred: "TempFail", Failed: "PermFail"}

#: All that is said of relaying has one name, so that it is traced together.
log = logging.getLogger("delivery.relay")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happened, for the history and the log."""

    route: str
    session: str = NO_SESSION
    source: str = "-"


class Consignment:
    """See the module. ``now`` is spool time in milliseconds."""

    def __init__(self, items: Sequence[Claimed], route: Route, now: Callable[[], int]) -> None:
        self.parcel = Parcel(items[0].message, sender_by(route, items[0].message.return_path), items[0].body)
        self._items = items
        self._waiting = {item.envelope.id: item for item in items}
        self._results: dict[EnvelopeId, Attempt | Damaged] = {}
        self._now = now
        self._started = now()

    @property
    def is_done(self) -> bool:
        """Whether nobody waits any more."""
        return not self._waiting

    def waiting(self, limit: int | None = None) -> list[Claimed]:
        """Those without an outcome, the first ``limit`` of them."""
        return list(islice(self._waiting.values(), limit))

    def settle(self, items: Iterable[Claimed], outcome: Outcome, place: Place) -> None:
        """So it ended for these."""
        for item in items:
            name = item.envelope.id
            del self._waiting[name]
            attempt = Attempt(name, self._started, self._now(), place.route, outcome)
            self._results[name] = attempt
            self._log(item, attempt, place)

    def spoil(self, reason: str) -> None:
        """The body is damaged: nobody who still waits can get it."""
        for name in self._waiting:
            self._results[name] = Damaged(name, reason)
        self._waiting = {}

    def results(self) -> list[Attempt | Damaged]:
        """What came of it, for each envelope in order."""
        return [self._results[item.envelope.id] for item in self._items]

    def _log(self, item: Claimed, attempt: Attempt, place: Place) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        envelope, outcome = item.envelope, attempt.outcome
        to, rcpt = envelope.destination.address, envelope.recipient.address
        log.info(
            '%s mta delivery evpid=%s from=<%s> to=<%s> rcpt=<%s> source="%s" relay="%s" delay=%s result="%s" stat="%s"',
            place.session,
            envelope.id,
            self.parcel.sender,
            to,
            "-" if to == rcpt else rcpt,
            place.source,
            outcome.remote or "-",
            duration(attempt.ended - item.message.arrived),
            _RESULTS[type(outcome)],
            outcome.reply,
        )


def duration(milliseconds: int) -> str:
    """``1d2h3m4s``, without the parts that are zero."""
    left = max(0, milliseconds) // 1000
    text = ""
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def sender_by(route: Route, sender: Address) -> Address:
    """The envelope sender, with what ``mail-from`` replaces of it; the null sender stays what it is (RFC 5321 4.5.5)."""
    mail_from = route.action.mail_from if isinstance(route.action, Relay) else ""
    if sender.is_null or not mail_from:
        return sender
    if "@" not in mail_from:
        return Address(mail_from, sender.domain)
    local, _, domain = mail_from.rpartition("@")
    return Address(local or sender.local, domain or sender.domain)
