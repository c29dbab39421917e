"""Recipients that are refused when it is too late to say so to whoever handed the message in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from spool.address import NULL_SENDER, parse_address
from spool.entry import PastAttempt
from spool.errors import DuplicateMessage
from spool.layout import layout
from spool.listing import QueueReader
from spool.message import Notify, Recipient, Refusal, Submission
from spool.outcome import Failed, Stage
from spool.reply import Reply
from spool.selection import select
from spool.state import Event, Kind
from spool.writer import SpoolWriter
from tests.tools.spooled import HOUR, HandClock, Letter, submission, take

pytestmark = pytest.mark.anyio

UNKNOWN = Reply(550, "5.1.1", "no such user")


@pytest.fixture
async def spool(tmp_path: Path, clock: HandClock) -> AsyncIterator[SpoolWriter]:
    writer = await SpoolWriter.open(layout(str(tmp_path)), clock)
    yield writer
    await writer.aclose()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def refusing(spool: SpoolWriter, letter: Letter, *refused: Recipient) -> Submission:
    whole = submission(spool.clock.now(), letter)
    return replace(whole, refused=tuple(Refusal(recipient, UNKNOWN) for recipient in refused))


EVE = Recipient(parse_address("eve@example.org"))


async def test_the_sender_is_told_while_the_others_get_their_mail(spool: SpoolWriter, clock: HandClock) -> None:
    await spool.accept(refusing(spool, Letter(to=("bob@example.org",)), EVE))
    clock.advance(HOUR)
    mail, report = sorted(await take(spool), key=lambda one: one.envelope.kind is not Kind.MAIL)
    assert str(mail.envelope.recipient.address) == "bob@example.org"
    (line,) = await spool.report_lines(report.envelope.id)
    assert (line.recipient, line.event) == (EVE, Event.FAILED)
    assert line.outcome == Failed(UNKNOWN, stage=Stage.RCPT)


async def test_a_message_without_any_recipient_left_becomes_its_own_report(
    spool: SpoolWriter, clock: HandClock
) -> None:
    await spool.accept(refusing(spool, Letter(to=()), EVE, Recipient(parse_address("mallory@example.org"))))
    clock.advance(HOUR)
    (report,) = await take(spool)
    assert report.envelope.kind is Kind.FAILED
    assert len(await spool.report_lines(report.envelope.id)) == 2
    assert report.body.read() == Letter().body


async def test_the_refusal_stands_in_the_history(spool: SpoolWriter, tmp_path: Path) -> None:
    sent = refusing(spool, Letter(to=("bob@example.org",)), EVE)
    await spool.accept(sent)
    await spool.aclose()
    with closing(QueueReader.stopped(layout(str(tmp_path)).spool_dir)) as reader:
        (past,) = reader.attempts(select(sent.message.id))
    assert isinstance(past, PastAttempt)
    assert (past.recipient, past.event) == ("eve@example.org", Event.FAILED)
    assert past.attempt.outcome == Failed(UNKNOWN, stage=Stage.RCPT)


@pytest.mark.parametrize(
    ("letter", "recipient"),
    [(Letter(to=(), sender=NULL_SENDER), EVE), (Letter(to=()), replace(EVE, notify=Notify.NEVER, notify_given=True))],
)
async def test_a_message_of_which_nobody_would_hear_is_not_taken(
    spool: SpoolWriter, letter: Letter, recipient: Recipient
) -> None:
    with pytest.raises(ValueError, match="nowhere to go"):
        await spool.accept(refusing(spool, letter, recipient))


async def test_a_second_reading_of_a_drop_file_makes_no_second_report(spool: SpoolWriter, clock: HandClock) -> None:
    await spool.accept(refusing(spool, Letter(to=(), drop="0" * 24), EVE))
    with pytest.raises(DuplicateMessage):
        await spool.accept(refusing(spool, Letter(to=(), drop="0" * 24), EVE))
    clock.advance(HOUR)
    assert len(await take(spool)) == 1
