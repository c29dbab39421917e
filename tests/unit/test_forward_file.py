"""A look at a .forward: what is used, what is refused, and what is held back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.forward_file import look_at, pack_answer, unpack_answer
from delivery.wire import Hangup
from policy.forward import MAX_OCTETS, Forward, ForwardAnswer, ForwardDeferred, ForwardRefused, NoForward
from spool.reply import printable

ME = os.geteuid()
#: Ours are on one line, and so are a user's when they have arrived.
REASONS = st.text(max_size=20).map(printable)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def write(home: Path, text: str = "zoe@example.net\n", mode: int = 0o644) -> Path:
    path = home / ".forward"
    path.write_text(text)
    path.chmod(mode)
    return path


def look(home: Path, uid: int = ME) -> ForwardAnswer:
    return look_at(str(home), uid)


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o400])
def test_a_file_that_its_user_alone_can_write_is_used(home: Path, mode: int) -> None:
    write(home, mode=mode)
    assert look(home) == Forward(b"zoe@example.net\n")


def test_without_file_or_home_there_is_none(home: Path) -> None:
    assert look(home) == look(home / "nowhere") == NoForward()
    (home / "file").touch()
    assert look(home / "file") == NoForward()


def test_a_file_is_read_so_far_that_its_excess_is_seen(home: Path) -> None:
    write(home, "x" * (MAX_OCTETS * 3))
    assert look(home) == Forward(b"x" * (MAX_OCTETS + 1))


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(home: Path, mode: int) -> None:
    write(home, mode=mode)
    assert look(home) == ForwardRefused("others may write to it")


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_file_in_a_home_that_others_can_write_is_refused(home: Path, mode: int) -> None:
    write(home)
    home.chmod(mode)
    assert look(home) == ForwardRefused("others may write to the home")


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_without_a_file_a_home_may_be_as_open_as_it_likes(home: Path, mode: int) -> None:
    home.chmod(mode)
    assert look(home) == NoForward()


def test_a_link_a_directory_and_a_pipe_are_refused_without_being_opened(home: Path) -> None:
    path = home / ".forward"
    path.symlink_to("/etc/passwd")
    assert look(home) == ForwardRefused("it is a symbolic link")
    path.unlink()
    path.mkdir()
    assert look(home) == ForwardRefused("it is no regular file")
    path.rmdir()
    os.mkfifo(path)
    assert look(home) == ForwardRefused("it is no regular file")


def test_files_and_homes_of_somebody_else_are_refused(home: Path) -> None:
    write(home)
    answer = look(home, ME + 1)
    if ME:
        assert answer == ForwardRefused(f"the home belongs to the user {ME}")
    else:
        assert answer == ForwardRefused("it belongs to the user 0")


def test_a_home_with_its_sticky_bit_holds_mail_back(home: Path) -> None:
    home.chmod(0o1755)
    assert look(home) == ForwardDeferred("the home has its sticky bit set")
    write(home)
    assert look(home) == ForwardDeferred("the home has its sticky bit set")


def test_a_home_by_way_of_a_link_is_a_home(home: Path) -> None:
    real = home / "real"
    real.mkdir()
    real.chmod(0o755)
    write(real)
    (home / "link").symlink_to("real")
    assert look(home / "link") == Forward(b"zoe@example.net\n")


@given(
    st.binary(max_size=50).map(Forward)
    | st.just(NoForward())
    | REASONS.map(ForwardRefused)
    | REASONS.map(ForwardDeferred)
)
def test_an_answer_that_travels_stays_what_it_is(answer: ForwardAnswer) -> None:
    assert unpack_answer(pack_answer(answer)) == answer


@pytest.mark.parametrize("fields", [None, {}, [], ["is"], ["is", 1], ["is not", "x"], ["other", ""]])
def test_what_is_no_answer_is_not_taken_for_one(fields: object) -> None:
    with pytest.raises(Hangup):
        unpack_answer(fields)
