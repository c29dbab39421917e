"""The name by which the server calls itself, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.server_name import ServerName, server_name
from tests.tools.configured import Configured, FakeHost


def name(tmp_path: Path, host: FakeHost, mailname: str | None = None) -> ServerName:
    configured = Configured(tmp_path, host)
    if mailname is not None:
        configured.write("mailname", mailname)
    return server_name(configured.layout, host)


def test_the_first_line_of_mailname_goes_before_everything(tmp_path: Path) -> None:
    found = name(tmp_path, FakeHost("other.example"), "mail.example.org\nignored\n")
    assert (found.name, found.is_qualified) == ("mail.example.org", True)


def test_without_mailname_it_is_the_host_name(tmp_path: Path) -> None:
    assert name(tmp_path, FakeHost("mail.example.org")).name == "mail.example.org"


def test_a_host_name_without_a_dot_is_completed_by_the_resolver(tmp_path: Path) -> None:
    host = FakeHost("laptop", canonical={"laptop": "laptop.example.org"})
    assert name(tmp_path, host).name == "laptop.example.org"


@pytest.mark.parametrize("canonical", ["localhost", "", "not a name."])
def test_what_the_resolver_does_not_know_better_changes_nothing(tmp_path: Path, canonical: str) -> None:
    found = name(tmp_path, FakeHost("laptop", canonical={"laptop": canonical}))
    assert (found.name, found.is_qualified) == ("laptop", False)


@pytest.mark.parametrize("text", ["", "two words\n", "-\n"])
def test_a_mailname_that_is_no_name_is_said_and_passed_over(tmp_path: Path, text: str) -> None:
    found = name(tmp_path, FakeHost("mail.example.org"), text)
    assert found.name == "mail.example.org"
    assert "is no host name" in found.trouble


def test_a_mailname_that_cannot_be_read_is_said_and_passed_over(tmp_path: Path) -> None:
    configured = Configured(tmp_path)
    (configured.folder / "mailname").mkdir()
    loaded = configured.read("match for any reject\n")
    assert loaded.config.server_name == "mail.example.org"
    (warning,) = loaded.warnings
    assert "mailname: Is a directory; the host name is used instead" in warning.message


def test_local_names_are_the_server_s_name_its_short_form_and_its_addresses(tmp_path: Path) -> None:
    config = Configured(tmp_path, FakeHost("Mail.example.org")).load("match for any reject\n")
    assert config.server_name == "Mail.example.org"
    assert config.local_addresses == {"127.0.0.1", "::1", "192.0.2.25", "2001:db8::25", "fe80::25"}
    assert config.local_names == {"localhost", "mail.example.org", "mail"} | config.local_addresses


def test_the_notes_say_where_the_name_comes_from(tmp_path: Path) -> None:
    configured = Configured(tmp_path)
    configured.write("mailname", "mx.example.org\n")
    assert (
        configured.read("match for any reject\n").notes[0]
        == f"server name: mx.example.org ({configured.folder}/mailname)"
    )
