"""What the spool takes from another process, and what no honest one hands over."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from spool.address import NULL_SENDER, Address, parse_address
from spool.channel import ChannelClosed
from spool.credible import MAX_TEXT, require_credible, require_credible_intents
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.message import Recipient, Refusal, Submission
from spool.reply import Reply
from tests.tools.spooled import Letter, submission

HONEST = submission(1000, Letter(to=("bob@example.org", "ann@[IPv6:::1]"), user="ann"))
INTENT = MboxIntent(EnvelopeId("m" * 20 + ".1"), "/var/mail/ann", 1, 2, 3, 4, b"\0" * 8)
BOB = Recipient(parse_address("bob@example.org"))


def of_message(**fields: Any) -> Submission:
    return replace(HONEST, message=replace(HONEST.message, **fields))


def of_envelope(**fields: Any) -> Submission:
    return replace(HONEST, envelopes=(replace(HONEST.envelopes[0], **fields),))


def refused(code: int, status: str) -> Submission:
    return replace(HONEST, refused=(Refusal(BOB, Reply(code, status, "no")),))


def test_an_ordinary_message_is_credible() -> None:
    require_credible(HONEST)
    require_credible(refused(550, "5.1.1"))
    require_credible(replace(refused(550, ""), envelopes=()))


@pytest.mark.parametrize(
    "lie",
    [
        of_message(size=HONEST.message.size + 1),
        of_message(arrived=1 << 62),
        of_message(arrived=-1),
        of_message(received_at=math.nan),
        of_message(received_at=math.inf),
        of_message(received_at=1e12),
        of_message(envid="x" * (MAX_TEXT + 1)),
        of_message(return_path=Address("ann", "b.example> SIZE=1")),
        of_message(client=replace(HONEST.message.client, uid=1 << 63)),
        of_envelope(ttl=1 << 62),
        of_envelope(ttl=-1),
        of_envelope(warn_after=1 << 62),
        of_envelope(recipient=Recipient(Address("bob", "x y"))),
        refused(99, "5.1.1"),
        refused(550, "5.1.1 and more"),
        replace(HONEST, envelopes=()),
        replace(refused(550, ""), envelopes=(), message=replace(HONEST.message, return_path=NULL_SENDER)),
        replace(HONEST, expanded=(Recipient(Address("a" * (MAX_TEXT + 1), "x")),)),
    ],
)
def test_a_lie_ends_the_talk(lie: Submission) -> None:
    with pytest.raises(ChannelClosed):
        require_credible(lie)


def test_an_intent_is_about_a_place_that_a_file_can_have() -> None:
    require_credible_intents([INTENT])
    for lie in (replace(INTENT, inode=1 << 63), replace(INTENT, offset=-1), replace(INTENT, path="x" * (MAX_TEXT + 1))):
        with pytest.raises(ChannelClosed):
            require_credible_intents([INTENT, lie])
