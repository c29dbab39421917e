"""The queue's values as rows for people: the same whether the daemon answers or the stopped spool is read.

Guarantees: `rows` is lazy, a page of the queue at a time; who may not see everything sees their own mail alone, and cannot
tell other people's from what is not there.

Failure: `UnknownEnvelope` and `IdSyntaxError` for an id that means nothing; `SpoolError`, of which `BodyDamaged` may come in
the middle of a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from control.protocol import (
    CHUNK,
    MAX_COUNTED,
    AnyAnswer,
    AttemptRow,
    Chunk,
    CountQueue,
    CountRow,
    EnvelopeRow,
    LaneRow,
    MailRow,
    ShowAttempts,
    ShowLanes,
    ShowMail,
    ShowMessage,
    ShowQueue,
)
from spool.clock import SpoolClock
from spool.entry import CorruptEntry, Entry, PastAttempt, QueueEntry
from spool.errors import UnknownEnvelope
from spool.filter import ANY, Filter, Trait
from spool.lane import LaneStatus
from spool.listing import PAGE, QueueReader
from spool.rows import ASKED_HOLD, ASKED_REMOVE
from spool.selection import Selection, select

ListingRequest: TypeAlias = ShowQueue | ShowMail | CountQueue | ShowMessage | ShowAttempts | ShowLanes

_ASKED: Final = {ASKED_HOLD: "hold", ASKED_REMOVE: "remove"}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. ``uid`` None sees everything and may do everything."""

    uid: int | None = None

    @property
    def is_operator(self) -> bool:
        """Whether this is root or the daemon's own user."""
        return self.uid is None

    def sees(self, entry: Entry) -> bool:
        """Whether they may know of an envelope."""
        return self.is_operator or (isinstance(entry, QueueEntry) and entry.uid == self.uid)

    def may_choose(self, wanted: Filter) -> Filter:
        """``wanted``, of what they may know of."""
        if self.uid is None:
            return wanted
        if wanted.uid not in (None, self.uid):
            raise Forbidden("the mail of others is shown to root and to the daemon's own user")
        return msgspec.structs.replace(wanted, uid=self.uid)


class Forbidden(Exception):
    """The request is not for this viewer."""


def rows(reader: QueueReader, request: ListingRequest, viewer: Viewer) -> Iterator[AnyAnswer]:
    """What ``request`` asks for, as far as ``viewer`` may see it."""
    match request:
        case ShowQueue():
            return _queue(reader, select(request.id, viewer.may_choose(request.filter)), viewer)
        case ShowMail():
            return _mail(reader, select("all", viewer.may_choose(ANY)), viewer)
        case CountQueue():
            return _counts(reader, select(request.id, viewer.may_choose(request.filter)), request.by)
        case ShowMessage():
            return _message(reader, select(request.id), viewer)
        case ShowAttempts():
            return _attempts(reader, select(request.id), viewer)
        case ShowLanes():
            return _lanes(reader, viewer)


def _queue(reader: QueueReader, selection: Selection, viewer: Viewer) -> Iterator[AnyAnswer]:
    found: str | None = None
    for entry in reader.entries(selection):
        if not viewer.sees(entry):
            continue
        row = _envelope_row(entry, reader.clock)
        if selection.message and found not in (None, row.message):
            raise UnknownEnvelope(f"more than one message begins with {selection.message}")
        found = row.message
        yield row
    if selection.message and found is None:
        raise UnknownEnvelope(f"no message {selection.message}")


def _mail(reader: QueueReader, selection: Selection, viewer: Viewer) -> Iterator[AnyAnswer]:
    for page in reader.brief(selection):
        if isinstance(page, str):
            line = page.encode()
        else:
            line = msgspec.json.encode([_mail_row(entry) for entry in page if viewer.sees(entry)])
        yield from _chunks(line + b"\n")


def _mail_row(entry: Entry) -> MailRow:
    if isinstance(entry, CorruptEntry):
        row = _unreadable(entry)
        return MailRow(row.message, row.size, int(row.arrived), row.sender, row.state, row.destination, row.error)
    sender = "" if entry.kind_code else str(entry.sender)
    return MailRow(
        entry.message,
        entry.size,
        int(entry.received_at),
        sender,
        entry.state.value,
        str(entry.destination),
        _why(entry),
    )


def _why(entry: QueueEntry) -> str:
    """Why nothing can happen says more than what happened last."""
    return entry.lane_error if entry.lane_parked else entry.reason


def _chunks(data: bytes) -> Iterator[Chunk]:
    for start in range(0, len(data), CHUNK):
        yield Chunk(data[start : start + CHUNK])


def _counts(reader: QueueReader, selection: Selection, trait: Trait | None) -> Iterator[AnyAnswer]:
    tally = reader.tally(selection, trait)
    if trait is None:
        yield CountRow("", tally.total)
        return
    for value, count in tally.named(trait):
        yield CountRow(value[:MAX_COUNTED], count)
    if tally.others:
        yield CountRow("", tally.others, others=True)


def _message(reader: QueueReader, selection: Selection, viewer: Viewer) -> Iterator[AnyAnswer]:
    message, body = reader.message(selection)
    if not viewer.is_operator and message.client.uid != viewer.uid:
        raise UnknownEnvelope(f"no message {selection.message}")
    for piece in body.chunks():
        yield from _chunks(piece)


def _attempts(reader: QueueReader, selection: Selection, viewer: Viewer) -> Iterator[AnyAnswer]:
    history = reader.attempts(selection)
    if not viewer.is_operator:
        _require_own(reader, selection, viewer)
    return (_attempt_row(past, reader.clock) for past in history if isinstance(past, PastAttempt))


def _require_own(reader: QueueReader, selection: Selection, viewer: Viewer) -> None:
    """The history names no submitter: it is shown to them while the message is here."""
    first = next(reader.entries(selection), None)
    if first is None or not viewer.sees(first):
        raise UnknownEnvelope(f"no message {selection.message}")


def _lanes(reader: QueueReader, viewer: Viewer) -> Iterator[AnyAnswer]:
    if not viewer.is_operator:
        raise Forbidden("lanes are shown to root and to the daemon's own user")
    after = 0
    while page := reader.lanes(after, PAGE):
        counts = reader.waiting(page[0].id, page[-1].id)
        for status in page:
            waiting = counts.get(status.id, 0)
            # A lane is remembered for a while after its last envelope: only its troubles are worth a line then.
            if waiting or status.failures or status.paused or status.parked:
                yield _lane_row(status, waiting, reader.clock)
        after = page[-1].id


def _envelope_row(entry: Entry, clock: SpoolClock) -> EnvelopeRow:
    if isinstance(entry, CorruptEntry):
        return _unreadable(entry)
    wakes = entry.wakes
    return EnvelopeRow(
        id=entry.id,
        message=entry.message,
        kind=entry.kind.value,
        state=entry.state.value,
        sender=str(entry.sender),
        recipient=str(entry.recipient),
        destination=str(entry.destination),
        user=entry.user,
        action=entry.action,
        key=entry.key,
        size=entry.size,
        client=entry.client,
        login=entry.login,
        uid=entry.uid,
        arrived=entry.received_at,
        expires=clock.wall_at(entry.deadline),
        next_try=None if wakes is None else clock.wall_at(wakes),
        since=clock.wall_at(entry.since) if entry.since and entry.state.value == "inflight" else None,
        lane_stopped=bool(entry.lane_paused or entry.lane_parked),
        asked=_ASKED.get(entry.asked, ""),
        last_try=None if entry.last_try is None else clock.wall_at(entry.last_try),
        attempts=entry.attempts,
        error=_why(entry),
    )


def _unreadable(entry: CorruptEntry) -> EnvelopeRow:
    """All that can be said of a row that cannot be read."""
    return EnvelopeRow(
        id=entry.id,
        message=entry.id.partition(".")[0],
        kind="mail",
        state="damaged",
        sender="",
        recipient="",
        destination="",
        user="",
        action="",
        key="",
        size=0,
        client="local",
        login="",
        uid=None,
        arrived=0.0,
        expires=0.0,
        next_try=None,
        since=None,
        lane_stopped=False,
        asked="",
        last_try=None,
        attempts=0,
        error=entry.reason,
    )


def _attempt_row(past: PastAttempt, clock: SpoolClock) -> AttemptRow:
    attempt = past.attempt
    return AttemptRow(
        envelope=attempt.envelope,
        sender=past.sender,
        recipient=past.recipient,
        destination=past.destination or past.recipient,
        started=clock.wall_at(attempt.started),
        ended=clock.wall_at(attempt.ended),
        route=attempt.route,
        remote=attempt.outcome.remote,
        event=past.event.value,
        stage=attempt.outcome.stage.value,
        reply=str(attempt.outcome.reply),
    )


def _lane_row(status: LaneStatus, waiting: int, clock: SpoolClock) -> LaneRow:
    stopped = status.paused or status.parked or status.next_due is None
    next_try = None if stopped or status.next_due is None else max(status.next_due, status.not_before)
    return LaneRow(
        action=status.lane.action,
        key=status.lane.key,
        waiting=waiting,
        next_try=None if next_try is None else clock.wall_at(next_try),
        failures=status.failures,
        paused=status.paused,
        parked=status.parked,
        error=status.last_error,
    )
