"""A spool's door and a policy for fuzzers: what is accepted lies where they look, and no disk is touched."""

from __future__ import annotations

import asyncio
import errno
from typing import Final

from policy.admit import Admitted, Refused
from policy.config import Config, Facts
from policy.errors import TableUnavailable
from spool.bodies import BodyWriter
from spool.clock import SpoolClock
from spool.errors import SpoolFull
from spool.ids import MessageId
from spool.lane import Lane
from spool.message import Destination, NewEnvelope, Recipient, Submission
from spool.reply import Reply
from tests.tools.spooled import HandClock

_LANE: Final = Lane("out", "")


class Shelf:
    """An `Intake`."""

    def __init__(self) -> None:
        self.clock = SpoolClock.ahead(HandClock(), 0)
        self.taken: list[Submission] = []

    async def new_body(self, message: MessageId) -> BodyWriter:
        raise SpoolFull(errno.ENOSPC, "no room here for a large body")

    async def accept(self, submission: Submission) -> None:
        self.taken.append(submission)


async def admit(config: Config, facts: Facts, recipient: Recipient) -> Admitted | Refused:
    """Takes everybody, but for those whose name says otherwise."""
    match recipient.address.local:
        case "nobody":
            return Refused(Reply(550, "5.1.1", f"Invalid recipient: <{recipient.address}>"), "no such user")
        case "later":
            raise TableUnavailable(f"no table for {recipient.address}")
        case "slow":
            await asyncio.sleep(0)
    return Admitted((NewEnvelope(recipient, Destination(recipient.address), _LANE, 3_600_000),))
