"""Tables of accounts, in files of the form of passwd(5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.credentials import check_login, encrypt
from policy.tables.accounts import PasswdTable
from policy.tables.format import TableSyntaxError
from policy.tables.passwd import User
from policy.tables.service import ALIAS, CREDENTIALS, SECRETS, USERINFO, Service
from policy.tables.services import find_userinfo
from policy.tables.table import Shape
from tests.tools.configured import Configured


def table(path: Path, text: str, service: Service) -> PasswdTable:
    path.write_text(text)
    found = PasswdTable("t", str(path))
    found.load()
    return found.serving(Shape.MAPPING, service)


def test_accounts_log_in_with_their_passwords(tmp_path: Path) -> None:
    found = table(tmp_path / "t", f"# mail\n\nAnn@example.org:{encrypt('right')}:::::\n", CREDENTIALS)
    assert check_login(found, "ann@example.org", "right")
    assert not check_login(found, "ann@example.org", "wrong")


@pytest.mark.parametrize("stored", ["", "x", "*", "!", "!!", "*LK*", "!$6$salt$hash"])
def test_an_account_without_a_password_cannot_log_in(tmp_path: Path, stored: str) -> None:
    found = table(tmp_path / "t", f"ann:{stored}:1000:100::/home/ann:/bin/sh\n", CREDENTIALS)
    assert found.lookup("ann") is None


def test_accounts_are_users_with_a_home(tmp_path: Path) -> None:
    found = table(tmp_path / "t", "ann:x:1000:100:Ann,,:/home/ann:/bin/sh\n", USERINFO)
    assert find_userinfo(found, "ANN") == User("ANN", 1000, 100, "/home/ann")
    assert find_userinfo(found, "bob") is None


@pytest.mark.parametrize(
    ("line", "service"),
    [
        ("ann:$6$x$y", CREDENTIALS),
        (":$6$x$y:1:1::/:", CREDENTIALS),
        ("ann:$6$\x1b:1:1::/:", CREDENTIALS),
        ("ann:x:::Ann:/home/ann:", USERINFO),
        ("ann:x:1000:100::home:", USERINFO),
    ],
)
def test_a_line_that_is_no_account_is_told_without_its_hash(tmp_path: Path, line: str, service: Service) -> None:
    with pytest.raises(TableSyntaxError) as raised:
        table(tmp_path / "t", f"bob:$6$x$y:1:1::/:\n{line}\n", service)
    assert raised.value.line == 2
    assert "$6$" not in str(raised.value)


@pytest.mark.parametrize("service", [ALIAS, SECRETS])
def test_accounts_serve_no_other_use(tmp_path: Path, service: Service) -> None:
    with pytest.raises(TableSyntaxError, match="accounts serve for logins"):
        table(tmp_path / "t", "ann:x:1:1::/:\n", service)


def test_a_new_account_counts_at_once_and_a_broken_line_keeps_the_old_ones(tmp_path: Path) -> None:
    found = table(tmp_path / "t", "ann:x:1:1::/:\n", USERINFO)
    (tmp_path / "t").write_text("ann:x:1:1::/:\nbob:x:2:2::/:\n")
    assert find_userinfo(found, "bob") == User("bob", 2, 2, "/")
    (tmp_path / "t").write_text("broken\n")
    assert find_userinfo(found, "bob") == User("bob", 2, 2, "/")


def test_one_file_of_accounts_serves_logins_and_deliveries(tmp_path: Path) -> None:
    configured = Configured(tmp_path)
    path = configured.write("accounts", "ann:$6$x$y:1000:100::/srv/ann:\n")
    config = configured.load(
        f"table t passwd:{path.as_posix().removeprefix(str(tmp_path))}\n"
        'action "in" maildir userbase <t>\nmatch from any for domain example.org action "in"\n'
    )
    assert config.tables["t"].written == f'"passwd:{path}"'
