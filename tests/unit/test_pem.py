"""Certificates and keys without their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.pem import CarriedPem, PemFiles, in_memory

LARGE = bytes(range(256)) * 1000


def test_what_is_in_memory_can_be_read_like_a_file_and_is_gone_afterwards() -> None:
    with in_memory(LARGE) as path:
        assert Path(path).read_bytes() == LARGE
    with pytest.raises(OSError, match="No such file"):
        Path(path).read_bytes()


def test_what_was_carried_is_read_and_the_rest_is_missed_by_name() -> None:
    source = CarriedPem(lambda: {"/etc/a.crt": b"a"})
    assert source.read("/etc/a.crt") == b"a"
    with pytest.raises(FileNotFoundError, match=r"could not be read .*/etc/b\.crt"):
        source.read("/etc/b.crt")


def test_what_is_carried_anew_has_another_stamp() -> None:
    files = {"/etc/a.crt": b"a"}
    source = CarriedPem(lambda: files)
    before = source.stamp("/etc/a.crt")
    assert source.stamp("/etc/a.crt") == before
    files = {"/etc/a.crt": b"b"}
    assert source.stamp("/etc/a.crt") != before


def test_a_file_that_was_changed_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.crt"
    assert PemFiles().stamp(str(path)) is None
    path.write_bytes(b"a")
    before = PemFiles().stamp(str(path))
    path.write_bytes(b"bc")
    assert PemFiles().stamp(str(path)) != before
