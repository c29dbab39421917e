"""Mail to put into a spool, clocks that tests move, and what a delivery would say of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from spool.address import Address, parse_address
from spool.bodies import StoredBody
from spool.ids import MessageId, new_message_id
from spool.lane import ClaimOrder, DueLane, Lane, LaneWish
from spool.message import Claimed, Destination, Message, NewEnvelope, Notify, Recipient, Submission
from spool.outcome import Attempt, Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply
from spool.settlement import Settlement, settle
from spool.writer import SpoolWriter

RELAY = Lane("relay", "")
HOUR = 3600 * 1000
DAY = 24 * HOUR
SENDER = parse_address("ann@example.com")
DONE = Delivered(Reply(250, "2.0.0", "taken"), "mx.example.org (192.0.2.1)")
LATER = Deferred(Reply(451, "4.2.0", "try again"), "mx.example.org (192.0.2.1)", Stage.RCPT)
NEVER = Failed(Reply(550, "5.1.1", "no such user"), "mx.example.org (192.0.2.1)", Stage.RCPT)


@dataclass
class HandClock:
    """A clock that stands still until it is moved."""

    boot_ms: int = 5_000_000
    wall_s: float = 1_700_000_000.0
    boot: str = "boot-1"

    def boottime_ms(self) -> int:
        return self.boot_ms

    def wall(self) -> float:
        return self.wall_s

    def boot_id(self) -> str:
        return self.boot

    def advance(self, milliseconds: int) -> None:
        self.boot_ms += milliseconds
        self.wall_s += milliseconds / 1000


@dataclass(frozen=True)
class Letter:
    """What a test wants to say about a message; the rest is ordinary."""

    to: tuple[str, ...] = ("bob@example.org",)
    body: bytes | StoredBody = b"Subject: hello\r\n\r\nhello\r\n"
    sender: Address = SENDER
    lane: Lane = RELAY
    user: str = ""
    ttl: int = 4 * DAY
    warn_after: int | None = 4 * HOUR
    notify: Notify | None = None
    drop: str = ""


def submission(now: int, letter: Letter | None = None, name: MessageId | None = None) -> Submission:
    """``letter`` as ingress hands it over."""
    letter = letter or Letter()
    name = name or new_message_id(int(time.time() * 1000))
    size = len(letter.body) if isinstance(letter.body, bytes) else letter.body.size
    message = Message(name, letter.sender, now, time.time(), size)
    return Submission(message, letter.body, tuple(_envelopes(letter)), letter.drop)


def _envelopes(letter: Letter) -> Iterable[NewEnvelope]:
    for text in letter.to:
        recipient = Recipient(parse_address(text))
        if letter.notify is not None:
            recipient = replace(recipient, notify=letter.notify, notify_given=True)
        destination = Destination(recipient.address, letter.user)
        yield NewEnvelope(recipient, destination, letter.lane, letter.ttl, letter.warn_after)


async def put(spool: SpoolWriter, letter: Letter | None = None) -> MessageId:
    """Accept a letter; its id."""
    what = submission(spool.clock.now(), letter)
    await spool.accept(what)
    return what.message.id


async def take(spool: SpoolWriter, room: int = 100) -> list[Claimed]:
    """Claim what is due, in every lane."""
    return await spool.claim([ClaimOrder(lane.id, room) for lane in await due_lanes(spool)])


async def sole(spool: SpoolWriter) -> Claimed:
    """The only envelope that is due."""
    (claimed,) = await take(spool)
    return claimed


async def due_lanes(spool: SpoolWriter, now: int | None = None) -> list[DueLane]:
    """What is due in the lanes of every action, failing ones last."""
    actions = await spool.lane_actions()
    wishes = [LaneWish(action, failing, 1000) for failing in (False, True) for action in actions]
    pages = await spool.due_lanes(spool.clock.now() if now is None else now, wishes)
    return [lane for page in pages for lane in page]


def settlement(spool: SpoolWriter, claimed: Claimed, outcome: Outcome, due: int = 0) -> Settlement:
    """What an attempt that took no time came to."""
    now = spool.clock.now()
    attempt = Attempt(claimed.envelope.id, now, now, "smtp://mx.example.org:25", outcome)
    return settle(claimed, attempt, due, (4 * HOUR,))


async def record(spool: SpoolWriter, claimed: Claimed, outcome: Outcome, due: int = 0) -> None:
    """Settle one attempt."""
    await spool.record([settlement(spool, claimed, outcome, due)])
