"""``auth`` without a table: the system's users, whom PAM knows."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from policy.config import Auth
from policy.errors import ConfigError
from policy.pam_service import missing, missing_service, service_folder
from policy.pki import selfsigned
from spool.layout import layout
from tests.tools.configured import Configured

TEXT = """\
pki box cert "/tls/mx.crt" key "/tls/mx.key"
listen on 127.0.0.1 port 2525 tls pki box auth
action "a" maildir
match from any for any action "a"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    (tmp_path / "tls").mkdir()
    pki = selfsigned(str(tmp_path / "tls"), "mx")
    Path(pki.cert).rename(tmp_path / "tls/mx.crt")
    Path(pki.key).rename(tmp_path / "tls/mx.key")
    (tmp_path / "etc/pam.d").mkdir(parents=True)
    (tmp_path / "etc/pam.d/smtpd").write_text("auth required pam_unix.so\n")
    return Configured(tmp_path)


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_a_listener_without_a_table_is_for_the_system_s_users(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, 0)
    (listener,) = [each for each in configured.load(TEXT).listeners if not each.is_socket]
    assert (listener.auth, listener.credentials) == (Auth.REQUIRED, None)
    assert "PAM" not in " ".join(configured.warnings(TEXT))


def test_an_ordinary_user_hears_at_the_start_whose_passwords_can_be_checked(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, 1000)
    assert "can have PAM check no password but the user's own" in " ".join(configured.warnings(TEXT))


def test_without_libpam_the_configuration_is_wrong(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", lacking)
    with pytest.raises(
        ConfigError, match=r'"auth" without a table asks PAM, which is not on this machine; expected libpam'
    ):
        configured.load(TEXT)


def test_a_system_in_a_folder_has_its_services_in_there(tmp_path: Path) -> None:
    places = layout(str(tmp_path))
    assert service_folder(places) == f"{tmp_path}/etc/pam.d"
    assert missing_service(places) == f"{tmp_path}/etc/pam.d/smtpd"
    assert str(tmp_path) in missing(places)
