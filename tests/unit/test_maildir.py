from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from delivery.deposit import Deposit, Result, ToMaildir
from delivery.local import make_deposits
from delivery.maildir import deliver
from spool.bodies import LargeBody, checksum
from spool.files import SystemOps
from spool.outcome import Damaged, Deferred, Delivered, Stage
from tests.tools.deposits import HEADER, FailingOps, NotingDesk, again, deposit, maildir_deposits


@pytest.fixture
def desk() -> Iterator[NotingDesk]:
    desk = NotingDesk()
    yield desk
    desk.close()


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return tmp_path / "mail" / "bob"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def only(results: list[Result]) -> Deferred:
    (result,) = results
    assert isinstance(result, Deferred)
    return result


def test_a_maildir_is_made_for_its_owner_alone(maildir: Path, desk: NotingDesk) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    for folder in (maildir.parent, maildir, maildir / "tmp", maildir / "new", maildir / "cur"):
        assert folder.stat().st_mode & 0o777 == 0o700, folder


def test_a_message_arrives_in_new_with_its_header_and_lines_in_lf(maildir: Path, desk: NotingDesk) -> None:
    (result,) = deliver(maildir_deposits(maildir), SystemOps(), desk)
    assert isinstance(result, Delivered)
    assert names(maildir / "new") == ["1700000000.M1.test"]
    assert (maildir / "new/1700000000.M1.test").read_bytes() == HEADER + b"Subject: hello\n\nhello\n"
    assert (maildir / "new/1700000000.M1.test").stat().st_mode & 0o777 == 0o600
    assert names(maildir / "tmp") == []


def test_a_large_body_arrives_whole(maildir: Path, tmp_path: Path, desk: NotingDesk) -> None:
    octets = b"Subject: large\r\n\r\n" + b"0123456789" * 60_000 + b"\r\n"
    (tmp_path / "body").write_bytes(octets)
    body = LargeBody(str(tmp_path / "body"), len(octets), checksum(octets), SystemOps())
    (result,) = deliver([deposit(ToMaildir(str(maildir), "large"), body)], SystemOps(), desk)
    assert isinstance(result, Delivered)
    assert (maildir / "new/large").read_bytes() == HEADER + octets.replace(b"\r\n", b"\n")


def test_a_batch_shares_the_fsync_of_new(maildir: Path, desk: NotingDesk) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    ops = FailingOps()
    deliver(maildir_deposits(maildir, 10), ops, desk)
    assert ops.fsyncs == 9 + 1
    assert len(names(maildir / "new")) == 10


def test_a_batch_larger_than_our_descriptors_arrives(maildir: Path, desk: NotingDesk) -> None:
    results = deliver(maildir_deposits(maildir, 150), SystemOps(), desk)
    assert [type(result) for result in results] == [Delivered] * 150
    assert len(names(maildir / "new")) == 150


def test_a_repetition_finds_its_copy_in_new(maildir: Path, desk: NotingDesk) -> None:
    deposits = maildir_deposits(maildir)
    deliver(deposits, SystemOps(), desk)
    (result,) = deliver(deposits, SystemOps(), desk)
    assert isinstance(result, Delivered)
    assert len(names(maildir / "new")) == 1


@pytest.mark.parametrize("suffix", ["", ":2,", ":2,RS", ",S=70:2,S"])
def test_a_repetition_finds_its_copy_where_a_reader_has_moved_it(maildir: Path, desk: NotingDesk, suffix: str) -> None:
    deposits = maildir_deposits(maildir)
    deliver(deposits, SystemOps(), desk)
    (maildir / "new/1700000000.M1.test").rename(maildir / f"cur/1700000000.M1.test{suffix}")
    (result,) = deliver(again(deposits), SystemOps(), desk)
    assert isinstance(result, Delivered)
    assert names(maildir / "new") == []


def test_a_copy_of_another_message_is_not_taken_for_ours(maildir: Path, desk: NotingDesk) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    (maildir / "new/1700000000.M1.test").rename(maildir / "cur/1700000000.M1.test2:2,S")
    deliver(again(maildir_deposits(maildir)), SystemOps(), desk)
    assert names(maildir / "new") == ["1700000000.M1.test"]


def test_a_repetition_clears_what_a_dead_attempt_left_in_tmp(maildir: Path, desk: NotingDesk) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    (maildir / "new/1700000000.M1.test").unlink()
    (maildir / "tmp/1700000000.M1.test.0123abcd").write_bytes(b"Subject: he")
    (maildir / "tmp/1700000000.M7.elsewhere.0123abcd").write_bytes(b"another's")
    deliver(again(maildir_deposits(maildir)), SystemOps(), desk)
    assert names(maildir / "tmp") == ["1700000000.M7.elsewhere.0123abcd"]
    assert names(maildir / "new") == ["1700000000.M1.test"]


def test_a_repetition_removes_what_other_dead_attempts_of_this_spool_left_in_tmp(
    maildir: Path, desk: NotingDesk
) -> None:
    deposits = maildir_deposits(maildir)
    deliver(deposits, SystemOps(), desk)
    for name in ("1690000000.M7E1.test.0a0b0c0d", "1690000000.M7E1.elsewhere.0a0b0c0d", "1690000000.V1.mda"):
        (maildir / "tmp" / name).touch()
    deliver(again(deposits), SystemOps(), desk)
    left = sorted(path.name for path in (maildir / "tmp").iterdir())
    assert left == ["1690000000.M7E1.elsewhere.0a0b0c0d", "1690000000.V1.mda"]


def test_a_repetition_waits_for_an_agent_of_an_earlier_start(maildir: Path, desk: NotingDesk) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    other = os.open(maildir / "tmp", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    refused = only(deliver(again(maildir_deposits(maildir)), SystemOps(), desk, patience=0.2))
    assert refused.reply.status == "4.2.0"
    assert desk.waited >= 0.2
    fcntl.flock(other, fcntl.LOCK_UN)
    assert isinstance(deliver(again(maildir_deposits(maildir)), SystemOps(), desk)[0], Delivered)
    os.close(other)


def test_fresh_messages_are_written_side_by_side(maildir: Path, desk: NotingDesk) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    other = os.open(maildir / "tmp", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    deliver(maildir_deposits(maildir, 2), SystemOps(), desk)
    assert len(names(maildir / "new")) == 2
    os.close(other)


def test_a_tagged_address_goes_to_the_folder_that_the_user_has_made(maildir: Path, desk: NotingDesk) -> None:
    (maildir / ".lists").mkdir(parents=True)
    deliver(maildir_deposits(maildir, folder="lists"), SystemOps(), desk)
    assert len(names(maildir / ".lists/new")) == 1
    assert not (maildir / "new").exists()


def test_a_tagged_address_without_a_folder_goes_to_the_maildir(maildir: Path, desk: NotingDesk) -> None:
    deliver(maildir_deposits(maildir, folder="lists"), SystemOps(), desk)
    assert len(names(maildir / "new")) == 1
    assert not (maildir / ".lists").exists()


def junk_sorting(maildir: Path, body: bytes = b"Subject: x\r\n\r\nhello\r\n") -> Deposit:
    return deposit(ToMaildir(str(maildir), "1700000000.M1.test", sorts_junk=True), body)


def test_the_folder_for_junk_is_made_whole_before_there_is_any(maildir: Path, desk: NotingDesk) -> None:
    deliver([junk_sorting(maildir)], SystemOps(), desk)
    assert len(names(maildir / "new")) == 1
    assert names(maildir / ".Junk") == ["cur", "new", "tmp"]
    assert names(maildir / ".Junk/new") == []


def test_what_its_header_marks_as_spam_goes_to_the_folder_for_junk(maildir: Path, desk: NotingDesk) -> None:
    make_deposits([junk_sorting(maildir, b"X-Spam: Yes\r\n\r\nhello\r\n")], SystemOps(), desk)
    assert len(names(maildir / ".Junk/new")) == 1
    assert not (maildir / "new").exists()


@pytest.mark.parametrize("body", [b"X-Spam: Yes\r\n\r\n", b"Subject: x\r\n\r\n"])
def test_a_folder_for_junk_that_is_a_link_is_not_followed_and_holds_nothing_up(
    maildir: Path, tmp_path: Path, desk: NotingDesk, body: bytes
) -> None:
    maildir.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (maildir / ".Junk").symlink_to(tmp_path / "elsewhere")
    make_deposits([junk_sorting(maildir, body)], SystemOps(), desk)
    assert len(names(maildir / "new")) == 1
    assert names(tmp_path / "elsewhere") == []


def test_spam_stays_in_the_maildir_when_junk_is_not_asked_for(maildir: Path, desk: NotingDesk) -> None:
    make_deposits([deposit(ToMaildir(str(maildir), "x"), b"X-Spam: Yes\r\n\r\nhello\r\n")], SystemOps(), desk)
    assert len(names(maildir / "new")) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.2.2"), (errno.EFBIG, "4.2.2"), (errno.EIO, "4.3.0")],
)
@pytest.mark.parametrize("kind", ["write", "fsync"])
def test_a_full_disk_defers_one_message_and_leaves_nothing_of_it(
    maildir: Path, desk: NotingDesk, kind: str, error: int, status: str
) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    (maildir / "new/1700000000.M1.test").unlink()
    first, second = deliver(maildir_deposits(maildir, 2), FailingOps(kind, 1, error), desk)
    assert isinstance(first, Deferred)
    assert first.reply.status == status
    assert isinstance(second, Delivered)
    assert names(maildir / "new") == ["1700000000.M2.test"]
    assert names(maildir / "tmp") == []


def test_a_failed_fsync_of_new_delivers_nothing_and_the_repetition_finds_the_copy(
    maildir: Path, desk: NotingDesk
) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    (maildir / "new/1700000000.M1.test").unlink()
    only(deliver(maildir_deposits(maildir), FailingOps("fsync", 2, errno.EIO), desk))
    ops = FailingOps()
    (result,) = deliver(again(maildir_deposits(maildir)), ops, desk)
    assert isinstance(result, Delivered)
    assert ops.fsyncs == 1
    assert len(names(maildir / "new")) == 1


def test_a_damaged_body_is_set_aside_and_leaves_nothing(maildir: Path, tmp_path: Path, desk: NotingDesk) -> None:
    (tmp_path / "body").write_bytes(b"x" * 100_000)
    body = LargeBody(str(tmp_path / "body"), 100_000, checksum(b"y" * 100_000), SystemOps())
    damaged, sound = deliver(
        [deposit(ToMaildir(str(maildir), "one"), body), deposit(ToMaildir(str(maildir), "two"), number=2)],
        SystemOps(),
        desk,
    )
    assert isinstance(damaged, Damaged)
    assert isinstance(sound, Delivered)
    assert names(maildir / "new") == ["two"]
    assert names(maildir / "tmp") == []


@pytest.mark.parametrize("part", ["", "new", "tmp", "cur"])
def test_a_symbolic_link_in_place_of_a_directory_is_not_followed(
    maildir: Path, tmp_path: Path, desk: NotingDesk, part: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (maildir / part).parent.mkdir(parents=True, exist_ok=True)
    (maildir / part).symlink_to(elsewhere)
    refused = only(deliver(maildir_deposits(maildir), SystemOps(), desk))
    assert "symbolic link" in refused.reply.text
    assert refused.stage is Stage.CONNECT
    assert names(elsewhere) == []


def test_a_file_in_place_of_the_maildir_defers(maildir: Path, desk: NotingDesk) -> None:
    maildir.parent.mkdir()
    maildir.write_text("a file")
    assert "not a directory" in only(deliver(maildir_deposits(maildir), SystemOps(), desk)).reply.text.lower()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away")
@pytest.mark.parametrize("part", ["", "new", "tmp", "cur"])
def test_a_directory_of_another_user_is_refused(maildir: Path, desk: NotingDesk, part: str) -> None:
    deliver(maildir_deposits(maildir), SystemOps(), desk)
    os.chown(maildir / part, 65534, 65534)
    assert "belongs to another user" in only(deliver(maildir_deposits(maildir, 2)[1:], SystemOps(), desk)).reply.text
    assert names(maildir / "new") == ["1700000000.M1.test"]
