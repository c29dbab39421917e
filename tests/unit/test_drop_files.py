"""What may lie in the drop, and what of it is a message."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.dropdoor import DropFolder, Unfit
from ingress.dropfile import DropFile, first_lines
from ingress.dropped import Dropped, Unfinished

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
START = first_lines(b"MAIL FROM:<ann> RET=HDRS", [b"RCPT TO:<bob>", "RCPT TO:<jürgen>".encode()])


def left(drop: Path, start: bytes = START, message: bytes = MESSAGE) -> Path:
    before = set(drop.iterdir())
    file = DropFile(str(drop), start)
    file.write(message)
    file.finish()
    (path,) = set(drop.iterdir()) - before
    return path


@contextmanager
def opened(path: Path) -> Iterator[Dropped]:
    with Dropped(DropFolder(str(path.parent), "").open(path.name)) as dropped:
        yield dropped


def read(path: Path) -> bytes:
    with opened(path) as dropped:
        dropped.read_commands()
        return b"".join(dropped.pieces())


def test_a_message_is_read_as_it_was_left(tmp_path: Path) -> None:
    with opened(left(tmp_path)) as dropped:
        assert dropped.read_commands() == ("FROM:<ann> RET=HDRS", ["TO:<bob>", "TO:<jürgen>"])
        assert dropped.octets == len(MESSAGE)
        assert b"".join(dropped.pieces()) == MESSAGE
        assert dropped.uid == os.getuid()


def test_a_large_message_is_read_in_pieces(tmp_path: Path) -> None:
    message = os.urandom(300_000)
    with opened(left(tmp_path, message=message)) as dropped:
        dropped.read_commands()
        pieces = list(dropped.pieces())
    assert len(pieces) > 4
    assert b"".join(pieces) == message


@pytest.mark.parametrize("octets", [0, 1, 20, 33, 34, 35, -1, -20, -33, -34, -40])
def test_a_file_that_was_cut_off_is_unfinished_wherever_that_was(tmp_path: Path, octets: int) -> None:
    path = left(tmp_path)
    path.write_bytes(path.read_bytes()[:octets])
    with pytest.raises(Unfinished):
        read(path)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_file_of_which_an_octet_has_changed_is_not_read(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    path = left(tmp_path_factory.mktemp("drop"))
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    with pytest.raises((Unfinished, Unfit)):
        read(path)


def test_a_file_that_shrinks_while_it_is_read_is_unfinished(tmp_path: Path) -> None:
    path = left(tmp_path, message=b"x" * 300_000)
    with opened(path) as dropped:
        dropped.read_commands()
        pieces = dropped.pieces()
        next(pieces)
        os.truncate(path, 1000)
        with pytest.raises(Unfinished):
            list(pieces)


@pytest.mark.parametrize(
    "start",
    [
        b"something else\n\n",
        b"mailspool drop 2\nMAIL FROM:<>\nRCPT TO:<a>\n\n",
        b"mailspool drop 1\nRCPT TO:<a>\n\n",
        b"mailspool drop 1\nMAIL FROM:<>\n\n",
        b"mailspool drop 1\nMAIL FROM:<>\nDATA\n\n",
        b"mailspool drop 1\nMAIL FROM:<>\nRCPT TO:<\xff>\n\n",
        b"mailspool drop 1\nMAIL FROM:<>\nRCPT TO:<a>\n",
    ],
)
def test_a_whole_file_that_is_no_transaction_is_unfit(tmp_path: Path, start: bytes) -> None:
    path = left(tmp_path, start, b"")
    with pytest.raises(Unfit):
        read(path)


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = left(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(Unfit, match="no regular file"):
        read(link)


def test_a_file_with_two_names_is_not_read(tmp_path: Path) -> None:
    path = left(tmp_path)
    os.link(path, tmp_path / "other")
    for name in (path, tmp_path / "other"):
        with pytest.raises(Unfit, match="2 names"):
            read(name)


def test_nothing_but_a_regular_file_is_read_and_none_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("fifo", "folder", "socket"):
            with pytest.raises(Unfit, match="no regular file"):
                read(tmp_path / name)


def test_what_is_gone_is_an_error_of_the_kernel(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = left(tmp_path)
    os.link(path, tmp_path / "other")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(Unfit):
            read(path)
    assert len(os.listdir("/proc/self/fd")) == before
