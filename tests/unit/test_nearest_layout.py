"""Which system a command talks to."""

from __future__ import annotations

from pathlib import Path

import pytest

from spool.layout import nearest_layout


def test_a_root_that_is_given_is_the_nearest_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMTPD_ROOT", raising=False)
    assert nearest_layout(str(tmp_path)).drop_dir == f"{tmp_path}/var/spool/smtpd/drop"


def test_the_environment_names_the_nearest_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPD_ROOT", str(tmp_path))
    assert nearest_layout().submission_socket == f"{tmp_path}/var/run/smtpd-submission.sock"
