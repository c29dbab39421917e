"""The queue as people see it, in values: an envelope in a listing, one that cannot be read, a line of history, counts.

Failure: a row that says something impossible becomes a `CorruptEntry`, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from spool.address import Address
from spool.ids import EnvelopeId, MessageId, envelope_id
from spool.outcome import Attempt
from spool.rows import EVENTS, KINDS, STATES, CorruptRow, Row, read_outcome
from spool.state import Event, Kind, State


class QueueEntry(NamedTuple):
    """One envelope as listings show it. Times are spool time (ms) but for ``received_at`` (wall, seconds).

    A tuple of what the database says, so that a hundred thousand are soon made; the properties are the words for it.
    """

    row: int
    message: MessageId
    ordinal: int
    kind_code: int
    state_code: int
    asked: int
    sender_local: str
    sender_domain: str
    #: The recipient as given, None for a report.
    given_local: str | None
    given_domain: str | None
    local: str
    domain: str
    user: str
    extension: str
    target: str
    action: str
    key: str
    #: Who submitted it: IP address or ``local``, login, uid.
    client: str
    login: str
    uid: int | None
    arrived: int
    received_at: float
    size: int
    due: int
    deadline: int
    attempts: int
    #: When it was claimed last, and when an attempt ended last.
    since: int | None
    last_try: int | None
    #: What its own last attempt came to, or why it was set aside.
    error: str
    lane_not_before: int
    lane_error: str
    lane_paused: int
    lane_parked: int

    @property
    def id(self) -> EnvelopeId:
        """The envelope's id."""
        return envelope_id(self.message, self.ordinal)

    @property
    def kind(self) -> Kind:
        """Mail, or which report."""
        return KINDS[self.kind_code]

    @property
    def state(self) -> State:
        """Where it stands."""
        return STATES[self.state_code]

    @property
    def sender(self) -> Address:
        """The message's return path."""
        return Address(self.sender_local, self.sender_domain)

    @property
    def recipient(self) -> Address:
        """The recipient as given; for a report, to whom it goes."""
        if self.given_local is None or self.given_domain is None:
            return self.sender
        return Address(self.given_local, self.given_domain)

    @property
    def destination(self) -> Address:
        """Where this envelope ends."""
        return Address(self.local, self.domain)

    @property
    def wakes(self) -> int | None:
        """When it will be tried next, if nothing changes; None when it will not."""
        if self.state is not State.READY or self.lane_paused or self.lane_parked:
            return None
        return max(self.due, self.lane_not_before)

    @property
    def reason(self) -> str:
        """Why it is still here: its own trouble, or else its lane's; empty when it was never tried."""
        return self.error or self.lane_error


@dataclass(frozen=True, slots=True)
class CorruptEntry:
    """An envelope that cannot be shown."""

    #: Its id, or ``row`` and a number where even that cannot be read.
    id: str
    reason: str


Entry: TypeAlias = QueueEntry | CorruptEntry


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and the place after them; None when there are no more."""

    entries: list[Entry]
    next: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """A line of the history: an attempt with the names it was about, and what it meant."""

    attempt: Attempt
    event: Event
    sender: str
    #: As given at RCPT.
    recipient: str
    #: Where it ended, when that is another address; empty otherwise.
    destination: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is. Made by counting: not for hot paths."""

    messages: int
    reports: int
    by_state: Mapping[State, int]


def read_entry(row: Row) -> Entry:
    """The entry of a row of ``queue_entries``."""
    number, name, ordinal, kind, state = row[:5]
    given, action = row[8], row[15]
    shown = f"row {number}" if name is None else f"{name}.{ordinal}"
    if name is None:
        return CorruptEntry(shown, "its message is not there")
    if action is None:
        return CorruptEntry(shown, "its lane is not there")
    if kind not in KINDS or state not in STATES:
        return CorruptEntry(shown, f"impossible kind {kind} or state {state}")
    if given is None and not kind:
        return CorruptEntry(shown, "its recipient is not there")
    return QueueEntry._make(row)


def read_past(row: Row) -> PastAttempt | CorruptEntry:
    """The line of history of a row of ``attempts_like``."""
    message, ordinal, sender, recipient, destination, event, started, ended, route = row[:9]
    envelope = envelope_id(MessageId(message), ordinal)
    try:
        attempt = Attempt(envelope, started, ended, route, read_outcome(row[9:]))
        return PastAttempt(attempt, EVENTS[event], sender, recipient, destination)
    except (CorruptRow, KeyError) as error:
        return CorruptEntry(envelope, str(error))
