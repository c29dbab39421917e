"""Reports on their way back: where they go, and how much of the original they carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from delivery.bounce import HEADER, WHOLE_MESSAGE, Reporter, header_of
from policy.config import Config
from spool.address import parse_address
from spool.bodies import SmallBody
from spool.clock import SpoolClock
from spool.errors import BodyDamaged
from spool.message import Claimed, Notify, Ret, Submission
from spool.outcome import Deferred, Failed
from spool.state import Kind
from tests.tools.configured import Configured, FakeUsers
from tests.tools.forwarding import FakeForwards, forward
from tests.tools.in_flight import Claim, claimed
from tests.tools.reported import line, read
from tests.tools.spooled import HandClock

pytestmark = pytest.mark.anyio

RULES = """
table aliases { "ann" = "anna" }
listen on socket
action "local" mbox alias <aliases>
match from local for local action "local"
"""
MAIL = b"From: ann@mail.example.org\r\nSubject: lunch\r\n\r\nAt one?\r\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Configured(tmp_path).load(RULES)


def bounce(sender: str = "ann@mail.example.org", *, ret: Ret | None = None, content: bytes = MAIL) -> Claimed:
    about = claimed(Claim(kind=Kind.FAILED, size=len(content)))
    message = replace(about.message, return_path=parse_address(sender), ret=ret)
    return replace(about, message=message, body=SmallBody(content))


def reporter(config: Config, *users: str) -> Reporter:
    return Reporter(lambda: config, SpoolClock(HandClock(), None), FakeUsers(*users))


async def sent(config: Config, about: Claimed) -> Submission:
    answer = await reporter(config, "anna").report(about, [line()])
    assert isinstance(answer, Submission)
    assert isinstance(answer.body, bytes)
    assert len(answer.body) == answer.message.size
    return answer


def content(submission: Submission) -> bytes:
    assert isinstance(submission.body, bytes)
    return submission.body


async def test_a_report_goes_where_the_aliases_lead(config: Config) -> None:
    (envelope,) = (await sent(config, bounce())).envelopes
    assert envelope.destination.user == "anna"
    assert envelope.lane.action == "local"


async def test_a_report_goes_where_the_sender_s_forward_leads(config: Config) -> None:
    files = FakeForwards({"anna": forward("bob\n")})
    clock, users = SpoolClock(HandClock(), None), FakeUsers("anna", "bob")
    answer = await Reporter(lambda: config, clock, users, files).report(bounce(), [line()])
    assert isinstance(answer, Submission)
    assert [envelope.destination.user for envelope in answer.envelopes] == ["bob"]


async def test_a_report_has_no_sender_and_asks_for_no_report(config: Config) -> None:
    submission = await sent(config, bounce())
    assert submission.message.return_path.is_null
    assert submission.envelopes[0].recipient.notify is Notify.NEVER
    assert submission.envelopes[0].warn_after is None


async def test_each_report_has_a_name_of_its_own(config: Config) -> None:
    first, second = await sent(config, bounce()), await sent(config, bounce())
    assert first.message.id != second.message.id
    assert read(content(first)).mail["Message-ID"] == f"<{first.message.id}@mail.example.org>"


async def test_a_sender_whom_policy_refuses_gets_no_report(config: Config) -> None:
    answer = await reporter(config).report(bounce("nobody@elsewhere.example"), [line()])
    assert isinstance(answer, Failed)
    assert answer.reply.is_permanent


async def test_a_report_waits_while_a_table_cannot_be_read(tmp_path: Path) -> None:
    configured = Configured(tmp_path)
    aliases = configured.write("aliases", "ann: anna\n")
    config = configured.load(RULES.replace('{ "ann" = "anna" }', f"file:{_inside(configured, aliases)}"))
    aliases.unlink()
    answer = await reporter(config, "anna").report(bounce(), [line()])
    assert isinstance(answer, Deferred)
    assert "cannot be looked up" in answer.reply.text


def _inside(configured: Configured, path: Path) -> str:
    return str(path).removeprefix(configured.layout.root)


async def test_a_report_about_nothing_fails(config: Config) -> None:
    assert isinstance(await reporter(config, "anna").report(bounce(), []), Failed)


@pytest.mark.parametrize("ret", [None, Ret.HDRS])
async def test_the_header_is_returned_unless_all_was_asked_for(config: Config, ret: Ret | None) -> None:
    report = content(await sent(config, bounce(ret=ret)))
    assert b"Subject: lunch\r\n" in report
    assert b"At one?" not in report


async def test_the_whole_message_is_returned_when_that_was_asked_for(config: Config) -> None:
    assert MAIL in content(await sent(config, bounce(ret=Ret.FULL)))


async def test_only_a_failure_returns_the_whole_message(config: Config) -> None:
    about = bounce(ret=Ret.FULL)
    about = replace(about, envelope=replace(about.envelope, kind=Kind.DELAYED))
    assert b"At one?" not in content(await sent(config, about))


async def test_of_a_large_message_the_header_is_returned(config: Config) -> None:
    large = MAIL + b"x" * WHOLE_MESSAGE
    report = content(await sent(config, bounce(ret=Ret.FULL, content=large)))
    assert read(report).parts[2].get_content_type() == "text/rfc822-headers"
    assert len(report) < len(large)


@dataclass(frozen=True)
class SpoiltBody:
    """A body in a file that is not what was accepted."""

    size: int = 1 << 20

    def chunks(self) -> Iterator[bytes]:
        yield MAIL
        raise BodyDamaged("its octets are not those that were accepted")

    def read(self) -> bytes:
        return b"".join(self.chunks())


async def test_a_damaged_original_is_not_returned_but_reported(config: Config) -> None:
    report = content(await sent(config, replace(bounce(), body=SpoiltBody())))
    assert b"lunch" not in report
    assert read(report).fields(1)["Action"] == "failed"


@pytest.mark.parametrize(
    ("message", "header"),
    [
        (MAIL, b"From: ann@mail.example.org\r\nSubject: lunch\r\n"),
        (b"Subject: only a header\r\n", b"Subject: only a header\r\n"),
        (b"\r\nno header\r\n\r\nat all\r\n", b""),
        (b"A: " + b"x" * HEADER + b"\r\n\r\n", b""),
        (b"A: b\r\n" * HEADER + b"\r\n", b"A: b\r\n" * (HEADER // 6)),
    ],
)
def test_a_header_is_cut_at_whole_lines(message: bytes, header: bytes) -> None:
    assert header_of(message) == header


async def test_a_server_with_a_foreign_name_reports_under_its_ascii_form(config: Config) -> None:
    foreign = replace(config, server_name="mail.bücher.example")
    answer = await reporter(foreign, "anna").report(bounce(), [line()])
    assert isinstance(answer, Submission)
    assert read(content(answer)).fields(0)["Reporting-MTA"] == "dns; mail.xn--bcher-kva.example"
