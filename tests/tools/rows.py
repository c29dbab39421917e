"""Rows of the control protocol with everything that a test does not care about filled in."""

from __future__ import annotations

import msgspec

from control.protocol import AttemptRow, EnvelopeRow, LaneRow, MailRow

#: A Monday, in UTC: 2026-11-23T02:24:39Z.
ARRIVED = 1795400679.0

_ENVELOPE = EnvelopeRow(
    id="0dqe8uk7v0abcdefghij.1",
    message="0dqe8uk7v0abcdefghij",
    kind="mail",
    state="ready",
    sender="ann@example.org",
    recipient="bob@example.net",
    destination="bob@example.net",
    user="",
    action="relay",
    key="",
    size=361,
    client="127.0.0.1",
    login="",
    uid=None,
    arrived=ARRIVED,
    expires=ARRIVED + 4 * 86400,
    next_try=ARRIVED + 400,
    since=None,
    lane_stopped=False,
    asked="",
    last_try=ARRIVED + 1,
    attempts=1,
    error="451 4.2.0 try again",
)

_ATTEMPT = AttemptRow(
    envelope=_ENVELOPE.id,
    sender="ann@example.org",
    recipient="bob@example.net",
    destination="bob@example.net",
    started=ARRIVED,
    ended=ARRIVED + 1,
    route="smtp://mail.example.net:25",
    remote="mail.example.net [192.0.2.1]",
    event="deferred",
    stage="rcpt",
    reply="451 4.2.0 try again",
)

_LANE = LaneRow(
    action="relay", key="", waiting=2, next_try=ARRIVED + 400, failures=0, paused=False, parked=False, error=""
)


def envelope(**changes: object) -> EnvelopeRow:
    return msgspec.structs.replace(_ENVELOPE, **changes)


def attempt(**changes: object) -> AttemptRow:
    return msgspec.structs.replace(_ATTEMPT, **changes)


def lane(**changes: object) -> LaneRow:
    return msgspec.structs.replace(_LANE, **changes)


def mail(**changes: object) -> MailRow:
    """What mailq shows of such an envelope."""
    row = envelope(**changes)
    return MailRow(row.message, row.size, int(row.arrived), row.sender, row.state, row.destination, row.error)
