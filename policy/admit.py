"""One RCPT: rules and expansion together.

Guarantees: what is admitted has at least one envelope, and each names an action of the configuration it was admitted by.

Failure: `TableUnavailable`, which is temporary for the client (451 4.3.0).

RFC 5321 3.3, 3.4; reply texts as OpenSMTPD's.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio.to_thread

from policy.config import Config, Facts
from policy.expand import FinalDestination, Refusal, expand
from policy.route import lane_key
from policy.tables.file import FileTable
from policy.tables.passwd import Users
from spool.lane import Lane
from spool.message import NewEnvelope, Notify, Recipient
from spool.reply import Reply


@dataclass(frozen=True, slots=True)
class Admitted:
    """The recipient is ours to deliver, to each of these."""

    envelopes: tuple[NewEnvelope, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The recipient is refused. ``reason`` is for our own log: it may name users, files and rules."""

    reply: Reply
    reason: str


async def admit(config: Config, facts: Facts, recipient: Recipient, users: Users) -> Admitted | Refused:
    """Decide about ``recipient``."""
    await _read_large_tables(config)
    try:
        found = expand(config, facts, users, recipient.address)
    except Refusal as refusal:
        return Refused(refusal.reply, str(refusal))
    return Admitted(tuple(_envelope(config, facts, recipient, final) for final in found))


def _envelope(config: Config, facts: Facts, recipient: Recipient, final: FinalDestination) -> NewEnvelope:
    destination = final.destination
    key = lane_key(final.action, destination.address.domain, destination.user or destination.target)
    # RFC 3461 4.1: nobody is told of a delay who has not left that open; RFC 5321 4.5.5: a null sender is nobody.
    warns = config.warn_intervals and Notify.DELAY in recipient.notify and not facts.mail_from.is_null
    return NewEnvelope(
        recipient,
        destination,
        Lane(final.action.name, key),
        config.ttl_of(final.action.name),
        config.warn_intervals[0] if warns else None,
    )


async def _read_large_tables(config: Config) -> None:
    # A million aliases take a second to read: that second must not be everybody's.
    for table in config.tables.values():
        if isinstance(table, FileTable) and table.is_large and table.is_stale:
            await anyio.to_thread.run_sync(table.refresh)
