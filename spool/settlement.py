"""What an attempt's outcome means for its envelope: which event, when again, which report.

Guarantees: `settle` is a pure function of its arguments; the store's ``record`` applies what it says in one transaction.

RFC 3461 5.2 (who is told what), RFC 5321 4.5.5 (nobody is told about mail with a null sender).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from spool.address import Address
from spool.message import Claimed, Notify, Recipient, Refusal
from spool.outcome import Attempt, Deferred, Delivered, Failed, Outcome
from spool.state import Event, Kind


@dataclass(frozen=True, slots=True)
class Settlement:
    """What ``record`` writes for one envelope whose attempt has ended."""

    attempt: Attempt
    event: Event
    #: When to try again (spool ms); of no meaning when the event is final.
    due: int
    #: The report that the sender is owed now, or None.
    report: Kind | None
    #: When the next delay notice is owed (spool ms), or None.
    warn_at: int | None


def settle(claimed: Claimed, attempt: Attempt, due: int, warn_intervals: tuple[int, ...]) -> Settlement:
    """Decide what an attempt means for its envelope.

    ``due`` is when to try again after a deferral; ``warn_intervals`` are milliseconds after arrival at which a waiting
    message earns its sender a delay notice, ascending.
    """
    event = _event_of(claimed, attempt)
    warn_at = claimed.envelope.warn_at
    overdue = event is Event.DEFERRED and warn_at is not None and attempt.ended >= warn_at
    if overdue:
        warn_at = next_warning(claimed.message.arrived, attempt.ended, warn_intervals)
    return Settlement(attempt, event, due, _report_of(claimed, attempt, event, overdue), warn_at)


def next_warning(arrived: int, now: int, warn_intervals: tuple[int, ...]) -> int | None:
    """The first instant after ``now`` at which a delay notice is owed, counted from the message's arrival."""
    return next((arrived + interval for interval in warn_intervals if arrived + interval > now), None)


def _event_of(claimed: Claimed, attempt: Attempt) -> Event:
    match attempt.outcome:
        case Delivered():
            return Event.DELIVERED
        case Failed():
            return Event.FAILED
        case Deferred():
            return Event.EXPIRED if attempt.ended >= claimed.envelope.deadline else Event.DEFERRED


def report_owed(kind: Kind, sender: Address, notify: Notify, event: Event, outcome: Outcome) -> Kind | None:
    """The report that ``event`` earns the sender, or None; for a deferral, when a delay notice would be due now.

    Nobody is told about a report, or about mail with a null sender.
    """
    if kind.is_report or sender.is_null:
        return None
    match event:
        case Event.FAILED | Event.EXPIRED:
            return Kind.FAILED if Notify.FAILURE in notify else None
        case Event.DEFERRED:
            return Kind.DELAYED if Notify.DELAY in notify else None
        case Event.DELIVERED:
            return _success_report(outcome) if Notify.SUCCESS in notify else None


def will_be_told(sender: Address, refused: Iterable[Refusal]) -> bool:
    """Whether a report tells ``sender`` of at least one of the recipients that were refused."""
    return any(
        report_owed(Kind.MAIL, sender, refusal.recipient.notify, Event.FAILED, Failed(refusal.reply)) is not None
        for refusal in refused
    )


def shared(recipient: Recipient) -> Recipient:
    """``recipient``, as one of several that it stands for: of their successes nobody is told (RFC 3461 5.2.7.2)."""
    return replace(recipient, notify=recipient.notify & ~Notify.SUCCESS, notify_given=True)


def _report_of(claimed: Claimed, attempt: Attempt, event: Event, overdue: bool) -> Kind | None:
    if event is Event.DEFERRED and not overdue:
        return None
    envelope = claimed.envelope
    return report_owed(envelope.kind, claimed.message.return_path, envelope.recipient.notify, event, attempt.outcome)


def _success_report(outcome: Outcome) -> Kind | None:
    assert isinstance(outcome, Delivered)
    if not outcome.remote:
        return Kind.DELIVERED
    return None if outcome.dsn_passed_on else Kind.RELAYED
