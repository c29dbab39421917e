"""Local delivery between a real spool and real mailboxes, by the user who runs the tests."""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from delivery.deposit import Deposit, Result, ToCommand
from delivery.dispatch import Dispatcher
from delivery.hands import OwnHands
from delivery.identity import Identity, identity_of
from delivery.mailboxes import Mailboxes
from policy.config import AnyAction, Config, Lmtp, LocalAction, Maildir, Mbox, Relay
from policy.route import Route
from spool.address import parse_address
from spool.bodies import LargeBody, checksum
from spool.errors import SpoolFull
from spool.files import SystemOps
from spool.ids import new_message_id
from spool.intent import MboxIntent
from spool.lane import Lane
from spool.layout import Layout
from spool.message import Batch, Destination, Message, NewEnvelope, Recipient, Submission
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Stage
from spool.writer import SpoolWriter
from tests.tools.claims import claimed
from tests.tools.deposits import MESSAGE, deposit, mbox_deposits
from tests.tools.spooled import DAY, HandClock, take

pytestmark = pytest.mark.anyio

ME = pwd.getpwuid(os.geteuid()).pw_name
MBOX = Mbox(name="local")
CONFIG = Config(path="smtpd.conf", server_name="mail.example.org", listeners=(), actions={}, rules=())


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    return Maildir(name="local", path=f"{tmp_path}/Maildir")


@pytest.fixture
def mailboxes(spool: SpoolWriter, place: Layout) -> Mailboxes:
    return Mailboxes(spool, place, OwnHands(spool.commit_intents, place.mail_dir, SystemOps()), lambda: CONFIG)


async def accept(spool: SpoolWriter, count: int = 1, target: str = "") -> None:
    """Queue mail for this user."""
    address = parse_address(f"{ME}@example.org")
    for _ in range(count):
        name = new_message_id(int(time.time() * 1000))
        now = spool.clock.now()
        message = Message(name, parse_address("ann@example.com"), now, 1_700_000_000.0, len(MESSAGE))
        envelope = NewEnvelope(Recipient(address), Destination(address, ME, target=target), Lane("local", ME), DAY)
        await spool.accept(Submission(message, MESSAGE, (envelope,)))


def attempts(results: Sequence[Attempt | Damaged]) -> list[Attempt]:
    return [result for result in results if isinstance(result, Attempt)]


def only(results: Sequence[Attempt | Damaged]) -> Attempt:
    (attempt,) = attempts(results)
    return attempt


# -- once, through crashes of the daemon ------------------------------------------------------------------------------


async def restarted(spool: SpoolWriter, place: Layout, clock: HandClock, action: LocalAction) -> list[Attempt]:
    """Another start of the daemon delivers what the one before had in flight."""
    await spool.aclose()
    clock.advance(1000)
    again = await SpoolWriter.open(place, clock)
    try:
        mailboxes = Mailboxes(again, place, OwnHands(again.commit_intents, place.mail_dir, SystemOps()), lambda: CONFIG)
        return attempts(await mailboxes.deliver(await take(again), action))
    finally:
        await again.aclose()


async def test_an_mbox_gets_mail_once_though_the_outcome_was_never_recorded(
    spool: SpoolWriter, place: Layout, clock: HandClock, mailboxes: Mailboxes
) -> None:
    await accept(spool, 3)
    await mailboxes.deliver(await take(spool), MBOX)
    inbox = Path(place.mail_dir) / ME
    before = inbox.read_bytes()
    assert before.count(b"\nSubject: hello\n") == 3
    results = await restarted(spool, place, clock, MBOX)
    assert [type(result.outcome) for result in results] == [Delivered] * 3
    assert inbox.read_bytes() == before


async def test_an_mbox_torn_in_the_middle_is_completed_by_the_next_start(
    spool: SpoolWriter, place: Layout, clock: HandClock, mailboxes: Mailboxes
) -> None:
    await accept(spool, 3)
    await mailboxes.deliver(await take(spool), MBOX)
    inbox = Path(place.mail_dir) / ME
    before = inbox.read_bytes()
    os.truncate(inbox, len(before) // 2)
    await restarted(spool, place, clock, MBOX)
    assert inbox.read_bytes() == before


async def test_a_maildir_gets_mail_once_though_a_reader_moved_it_before_the_next_start(
    spool: SpoolWriter, place: Layout, clock: HandClock, mailboxes: Mailboxes, maildir: Maildir
) -> None:
    await accept(spool, 3)
    await mailboxes.deliver(await take(spool), maildir)
    new, cur = Path(maildir.path) / "new", Path(maildir.path) / "cur"
    for path in list(new.iterdir())[:2]:
        path.rename(cur / f"{path.name}:2,S")
    results = await restarted(spool, place, clock, maildir)
    assert [type(result.outcome) for result in results] == [Delivered] * 3
    assert (len(list(new.iterdir())), len(list(cur.iterdir()))) == (1, 2)


async def test_what_was_unclaimed_after_an_interrupted_attempt_is_looked_for_by_the_next_start(
    spool: SpoolWriter, place: Layout, clock: HandClock, mailboxes: Mailboxes
) -> None:
    await accept(spool)
    items = await take(spool)
    await mailboxes.deliver(items, MBOX)
    await spool.unclaim(items)
    await restarted(spool, place, clock, MBOX)
    assert (Path(place.mail_dir) / ME).read_bytes().count(b"\nSubject: hello\n") == 1


# -- outcomes ---------------------------------------------------------------------------------------------------------


async def test_a_delivery_is_told_in_the_history_and_the_log(
    mailboxes: Mailboxes, maildir: Maildir, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "delivery")
    attempt = only(await mailboxes.deliver([claimed(ME, recipient="list@example.org")], maildir))
    assert attempt.route == f"maildir:{maildir.path}"
    (line,) = [record.getMessage() for record in caplog.records if "mda delivery" in record.getMessage()]
    assert re.fullmatch(
        rf"[0-9a-f]{{16}} mda delivery evpid=0{{19}}1\.1 from=<ann@example\.com> to=<{ME}@example\.org>"
        rf" rcpt=<list@example\.org> user={ME} delay=\w+ result=Ok stat=Delivered",
        line,
    )


async def test_a_deferral_says_why_in_the_log(
    mailboxes: Mailboxes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "delivery")
    (tmp_path / "file").touch()
    action = Maildir(name="local", path=f"{tmp_path}/file")
    attempt = only(await mailboxes.deliver([claimed(ME)], action))
    assert isinstance(attempt.outcome, Deferred)
    assert "result=TempFail stat=Error (" in caplog.text


async def test_a_loop_fails(mailboxes: Mailboxes, maildir: Maildir, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "delivery")
    body = f"Delivered-To: {ME}@EXAMPLE.org\r\n\r\n".encode()
    attempt = only(await mailboxes.deliver([claimed(ME, body=body)], maildir))
    assert isinstance(attempt.outcome, Failed)
    assert attempt.outcome.reply.status == "5.4.6"
    assert "result=PermFail stat=Loop detected" in caplog.text


async def test_each_of_a_mixed_batch_has_its_own_result_in_order(
    mailboxes: Mailboxes, maildir: Maildir, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(b"x" * 100_000)
    body = LargeBody(str(tmp_path / "body"), 100_000, checksum(b"y" * 100_000), SystemOps())
    items = [
        claimed(ME, message=1),
        claimed("no-such-user-here", message=2),
        claimed(ME, message=3, body=body),
        claimed(ME, message=4),
    ]
    results = await mailboxes.deliver(items, maildir)
    assert [result.envelope for result in results] == [item.envelope.id for item in items]
    kinds = [type(result.outcome) if isinstance(result, Attempt) else type(result) for result in results]
    assert kinds == [Delivered, Deferred, Damaged, Delivered]


async def test_an_envelope_that_was_removed_meanwhile_reaches_no_mailbox(mailboxes: Mailboxes, tmp_path: Path) -> None:
    attempt = only(await mailboxes.deliver([claimed(ME, target=f"{tmp_path}/archive")], MBOX))
    assert isinstance(attempt.outcome, Deferred)
    assert (tmp_path / "archive").read_bytes() == b""


async def test_mail_for_nowhere_is_gone(mailboxes: Mailboxes) -> None:
    attempt = only(await mailboxes.deliver([claimed("", target="/dev/null")], MBOX))
    assert isinstance(attempt.outcome, Delivered)


async def test_a_file_that_an_alias_names_gets_the_mail(
    spool: SpoolWriter, mailboxes: Mailboxes, tmp_path: Path
) -> None:
    await accept(spool, target=f"{tmp_path}/archive")
    await mailboxes.deliver(await take(spool), MBOX)
    assert (tmp_path / "archive").read_bytes().startswith(b"From ann@example.com ")


async def test_an_ordinary_users_daemon_delivers_to_nobody_else(
    mailboxes: Mailboxes, maildir: Maildir, place: Layout
) -> None:
    attempt = only(await mailboxes.deliver([claimed("games" if ME != "games" else "root")], maildir))
    assert isinstance(attempt.outcome, Deferred)
    assert "runs as root" in attempt.outcome.reply.text
    assert attempt.outcome.stage is Stage.ROUTE


class FaultyHands:
    becomes_others = True

    async def make(self, who: Identity, deposits: Sequence[Deposit]) -> list[Result]:
        raise ZeroDivisionError("secret detail")

    async def aclose(self) -> None:
        return


async def test_an_unforeseen_exception_defers_and_is_logged(
    spool: SpoolWriter, place: Layout, maildir: Maildir, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = only(await Mailboxes(spool, place, FaultyHands(), lambda: CONFIG).deliver([claimed(ME)], maildir))
    assert isinstance(attempt.outcome, Deferred)
    assert attempt.outcome.reply.status == "4.3.0"
    assert "secret" not in attempt.outcome.reply.text
    assert "ZeroDivisionError: secret detail" in caplog.text


# -- threads of our own -----------------------------------------------------------------------------------------------


async def test_an_intent_that_cannot_be_kept_defers_and_appends_nothing(tmp_path: Path) -> None:
    async def refuse(intents: Sequence[MboxIntent]) -> None:
        raise SpoolFull(28, "No space left on device")

    hands = OwnHands(refuse, str(tmp_path / "mail"), SystemOps())
    (result,) = await hands.make(identity_of(ME), mbox_deposits(tmp_path / "mail/me"))
    assert isinstance(result, Deferred)
    assert (tmp_path / "mail/me").read_bytes() == b""
    assert (tmp_path / "mail").stat().st_mode & 0o777 in (0o700, 0o755)


async def test_a_cancelled_caller_ends_the_command_of_a_thread(tmp_path: Path, spool: SpoolWriter) -> None:
    mark = tmp_path / "pid"
    script = f"echo $$ >{mark}.new; mv {mark}.new {mark}; cat >/dev/null; exec sleep 60"
    command = deposit(ToCommand(("/bin/sh", "-c", script), {"PATH": "/usr/bin:/bin"}))
    hands = OwnHands(spool.commit_intents, str(tmp_path), SystemOps())
    async with anyio.create_task_group() as group:
        group.start_soon(hands.make, identity_of(ME), [command])
        await until(mark.exists)
        group.cancel_scope.cancel()
    await until_gone(int(mark.read_text()))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await anyio.sleep(0.02)
    raise AssertionError("it did not come about")


async def until_gone(pid: int) -> None:
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await anyio.sleep(0.02)
    raise AssertionError(f"process {pid} lives on")


# -- the dispatcher ---------------------------------------------------------------------------------------------------


class Recorder:
    """Stands for whoever delivers, and notes what it is given."""

    def __init__(self, name: str, calls: list[str], error: Exception | None = None) -> None:
        self._name = name
        self._calls = calls
        self._error = error

    async def deliver(self, items: object, how: object) -> Sequence[Attempt | Damaged]:
        self._calls.append(self._name)
        if self._error is not None:
            raise self._error
        return []

    async def aclose(self) -> None:
        self._calls.append(f"{self._name} closed")


@pytest.fixture
def calls() -> list[str]:
    return []


def dispatcher(calls: list[str], error: Exception | None = None) -> Dispatcher:
    relay, lmtp, mailboxes = (Recorder(name, calls, error) for name in ("relay", "lmtp", "mailboxes"))
    return Dispatcher(relay, lmtp, mailboxes, lambda: 7)


@pytest.mark.parametrize(
    ("action", "target", "who"),
    [
        (Relay(name="out"), "", "relay"),
        (Lmtp(name="local", destination="/socket"), "", "lmtp"),
        (Lmtp(name="local", destination="/socket"), "|procmail", "mailboxes"),
        (Mbox(name="local"), "", "mailboxes"),
        (Maildir(name="local"), "/file", "mailboxes"),
    ],
)
async def test_an_action_leads_to_those_who_deliver_for_it(
    calls: list[str], action: AnyAction, target: str, who: str
) -> None:
    batch = Batch(Lane("x", ""), (claimed("bob", target=target),))
    await dispatcher(calls).deliver(batch, Route("name", action, ""))
    assert calls == [who]


async def test_an_unforeseen_exception_anywhere_defers_every_envelope(
    calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    batch = Batch(Lane("x", ""), (claimed("bob"), claimed("bob", message=2)))
    results = await dispatcher(calls, ZeroDivisionError("secret")).deliver(batch, Route("name", Mbox(name="x"), ""))
    assert [type(attempt.outcome) for attempt in attempts(results)] == [Deferred] * 2
    assert all("secret" not in attempt.outcome.reply.text for attempt in attempts(results))
    assert "ZeroDivisionError: secret" in caplog.text


async def test_closing_the_dispatcher_closes_everybody(calls: list[str]) -> None:
    await dispatcher(calls).aclose()
    assert sorted(calls) == ["lmtp closed", "mailboxes closed", "relay closed"]
