"""What an outcome means: which event, which report, when the next notice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spool.address import NULL_SENDER
from spool.bodies import SmallBody
from spool.ids import envelope_id
from spool.message import Claimed, Envelope, Notify, Recipient
from spool.outcome import Attempt, Delivered, Outcome
from spool.reply import Reply
from spool.settlement import next_warning, settle
from spool.state import Event, Kind, State
from tests.tools.spooled import DONE, HOUR, LATER, NEVER, RELAY, submission

LOCAL = Delivered(Reply(250, "2.0.0", "in the mailbox"))
PASSED_ON = replace(DONE, dsn_passed_on=True)
EVERY = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY
INTERVALS = (4 * HOUR, 24 * HOUR)


def claimed(notify: Notify = EVERY, kind: Kind = Kind.MAIL) -> Claimed:
    """An envelope that arrived at 0, expires after 48 hours, and is owed a notice after 4."""
    message = submission(0).message
    new = submission(0).envelopes[0]
    recipient = Recipient(new.recipient.address, "", notify, True)
    times = (0, 48 * HOUR, 4 * HOUR)
    envelope = Envelope(envelope_id(message.id, 1), recipient, new.destination, RELAY, kind, State.INFLIGHT, 0, *times)
    return Claimed(1, envelope, message, SmallBody(b""))


def attempt(what: Claimed, outcome: Outcome, ended: int = HOUR) -> Attempt:
    return Attempt(what.envelope.id, ended, ended, "route", outcome)


@pytest.mark.parametrize(
    ("outcome", "ended", "event"),
    [
        (DONE, HOUR, Event.DELIVERED),
        (DONE, 99 * HOUR, Event.DELIVERED),
        (NEVER, HOUR, Event.FAILED),
        (LATER, HOUR, Event.DEFERRED),
        (LATER, 48 * HOUR - 1, Event.DEFERRED),
        (LATER, 48 * HOUR, Event.EXPIRED),
    ],
)
def test_an_outcome_is_an_event(outcome: Outcome, ended: int, event: Event) -> None:
    what = claimed()
    assert settle(what, attempt(what, outcome, ended), 0, INTERVALS).event is event


@pytest.mark.parametrize(
    ("outcome", "ended", "notify", "report"),
    [
        (NEVER, HOUR, Notify.FAILURE, Kind.FAILED),
        (NEVER, HOUR, Notify.SUCCESS | Notify.DELAY, None),
        (NEVER, HOUR, Notify.NEVER, None),
        (LATER, 48 * HOUR, Notify.FAILURE, Kind.FAILED),
        (LATER, HOUR, EVERY, None),
        (LATER, 4 * HOUR, Notify.DELAY, Kind.DELAYED),
        (LATER, 4 * HOUR, Notify.FAILURE | Notify.SUCCESS, None),
        (DONE, HOUR, Notify.SUCCESS, Kind.RELAYED),
        (PASSED_ON, HOUR, Notify.SUCCESS, None),
        (LOCAL, HOUR, Notify.SUCCESS, Kind.DELIVERED),
        (LOCAL, HOUR, Notify.FAILURE, None),
    ],
)
def test_a_sender_is_told_what_was_asked_for(outcome: Outcome, ended: int, notify: Notify, report: Kind | None) -> None:
    what = claimed(notify)
    assert settle(what, attempt(what, outcome, ended), 0, INTERVALS).report is report


@pytest.mark.parametrize("outcome", [NEVER, LOCAL])
def test_a_null_sender_is_told_nothing(outcome: Outcome) -> None:
    what = claimed()
    bounce = replace(what, message=replace(what.message, return_path=NULL_SENDER))
    assert settle(bounce, attempt(bounce, outcome), 0, INTERVALS).report is None


def test_a_report_is_never_reported_on() -> None:
    what = claimed(kind=Kind.FAILED)
    assert settle(what, attempt(what, NEVER), 0, INTERVALS).report is None


def test_the_next_notice_counts_from_the_messages_arrival() -> None:
    what = claimed()
    assert settle(what, attempt(what, LATER, 5 * HOUR), 0, INTERVALS).warn_at == 24 * HOUR
    assert settle(what, attempt(what, LATER, HOUR), 0, INTERVALS).warn_at == 4 * HOUR
    assert next_warning(0, 24 * HOUR, INTERVALS) is None
