"""The scheduler and reports: made once, retried, and never about one another."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from delivery.bounce import Reporter
from scheduler.runner import Runner
from spool.address import NULL_SENDER, parse_address
from spool.layout import layout
from spool.message import Notify
from spool.outcome import Deferred, Failed
from spool.reply import Reply
from spool.state import Kind
from tests.tools.configured import Configured, FakeUsers
from tests.tools.reported import read
from tests.tools.scheduling import PACE, World, world
from tests.tools.spooled import DAY, DONE, NEVER, Letter, put

pytestmark = pytest.mark.anyio

#: Until a report about a message that just failed is due.
GATHERED = 2_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[World]:
    async with world(layout(str(tmp_path))) as house:
        house.outcome = lambda claimed, route: DONE if claimed.message.return_path.is_null else NEVER
        yield house


async def test_a_failure_is_reported_once_and_the_report_is_delivered(house: World) -> None:
    await put(house.spool, Letter(to=("a@example.org", "b@example.org")))
    async with house.at_work():
        await house.settled()
        house.advance(GATHERED)
        await house.until(lambda: house.routes["mbox:ann"] == 1)
        await house.settled()
    ((claimed, lines),) = house.reports
    assert claimed.envelope.kind is Kind.FAILED
    assert [str(line.recipient.address) for line in lines] == ["a@example.org", "b@example.org"]
    assert await house.spool.next_wake() is None
    assert house.counters["bounce.session"] == 1


async def test_a_real_report_reaches_the_mailbox_of_the_sender(house: World, tmp_path: Path) -> None:
    config = Configured(tmp_path / "real").load("""
        listen on socket
        action "local" mbox
        action "relay" relay host smtp://mail.example.org
        match from local for local action "local"
    """)
    house.config = config
    reporter = Reporter(lambda: config, house.spool.clock, FakeUsers("ann"))
    house.runner = Runner(house.spool, lambda: config, house.deliver, reporter.report, PACE)
    sender = parse_address("ann@mail.example.org")
    await put(house.spool, Letter(sender=sender, body=b"Subject: lunch\r\n\r\nAt one?\r\n"))
    async with house.at_work():
        await house.settled()
        house.advance(GATHERED)
        await house.until(lambda: house.routes["mbox:ann"] == 1)
        await house.settled()
    report = read(house.tried[-1].body.read())
    assert report.fields(1)["Final-Recipient"] == "rfc822; bob@example.org"
    assert report.fields(1)["Diagnostic-Code"] == f"smtp; {NEVER.reply}"
    assert "Subject: lunch" in report.parts[2].get_content()
    assert await house.spool.next_wake() is None


async def test_a_success_is_reported_when_that_was_asked_for(house: World) -> None:
    house.outcome = lambda claimed, route: DONE
    await put(house.spool, Letter(notify=Notify.SUCCESS))
    async with house.at_work():
        await house.settled()
        house.advance(GATHERED)
        await house.until(lambda: house.reports)
    assert house.reports[0][0].envelope.kind is Kind.RELAYED


async def test_a_report_that_cannot_be_made_now_is_made_later(house: World) -> None:
    house.report_outcome = Deferred(Reply(451, "4.3.0", "aliases cannot be read"))
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.advance(GATHERED)
        await house.until(lambda: len(house.reports) == 1)
        await house.settled()
        house.report_outcome = None
        house.advance(11_000)
        await house.until(lambda: house.routes["mbox:ann"] == 1)


async def test_a_report_that_fails_ends_in_the_log_and_in_no_other_report(
    house: World, caplog: pytest.LogCaptureFixture
) -> None:
    house.report_outcome = Failed(Reply(550, "5.1.1", "no such sender"))
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.advance(GATHERED)
        await house.until(lambda: house.counters["bounce.lost"] == 1)
        house.advance(DAY)
        await house.settled()
    assert len(house.reports) == 1
    assert await house.spool.next_wake() is None
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "nobody is told that this cannot be delivered: 550 5.1.1 no such sender" in record.getMessage()


async def test_mail_without_a_sender_that_fails_is_reported_to_nobody(
    house: World, caplog: pytest.LogCaptureFixture
) -> None:
    house.outcome = lambda claimed, route: NEVER
    await put(house.spool, Letter(sender=NULL_SENDER))
    async with house.at_work():
        await house.settled()
        house.advance(GATHERED)
        await house.settled()
    assert house.reports == []
    assert house.counters["bounce.lost"] == 1


async def test_an_error_in_making_a_report_is_temporary(
    house: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*arguments: object) -> Failed:
        raise ZeroDivisionError

    monkeypatch.setattr(house, "report", broken)
    house.__post_init__()
    await put(house.spool)
    async with house.at_work():
        await house.settled()
        house.advance(GATHERED)
        await house.until(lambda: house.counters["scheduler.delivery.tempfail"] == 1)
    assert "ZeroDivisionError" in caplog.text
    assert await house.spool.next_wake() is not None
