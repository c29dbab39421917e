from __future__ import annotations

import contextlib
import errno
import mailbox
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from delivery.deposit import Deposit, Result, ToMbox
from delivery.mbox import deliver, make
from spool.bodies import LargeBody, checksum
from spool.files import SystemOps
from spool.outcome import Damaged, Deferred, Delivered, Stage
from tests.tools.deposits import DATE, HEADER, MESSAGE, FailingOps, NotingDesk, again, deposit, mbox_deposits

RECORD = b"From ann@example.com Tue Nov 14 22:13:20 2023\n" + HEADER + b"Subject: hello\n\nhello\n\n"
#: A message as ingress takes it: its id stands in a Received field.
TRACED = b"Received: by mail.example.org id " + b"0" * 20 + b"\r\n" + MESSAGE
TRACED_RECORD = RECORD.replace(b"Subject", TRACED.partition(b"\r\n")[0] + b"\nSubject")
OTHERS = b"From root Mon Jan  1 00:00:00 2024\nSubject: there before\n\nhello\n\n"


@pytest.fixture
def desk() -> Iterator[NotingDesk]:
    desk = NotingDesk()
    yield desk
    desk.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "bob"


def put(deposits: Sequence[Deposit], desk: NotingDesk, ops: SystemOps | None = None) -> list[Result]:
    return deliver(deposits, ops or SystemOps(), desk, patience=0.2)


def only(results: list[Result]) -> Deferred:
    (result,) = results
    assert isinstance(result, Deferred)
    return result


def test_a_missing_mailbox_is_made_for_its_owner_alone(inbox: Path, desk: NotingDesk) -> None:
    (result,) = put(mbox_deposits(inbox), desk)
    assert isinstance(result, Delivered)
    assert inbox.read_bytes() == RECORD
    assert inbox.stat().st_mode & 0o777 == 0o600


def test_a_message_is_appended_to_what_is_there(inbox: Path, desk: NotingDesk) -> None:
    inbox.write_bytes(OTHERS)
    put(mbox_deposits(inbox), desk)
    assert inbox.read_bytes() == OTHERS + RECORD


def test_the_standard_library_reads_what_was_delivered(inbox: Path, desk: NotingDesk) -> None:
    put(mbox_deposits(inbox, b"Subject: one\r\n\r\nFrom here\r\n", b"Subject: two\r\n\r\n>From there\r\nbye"), desk)
    with contextlib.closing(mailbox.mbox(inbox)) as reader:
        messages = list(reader)
    assert [message["Subject"] for message in messages] == ["one", "two"]
    assert messages[0].get_payload() == ">From here\n"
    assert messages[1].get_payload() == ">>From there\nbye\n"


def test_the_null_sender_and_one_with_blanks_make_a_readable_separator(inbox: Path, desk: NotingDesk) -> None:
    put([deposit(ToMbox(str(inbox), "", DATE)), deposit(ToMbox(str(inbox), '"a b"@example.com', DATE), number=2)], desk)
    separators = [line for line in inbox.read_text().splitlines() if line.startswith("From ")]
    assert separators == [
        "From MAILER-DAEMON Tue Nov 14 22:13:20 2023",
        'From "a-b"@example.com Tue Nov 14 22:13:20 2023',
    ]


def test_a_separator_begins_a_line_after_a_torn_end_of_another_program(inbox: Path, desk: NotingDesk) -> None:
    inbox.write_bytes(OTHERS + b"From cron Mon Jan  1 00:00:00 2024\nSubject: cut o")
    put(mbox_deposits(inbox), desk)
    assert inbox.read_bytes().endswith(b"cut o\n\n" + RECORD)


def test_a_batch_has_one_intent_each_one_commit_and_one_fsync(inbox: Path, desk: NotingDesk) -> None:
    inbox.write_bytes(OTHERS)
    ops = FailingOps()
    put(mbox_deposits(inbox, b"A: 1\r\n\r\n", b"B: 22\r\n\r\n"), desk, ops)
    assert (desk.commits, ops.fsyncs) == (1, 1)
    first, second = desk.intents
    text = inbox.read_bytes()
    assert text[first.offset : first.offset + first.length].endswith(b"A: 1\n\n\n")
    assert text[second.offset : second.offset + second.length].endswith(b"B: 22\n\n\n")
    assert (first.offset, second.offset + second.length) == (len(OTHERS), len(text))
    assert (first.device, first.inode) == (inbox.stat().st_dev, inbox.stat().st_ino)


def test_nothing_is_appended_before_the_intent_is_committed(inbox: Path) -> None:
    desk = NotingDesk(refusal="the spool is full")
    inbox.write_bytes(OTHERS)
    assert only(put(mbox_deposits(inbox), desk)).reply.text == "the spool is full"
    assert inbox.read_bytes() == OTHERS
    desk.close()


def test_a_repetition_that_finds_its_message_appends_nothing_but_syncs(inbox: Path, desk: NotingDesk) -> None:
    inbox.write_bytes(OTHERS)
    deposits = mbox_deposits(inbox)
    put(deposits, desk)
    with inbox.open("ab") as file:
        file.write(OTHERS)
    before = inbox.read_bytes()
    ops = FailingOps()
    (result,) = put(again(deposits, desk.intents), desk, ops)
    assert isinstance(result, Delivered)
    assert inbox.read_bytes() == before
    assert ops.fsyncs == 1
    assert desk.commits == 1


@pytest.mark.parametrize("left", [1, 5, 46, 60, len(RECORD) - 1])
def test_a_repetition_cuts_off_its_own_torn_end_and_appends_again(inbox: Path, desk: NotingDesk, left: int) -> None:
    inbox.write_bytes(OTHERS)
    deposits = mbox_deposits(inbox)
    put(deposits, desk)
    os.truncate(inbox, len(OTHERS) + left)
    (result,) = put(again(deposits, desk.intents), desk)
    assert isinstance(result, Delivered)
    assert inbox.read_bytes() == OTHERS + RECORD


def test_nuls_of_a_power_loss_count_as_a_torn_end(inbox: Path, desk: NotingDesk) -> None:
    inbox.write_bytes(OTHERS)
    deposits = mbox_deposits(inbox)
    put(deposits, desk)
    inbox.write_bytes(OTHERS + RECORD[:40] + bytes(len(RECORD) - 40))
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == OTHERS + RECORD


@pytest.mark.parametrize("left", [3, 30, 60, len(RECORD) - 4])
@pytest.mark.parametrize("between", [b"", b"\n", b"\n\n"], ids=["glued", "one line end", "two line ends"])
def test_a_torn_end_that_another_program_follows_becomes_empty_lines(
    inbox: Path, desk: NotingDesk, left: int, between: bytes
) -> None:
    inbox.write_bytes(OTHERS)
    deposits = mbox_deposits(inbox)
    put(deposits, desk)
    inbox.write_bytes(OTHERS + RECORD[:left] + between + OTHERS)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == OTHERS + b"\n" * left + between + OTHERS + RECORD


def test_a_torn_beginning_of_a_mailbox_keeps_its_separator(inbox: Path, desk: NotingDesk) -> None:
    deposits = mbox_deposits(inbox)
    put(deposits, desk)
    inbox.write_bytes(RECORD[:80] + OTHERS)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == RECORD[:46] + b"\n" * 34 + OTHERS + RECORD


def test_what_others_wrote_that_looks_like_the_end_of_ours_is_left_alone(inbox: Path, desk: NotingDesk) -> None:
    body = b"\r\n" + b"x" * 50 + b"From root Mon Jan  1 00:00:00 2023\r\n"
    deposits = mbox_deposits(inbox, body)
    inbox.write_bytes(OTHERS)
    put(deposits, desk)
    whole = inbox.read_bytes().removeprefix(OTHERS)
    left = whole.index(b"From root")
    inbox.write_bytes(OTHERS + whole[:left] + OTHERS)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == OTHERS + b"\n" * left + OTHERS + whole


def test_lines_between_others_are_not_taken_for_a_torn_end(inbox: Path, desk: NotingDesk) -> None:
    deposits = mbox_deposits(inbox)
    put(deposits, desk)
    inbox.write_bytes(OTHERS + OTHERS)
    intents = [replace(intent, offset=len(OTHERS) - 1) for intent in desk.intents]
    put(again(deposits, intents), desk)
    assert inbox.read_bytes() == OTHERS + OTHERS + RECORD


def test_a_batch_torn_in_the_middle_is_completed(inbox: Path, desk: NotingDesk) -> None:
    inbox.write_bytes(OTHERS)
    deposits = mbox_deposits(inbox, b"A: 1\r\n\r\n", b"B: 2\r\n\r\n", b"C: 3\r\n\r\n")
    put(deposits, desk)
    whole = inbox.read_bytes()
    middle = desk.intents[1]
    os.truncate(inbox, middle.offset + middle.length // 2)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == whole


def read_by(content: bytes, inbox: Path, *, in_place: bool) -> bytes:
    """Have a reader give the mailbox this content."""
    if not in_place:
        inbox.rename(inbox.with_name("old"))
    inbox.write_bytes(content)
    return content


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "as a new file"])
@pytest.mark.parametrize(
    "ours",
    [
        TRACED_RECORD,
        TRACED_RECORD.replace(b"\n\nhello", b"\nStatus: RO\nX-UID: 12\nX-Keywords: a\n b\n\nhello"),
        TRACED_RECORD.replace(b"\nSubject", b"\nContent-Length: 6\nSubject"),
        TRACED_RECORD.replace(b"Tue Nov 14 22:13:20", b"Tue Nov 14 23:13:20"),
        TRACED_RECORD.removesuffix(b"\n"),
        TRACED_RECORD + b"\n",
    ],
    ids=["moved", "read", "measured", "another separator", "no empty line", "two empty lines"],
)
@pytest.mark.parametrize("after", [b"", OTHERS], ids=["last", "between"])
def test_a_message_that_a_reader_has_moved_is_found(
    inbox: Path, desk: NotingDesk, ours: bytes, after: bytes, in_place: bool
) -> None:
    inbox.write_bytes(OTHERS * 3)
    deposits = mbox_deposits(inbox, TRACED)
    put(deposits, desk)
    # Of the three messages before ours one is left; one has come after it.
    content = read_by(OTHERS + ours + after, inbox, in_place=in_place)
    (result,) = put(again(deposits, desk.intents), desk)
    assert isinstance(result, Delivered)
    assert inbox.read_bytes() == content + (b"" if content.endswith(b"\n\n") else b"\n")


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "as a new file"])
@pytest.mark.parametrize("after", [b"", OTHERS], ids=["last", "between"])
def test_a_torn_end_that_a_reader_has_moved_is_undone(
    inbox: Path, desk: NotingDesk, after: bytes, in_place: bool
) -> None:
    inbox.write_bytes(OTHERS * 3)
    deposits = mbox_deposits(inbox, TRACED)
    put(deposits, desk)
    record = inbox.read_bytes().removeprefix(OTHERS * 3)
    read_by(OTHERS + record[:-4] + after, inbox, in_place=in_place)
    put(again(deposits, desk.intents), desk)
    rest = b"\n" * len(record[:-4]) + after if after else b""
    assert inbox.read_bytes() == OTHERS + rest + record


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "as a new file"])
def test_a_mailbox_that_a_reader_has_emptied_gets_the_message(inbox: Path, desk: NotingDesk, in_place: bool) -> None:
    inbox.write_bytes(OTHERS * 3)
    deposits = mbox_deposits(inbox, TRACED)
    put(deposits, desk)
    read_by(b"", inbox, in_place=in_place)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == TRACED_RECORD


@pytest.mark.parametrize(
    "similar",
    [
        TRACED_RECORD.replace(b"\nhello\n", b"\nhello\nmore\n"),
        TRACED_RECORD.replace(b"Subject: hello", b"Subject: hell"),
        TRACED_RECORD.replace(b"Subject", b"X-New: header\nSubject"),
        OTHERS.replace(b"\nhello\n", b"\n" + TRACED_RECORD.partition(b"\n")[2]),
        b"X" + TRACED_RECORD,
    ],
    ids=["longer", "another subject", "another header", "quoted", "no separator"],
)
def test_what_only_looks_like_ours_is_another_message(inbox: Path, desk: NotingDesk, similar: bytes) -> None:
    inbox.write_bytes(OTHERS)
    deposits = mbox_deposits(inbox, TRACED)
    put(deposits, desk)
    read_by(similar + OTHERS, inbox, in_place=False)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == similar + OTHERS + TRACED_RECORD


def test_equal_messages_are_told_apart_by_where_they_lie(inbox: Path, desk: NotingDesk) -> None:
    deposits = mbox_deposits(inbox, TRACED, TRACED, TRACED)
    put(deposits, desk)
    os.truncate(inbox, len(TRACED_RECORD) * 3 // 2)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == TRACED_RECORD * 3
    read_by(OTHERS + TRACED_RECORD * 2, inbox, in_place=False)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == OTHERS + TRACED_RECORD * 3


def test_a_message_without_its_id_is_not_searched_for(inbox: Path, desk: NotingDesk) -> None:
    deposits = mbox_deposits(inbox)
    put(deposits, desk)
    read_by(OTHERS + RECORD, inbox, in_place=False)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == OTHERS + RECORD + RECORD


def test_a_message_is_found_in_a_mailbox_of_many_megabytes(inbox: Path, desk: NotingDesk) -> None:
    deposits = mbox_deposits(inbox, TRACED + b"y" * 200_000 + b"\r\n")
    put(deposits, desk)
    ours = inbox.read_bytes()
    # The header of ours lies across the end of a piece that is read.
    filler = OTHERS[:-2] + b"z" * (3 * 1024 * 1024 - len(OTHERS) - 70) + b"\n\n"
    content = read_by(filler + ours + OTHERS, inbox, in_place=False)
    put(again(deposits, desk.intents), desk)
    assert inbox.read_bytes() == content


@pytest.mark.parametrize(("error", "status"), [(errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.2.2"), (errno.EIO, "4.3.0")])
@pytest.mark.parametrize("kind", ["write", "fsync"])
def test_after_an_error_the_mailbox_is_as_it_was(
    inbox: Path, desk: NotingDesk, kind: str, error: int, status: str
) -> None:
    inbox.write_bytes(OTHERS)
    refused = only(put(mbox_deposits(inbox), desk, FailingOps(kind, 1, error)))
    assert refused.reply.status == status
    assert inbox.read_bytes() == OTHERS
    assert not inbox.with_name("bob.lock").exists()


def test_a_damaged_body_is_set_aside_and_the_others_go_on(inbox: Path, tmp_path: Path, desk: NotingDesk) -> None:
    (tmp_path / "body").write_bytes(b"x" * 100_000)
    body = LargeBody(str(tmp_path / "body"), 100_000, checksum(b"y" * 100_000), SystemOps())
    bad = deposit(ToMbox(str(inbox), "ann@example.com", DATE), body, 2)
    damaged, sound = put([bad, *mbox_deposits(inbox)], desk)
    assert isinstance(damaged, Damaged)
    assert isinstance(sound, Delivered)
    assert inbox.read_bytes() == RECORD


def test_a_large_body_arrives_whole(inbox: Path, tmp_path: Path, desk: NotingDesk) -> None:
    octets = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 60_000
    (tmp_path / "body").write_bytes(octets)
    body = LargeBody(str(tmp_path / "body"), len(octets), checksum(octets), SystemOps())
    put([deposit(ToMbox(str(inbox), "ann@example.com", DATE), body)], desk)
    assert inbox.read_bytes().endswith(HEADER + octets.replace(b"\r\n", b"\n") + b"\n")


def make_link(inbox: Path) -> None:
    inbox.symlink_to(inbox.with_name("target"))
    inbox.with_name("target").touch()


def make_second_name(inbox: Path) -> None:
    inbox.with_name("target").touch()
    inbox.hardlink_to(inbox.with_name("target"))


@pytest.mark.parametrize("make_unfit", [make_link, make_second_name, os.mkfifo, Path.mkdir])
def test_what_is_no_plain_file_with_one_name_is_refused(inbox: Path, desk: NotingDesk, make_unfit: object) -> None:
    assert callable(make_unfit)
    make_unfit(inbox)
    refused = only(put(mbox_deposits(inbox), desk))
    assert refused.stage is Stage.CONNECT
    assert "regular file" in refused.reply.text or "2 links" in refused.reply.text
    if inbox.with_name("target").exists():
        assert inbox.with_name("target").read_bytes() == b""
    assert desk.commits == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_mailbox_of_another_user_is_refused(inbox: Path, desk: NotingDesk) -> None:
    inbox.touch()
    os.chown(inbox, 65534, 65534)
    assert "belongs to another user" in only(put(mbox_deposits(inbox), desk)).reply.text
    assert inbox.read_bytes() == b""


def test_making_a_mailbox_leaves_one_that_is_there(inbox: Path) -> None:
    inbox.write_bytes(OTHERS)
    make(str(inbox), os.getuid(), os.getgid())
    assert inbox.read_bytes() == OTHERS


def test_making_a_mailbox_does_not_follow_a_link(inbox: Path) -> None:
    inbox.symlink_to(inbox.with_name("target"))
    make(str(inbox), os.getuid(), os.getgid())
    assert not inbox.with_name("target").exists()
