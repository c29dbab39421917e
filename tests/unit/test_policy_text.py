"""A configuration that is printed as it was understood means the same when it is read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings

from policy.config import Config
from policy.parser import load_config
from policy.pki import selfsigned
from policy.tables.file import FileTable
from policy.tables.inline import InlineTable
from policy.text import config_text
from spool.layout import layout
from tests.tools.configurations import configurations, right_lines
from tests.tools.configured import FakeHost


class Folder:
    """Configurations in a folder, with the tables and certificates that random ones name."""

    def __init__(self, path: Path) -> None:
        pki = selfsigned(str(path), "mail.example.org")
        table = path / "file"
        table.write_text("root ann\nbob ann, carl\n")
        self._path = path / "smtpd.conf"
        self._declared = (
            f'pki box cert "{pki.cert}"\npki box key "{pki.key}"\nca roots cert "{pki.cert}"\n'
            f'table pairs {{ me = "user:password", "a b" = c }}\ntable words {{ "a", "*.b" }}\ntable file "{table}"\n'
            'mda wrapper w "nice %{mda}"\n'
        )

    def read_with_declarations(self, text: str) -> Config:
        # They stand behind, so that the lines of the text keep their numbers.
        return self.read(f"{text}\n{self._declared}")

    def read(self, text: str) -> Config:
        self._path.write_text(text)
        return load_config(str(self._path), layout(""), {}, FakeHost()).config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("configuration"))


def meaning(value: object, named: Mapping[str, object]) -> object:
    """All that ``value`` says but the places where it was written; a table that is declared goes by its name."""
    if isinstance(value, InlineTable | FileTable):
        if named.get(value.name) is value:
            return value.name
        return value.shape, {key: value.lookup(key) for key in value.keys()}  # noqa: SIM118  (a table is no mapping)
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value) if field.name not in ("place", "tables"))
        return type(value), {name: meaning(getattr(value, name), named) for name in fields}
    if isinstance(value, Mapping):
        return {key: meaning(each, named) for key, each in value.items()}
    if isinstance(value, tuple):
        return [meaning(each, named) for each in value]
    return value


def meaning_of(config: Config) -> object:
    tables = {name: meaning(table, {}) for name, table in config.tables.items()}
    return meaning(config, config.tables), tables


@settings(deadline=None, max_examples=150)
@given(text=configurations())
def test_a_configuration_printed_as_text_parses_back_to_itself(folder: Folder, text: str) -> None:
    config = folder.read_with_declarations(right_lines(folder.read_with_declarations, text))
    text = config_text(config, with_passwords=True)
    assert meaning_of(folder.read(text)) == meaning_of(config)


def test_limits_that_are_not_set_are_named_in_remarks(folder: Folder) -> None:
    config = folder.read("mda limit max-session 5\nmatch for any reject\n")
    lines = config_text(config).splitlines()
    assert "mda limit max-session 5" in lines
    assert "# mda limit: smtpd finds a measure of its own for max-session-per-user" in lines
    assert "# scheduler limit: smtpd finds a measure of its own for max-inflight" in lines


def test_passwords_that_stand_in_the_configuration_are_not_printed(folder: Folder) -> None:
    config = folder.read(
        'table secrets { isp = "user:opensesame" }\naction a relay host smtps://isp@h.example auth <secrets>\n'
        "match for any action a\n"
    )
    text = config_text(config)
    assert "opensesame" not in text
    assert '# table "secrets": it holds passwords, and is not printed\n' in text
