"""Claimed envelopes for tests that have no spool."""

from __future__ import annotations

from spool.address import NULL_SENDER, Address, parse_address
from spool.bodies import Body, SmallBody
from spool.ids import MessageId, envelope_id
from spool.lane import Lane
from spool.message import Claimed, Destination, Envelope, Message, Recipient
from spool.state import Kind, State
from tests.tools.deposits import DATE, MESSAGE


def claimed(
    user: str,
    *,
    message: int = 1,
    ordinal: int = 1,
    sender: str = "ann@example.com",
    recipient: str = "",
    address: Address | None = None,
    extension: str = "",
    target: str = "",
    body: bytes | Body = MESSAGE,
    attempts: int = 0,
    was_in_flight: bool = False,
    arrived: int = 1000,
) -> Claimed:
    name = MessageId(f"{message:020d}")
    final = address or parse_address(f"{user or 'alias'}@example.org")
    content = SmallBody(body) if isinstance(body, bytes) else body
    lane = Lane("local", user or target)
    return Claimed(
        lane_id=1,
        envelope=Envelope(
            id=envelope_id(name, ordinal),
            recipient=Recipient(parse_address(recipient) if recipient else final),
            destination=Destination(final, user, extension, target),
            lane=lane,
            kind=Kind.MAIL,
            state=State.INFLIGHT,
            attempts=attempts,
            due=arrived,
            deadline=arrived + 1_000_000,
            warn_at=None,
        ),
        message=Message(
            id=name,
            return_path=parse_address(sender) if sender else NULL_SENDER,
            arrived=arrived,
            received_at=DATE,
            size=content.size,
        ),
        body=content,
        was_in_flight=was_in_flight,
    )
