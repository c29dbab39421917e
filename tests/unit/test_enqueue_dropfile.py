"""The file that sendmail leaves in the drop."""

from __future__ import annotations

import os
import resource
import stat
import zlib
from pathlib import Path

import pytest

from ingress.dropfile import MAX_MEMORY, NAME_DIGITS, NAME_LENGTH, Draft, DropFile, first_lines

START = first_lines(b"MAIL FROM:<a>", [b"RCPT TO:<b>"]) + b"Subject: x\r\n\r\n"


def test_a_finished_file_ends_in_a_line_that_vouches_for_it(tmp_path: Path) -> None:
    file = DropFile(str(tmp_path), START)
    file.write(b"hello\r\n")
    file.finish()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    content, last = whole[:-34], whole[-34:]
    assert content == START + b"hello\r\n"
    assert last == b"end %020d %08x\n" % (len(content), zlib.crc32(content))


def test_a_file_has_a_random_name_and_is_its_owners_alone(tmp_path: Path) -> None:
    for _ in range(2):
        DropFile(str(tmp_path), START).finish()
    first, second = tmp_path.iterdir()
    assert first.name != second.name
    assert len(first.name) == NAME_LENGTH
    assert NAME_DIGITS.issuperset(first.name)
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_an_abandoned_file_is_gone_and_stays_so(tmp_path: Path) -> None:
    file = DropFile(str(tmp_path), START)
    file.abandon()
    file.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    file = DropFile(str(tmp_path), START)
    limit = _file_size_limit(100)
    try:
        with pytest.raises(OSError, match="File too large"):
            file.write(b"x" * 1000)
    finally:
        _file_size_limit(limit)
    assert list(tmp_path.iterdir()) == []


def _file_size_limit(octets: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    return soft


def test_a_small_draft_touches_no_disk(tmp_path: Path) -> None:
    draft = Draft(str(tmp_path), START)
    draft.write(b"small")
    assert b"".join(draft.pieces()) == b"small"
    draft.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_large_draft_lies_unfinished_in_the_drop_until_it_is_discarded(tmp_path: Path) -> None:
    draft = Draft(str(tmp_path), START)
    pieces = [os.urandom(50_000) for _ in range(MAX_MEMORY // 50_000 + 2)]
    for piece in pieces:
        draft.write(piece)
    (path,) = tmp_path.iterdir()
    assert b"".join(draft.pieces()) == b"".join(pieces)
    assert draft.octets == sum(map(len, pieces))
    assert path.read_bytes() == START + b"".join(pieces)
    draft.discard()
    assert not path.exists()


@pytest.mark.parametrize("octets", [10, MAX_MEMORY + 10])
def test_a_draft_that_is_kept_is_whole_and_survives_its_discarding(tmp_path: Path, octets: int) -> None:
    draft = Draft(str(tmp_path), START)
    draft.write(b"x" * octets)
    draft.keep()
    draft.discard()
    (path,) = tmp_path.iterdir()
    assert path.read_bytes()[-34:].startswith(b"end %020d " % (len(START) + octets))


def test_no_piece_of_a_draft_ends_between_cr_and_lf(tmp_path: Path) -> None:
    draft = Draft(str(tmp_path), START)
    body = b"x" * 65535 + b"\r\n" + b"y" * MAX_MEMORY + b"\r\n"
    draft.write(body)
    pieces = list(draft.pieces())
    assert b"".join(pieces) == body
    assert not any(piece.endswith(b"\r") for piece in pieces)
