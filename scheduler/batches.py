"""What is tried together: of claimed envelopes, the batches that a delivery gets.

A relay and an LMTP server get one message with those of its envelopes that were claimed together, so that what they say is
recorded before the next; a user's mailbox gets several messages under one lock. The order of the claim, which is by due
time, is kept.

Guarantees: every claimed envelope is in exactly one batch, and none is larger than its bounds (a single message may be).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from policy.config import AnyAction, Command, ExpandOnly, ForwardOnly, Lmtp, Maildir, Mbox, Relay
from policy.route import leads_to_command
from spool.bodies import SmallBody
from spool.ids import MessageId
from spool.lane import Lane
from spool.message import Batch, Claimed

#: Recipients of one message in one transaction: what every server takes (RFC 5321 4.5.3.1.8).
MAX_RECIPIENTS: Final = 100
#: Messages and octets that a mailbox gets under one lock: some tens of milliseconds.
MAX_MESSAGES: Final = 50
MAX_OCTETS: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most of a batch."""

    items: int
    octets: int


_MAILBOX: Final = Bounds(MAX_MESSAGES, MAX_OCTETS)
#: Each message is a command or a report of its own, and none should wait for the one before.
_ALONE: Final = Bounds(1, MAX_OCTETS)


def shares_batches(lane: Lane, action: AnyAction | None) -> bool:
    """Whether several messages of a lane make one batch: those for a mailbox do, and share its lock and its fsync."""
    return isinstance(action, Mbox | Maildir) and not leads_to_command(lane.key)


def make_batches(lane: Lane, action: AnyAction | None, claimed: Sequence[Claimed]) -> list[Batch]:
    """The batches of what was claimed of one lane; no action is the lane of reports."""
    match action:
        case Relay():
            groups = _by_message(claimed)
        case Lmtp():
            groups = _bounded(claimed, _ALONE) if leads_to_command(lane.key) else _by_message(claimed)
        case Mbox() | Maildir():
            groups = _bounded(claimed, _MAILBOX if shares_batches(lane, action) else _ALONE)
        case Command() | ForwardOnly() | ExpandOnly() | None:
            groups = _bounded(claimed, _ALONE)
    return [Batch(lane, tuple(group)) for group in groups]


def octets_in_memory(batch: Batch) -> int:
    """What the bodies of a batch weigh; large ones stay in their files."""
    sizes = {one.message.id: one.body.size for one in batch.items if isinstance(one.body, SmallBody)}
    return sum(sizes.values())


def _by_message(claimed: Iterable[Claimed]) -> Iterator[list[Claimed]]:
    groups: dict[MessageId, list[Claimed]] = {}
    for one in claimed:
        group = groups.setdefault(one.message.id, [])
        if len(group) == MAX_RECIPIENTS:
            yield group
            group = groups[one.message.id] = []
        group.append(one)
    yield from groups.values()


def _bounded(claimed: Iterable[Claimed], bounds: Bounds) -> Iterator[list[Claimed]]:
    group: list[Claimed] = []
    octets = 0
    for one in claimed:
        if group and (len(group) == bounds.items or octets + one.body.size > bounds.octets):
            yield group
            group, octets = [], 0
        group.append(one)
        octets += one.body.size
    if group:
        yield group
