"""The door to the spool: everything that the rest of the house may ask of it.

`spool.writer.SpoolWriter` is this door in the process that holds the spool. Other processes see the part of it that concerns
them, `Intake` or `Intents`, through a socket (`spool.remote`).

Guarantees: a method that changes something returns when the change is durable, and what it was called with is then wholly
there; when it raises, nothing of it is there. Cancelling a caller never cancels its commit.

Failure: every method raises `spool.errors.SpoolLost` once a write may be lost, and `SpoolUnavailable` when the spool is
closed or cannot be written now; those that write raise `SpoolFull` when the disk is. Other errors are named at their method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from spool.bodies import BodyWriter
from spool.clock import SpoolClock
from spool.ids import EnvelopeId, MessageId
from spool.inspection import Finding
from spool.intent import MboxIntent
from spool.lane import ClaimOrder, DueLane, Lane, LaneStatus, LaneVerdict, LaneWish
from spool.message import Claimed, Destination, Submission
from spool.moving import Arrival
from spool.report import ReportLine
from spool.selection import Selection
from spool.settlement import Settlement


class Intake(Protocol):
    """What ingress may ask."""

    @property
    def clock(self) -> SpoolClock:
        """Spool time."""

    async def new_body(self, message: MessageId) -> BodyWriter:
        """A file for a body of more than `spool.bodies.SMALL_BODY` octets."""

    async def accept(self, submission: Submission) -> None:
        """Take the message: from here on we own it. Raises `DuplicateMessage`."""


class Intents(Protocol):
    """What delivery may ask."""

    @property
    def clock(self) -> SpoolClock:
        """Spool time."""

    @property
    def instance(self) -> str:
        """A name for this spool, made with it and never changed: lower-case letters and digits."""

    async def commit_intents(self, intents: Sequence[MboxIntent]) -> None:
        """Keep what is about to be appended to a mailbox, in place of an earlier intent. Raises `UnknownEnvelope`."""

    async def intent_of(self, envelope: EnvelopeId) -> MboxIntent | None:
        """The intent that was kept last for this envelope."""


class SpoolDoor(Intake, Intents, Protocol):
    """See the module. Times are spool time in milliseconds."""

    @property
    def lost(self) -> anyio.Event:
        """Set when a write may be lost: the process must end at once, and says nothing more to anybody."""

    @property
    def findings(self) -> Sequence[str]:
        """What is wrong with the database, in words for the operator; empty as long as nothing is known to be."""

    def notify_accepted(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called in the loop after each commit that made something due."""

    # -- in -----------------------------------------------------------------------------------------------------------

    async def accept(self, submission: Submission, settles: Settlement | None = None) -> None:
        """Take the message: from here on we own it. Raises `DuplicateMessage`.

        ``settles`` is the report envelope that this submission is the report of: both are one transaction. Raises
        `UnknownEnvelope` when that is not in flight any more: the sender was told, or is going to be.
        """

    async def require_new(self, archive: str, message: str) -> None:
        """Raise `spool.moving.AlreadyHere` for a message that `take_in` would not take."""

    async def take_in(self, arrival: Arrival) -> int:
        """Take a message that moves in from an archive: how many envelopes. Raises `spool.moving.AlreadyHere`."""

    # -- out ----------------------------------------------------------------------------------------------------------

    async def due_lanes(self, now: int, wishes: Sequence[LaneWish]) -> list[list[DueLane]]:
        """Open lanes with something due at ``now``: a page for each wish, earliest first or newest first.

        What it costs depends on the lanes that are answered, not on those that are due.
        """

    async def lane_actions(self) -> list[str]:
        """The actions that lanes name, the empty one of reports among them, in alphabetical order."""

    async def next_wake(self, after: int | None = None) -> int | None:
        """When the next lane (of those that wake later than ``after``) wakes; None when none ever does."""

    async def claim(self, orders: Sequence[ClaimOrder]) -> list[Claimed]:
        """Due envelopes, now in flight, with their bodies; earliest due first within a lane.

        Those whose row or body proves damaged are set aside and left out. A caller that is cancelled has claimed nothing.
        """

    async def record(self, settlements: Sequence[Settlement], lanes: Sequence[LaneVerdict] = ()) -> None:
        """Write down what came of attempts, before anything else that waits to be written."""

    async def unclaim(self, claimed: Sequence[Claimed]) -> None:
        """Back to READY, untried."""

    async def set_aside(self, envelope: EnvelopeId, reason: str, *, was_sent: bool = False) -> None:
        """Its row or body is damaged: it is shown, never sent, until it is released or removed.

        Its sender is told by the same commit, unless the next hop may have it. Raises `UnknownEnvelope`.
        """

    async def repair(self, finding: Finding) -> bool:
        """Do what can be done about it without losing anything; False when there is nothing (any more)."""

    async def expire(self, lane_id: int, at: int) -> int:
        """End waiting envelopes whose deadline is not after ``at``, when their lane failed; a bounded batch, how many."""

    async def warn(self, at: int, warn_intervals: tuple[int, ...]) -> int:
        """Queue the delay notices owed at ``at`` for waiting envelopes; a bounded batch, how many envelopes."""

    async def report_lines(self, envelope: EnvelopeId) -> list[ReportLine]:
        """What a report envelope is about. Raises `UnknownEnvelope`."""

    # -- the operator -------------------------------------------------------------------------------------------------

    async def hold(self, selection: Selection) -> int:
        """Keep these from being tried; those in flight when their attempt has ended without success. How many.

        This and its three sisters work in bounded transactions, and raise `UnknownEnvelope` for an id that is not there.
        """

    async def release(self, selection: Selection) -> int:
        """Let held and set aside ones be tried again. How many."""

    async def remove(self, selection: Selection) -> int:
        """Drop these without a report; those in flight when their attempt has ended without success. How many."""

    async def schedule(self, selection: Selection) -> int:
        """Make waiting ones due now, and open their lanes. How many."""

    # -- lanes --------------------------------------------------------------------------------------------------------

    async def lanes(self, after: int, limit: int) -> list[LaneStatus]:
        """Lanes with an id above ``after``, by id."""

    async def pause_lane(self, lane_id: int) -> None:
        """Nothing of this lane is claimed until `resume_lane`."""

    async def resume_lane(self, lane_id: int) -> None:
        """The end of `pause_lane`."""

    async def park_lane(self, lane_id: int, reason: str) -> None:
        """Nothing of this lane is claimed until `unpark_lane`: the configuration has lost its action."""

    async def unpark_lane(self, lane_id: int) -> None:
        """The end of `park_lane`."""

    async def relane(self, lane_id: int, lane_of: Callable[[Destination], Lane]) -> int:
        """Move what waits in a lane to the lanes that a new configuration wants. How many.

        One that is in flight may be left behind; call again when it is back. ``lane_of`` runs in the spool's thread and
        must be pure.
        """

    async def set_ttl(self, action: str, ttl: int) -> int:
        """Give what waits for an action the deadline arrival + ``ttl``, reports excepted. How many."""

    # -- what the runner remembers ------------------------------------------------------------------------------------

    async def remember(self, name: str, value: str) -> None:
        """Keep a small fact beyond a restart, such as which deliveries the operator paused; empty forgets it."""

    async def recall(self, name: str) -> str:
        """What `remember` kept; empty when nothing."""
