"""Whether a message that another process hands over can be one of ours: nothing in it breaks what reads it later.

Control characters are `spool.serving`'s matter; here it is numbers and sizes, and text that ends another program's command.

Guarantees: what passes can be written into the database, listed, reported about and sent on like every other message.

Failure: `spool.channel.ChannelClosed`, whose text says what no honest process hands over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from spool.address import Address
from spool.channel import ChannelClosed
from spool.intent import MboxIntent
from spool.message import NewEnvelope, Recipient, Submission
from spool.reply import EnhancedStatus, Reply
from spool.settlement import will_be_told

#: Milliseconds of spool time, and of a time to live: some 30,000 years, so that their sums fit into the database.
MAX_TIME: Final = 1 << 50
#: Seconds since 1970: the last that a date is written of.
MAX_WALL: Final = 253_402_300_799
#: A body, and a uid.
MAX_NUMBER: Final = 1 << 62
#: Characters of one text: the longest honest ones, logins and the targets of aliases, have some thousands.
MAX_TEXT: Final = 1 << 14

#: What would end the brackets of a command to another server, or begin a parameter.
_OUTSIDE = re.compile(r'[\s<>"(),;\\]')


def require_credible(submission: Submission) -> None:
    """Raise `ChannelClosed` for what contradicts itself, or is beyond every bound."""
    told = will_be_told(submission.message.return_path, submission.refused)
    _require(submission.envelopes or told, "nobody to get it")
    _require_message(submission)
    for envelope in submission.envelopes:
        _require_envelope(envelope)
    for refusal in submission.refused:
        _require_reply(refusal.reply)
    for address in _addresses(submission):
        _require(not _OUTSIDE.search(address.domain), "a domain that is none")
        _require_short(address.local, address.domain)
    for recipient in _recipients(submission):
        _require_short(recipient.orcpt)


def require_credible_intents(intents: Sequence[MboxIntent]) -> None:
    """Raise `ChannelClosed` for numbers that no file has."""
    for intent in intents:
        numbers = (intent.device, intent.inode, intent.offset, intent.length)
        _require(all(0 <= number < 1 << 63 for number in numbers), "an intent about an impossible place")
        _require_short(intent.envelope, intent.path)


def _require_message(submission: Submission) -> None:
    message, body = submission.message, submission.body
    _require(message.size == (len(body) if isinstance(body, bytes) else body.size), "a body of another size")
    _require(0 <= message.size < MAX_NUMBER, "a body of an impossible size")
    _require(0 <= message.arrived < MAX_TIME, "an impossible time of arrival")
    _require(0 <= message.received_at < MAX_WALL, "an impossible date")
    _require_short(message.envid, submission.drop)
    client = message.client
    _require(client.uid is None or 0 <= client.uid < MAX_NUMBER, "an impossible uid")
    _require_short(client.address, client.host, client.helo, client.protocol, client.login)


def _require_envelope(envelope: NewEnvelope) -> None:
    _require(0 <= envelope.ttl < MAX_TIME, "an impossible time to live")
    _require(envelope.warn_after is None or 0 <= envelope.warn_after < MAX_TIME, "an impossible delay")
    where, lane = envelope.destination, envelope.lane
    _require_short(where.user, where.extension, where.target, lane.action, lane.key)


def _require_reply(reply: Reply) -> None:
    _require(200 <= reply.code < 600, "a reply that is none")
    _require(not reply.status or EnhancedStatus.parse(reply.status), "a status that is none")


def _recipients(submission: Submission) -> Iterator[Recipient]:
    yield from (envelope.recipient for envelope in submission.envelopes)
    yield from (refusal.recipient for refusal in submission.refused)
    yield from submission.expanded


def _addresses(submission: Submission) -> Iterator[Address]:
    yield submission.message.return_path
    yield from (recipient.address for recipient in _recipients(submission))
    yield from (envelope.destination.address for envelope in submission.envelopes)


def _require_short(*texts: str) -> None:
    _require(max(map(len, texts)) <= MAX_TEXT, "a text beyond every bound")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise ChannelClosed(f"not credible: {what}")
