"""Tables of every kind in a configuration: declared, used, printed, refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from control.table_build import build
from policy.config import LocalAction, Relay
from policy.explain_rules import table_words
from policy.tables.secret import Secret, secret_of
from policy.tables.table import Shape
from policy.text import config_text
from tests.tools.configured import Configured

RELAY = 'action "out" relay host "smtps://isp@relay.example.net" auth <t>\nmatch auth from any for any action "out"\n'
LOCAL = 'action "in" mbox alias <t>\nmatch from any for local action "in"\n'


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def secret(configured: Configured, table: str) -> Secret | None:
    action = configured.load(f"table t {table}\n{RELAY}").actions["out"]
    assert isinstance(action, Relay)
    assert action.auth
    return secret_of(action.auth, "isp")


def alias(configured: Configured, table: str, key: str) -> str | None:
    action = configured.load(f"table t {table}\n{LOCAL}").actions["in"]
    assert isinstance(action, LocalAction)
    assert action.alias
    return action.alias.lookup(key)


def test_a_secret_comes_from_a_command(configured: Configured) -> None:
    assert secret(configured, '"exec:echo isp ann:hunter2"') == Secret("ann", "hunter2")
    assert secret(configured, '"exec:echo hunter2"') == Secret("isp", "hunter2")


def test_a_secret_comes_from_the_environment(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_SECRET", "ann:hunter2")
    assert secret(configured, "env:RELAY_SECRET") == Secret("ann", "hunter2")


def test_a_secret_comes_from_a_credential(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "relay").write_text("hunter2\n")
    assert secret(configured, "cred:relay") == Secret("isp", "hunter2")


def test_a_secret_comes_from_a_database_of_somebody_else(configured: Configured) -> None:
    path = configured.folder / "mail.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE s (label, login, password); INSERT INTO s VALUES ('isp', 'ann', 'hunter2')")
    connection.close()
    configured.write(
        "q", "dbpath /etc/smtpd/mail.db\nquery_credentials SELECT login, password FROM s WHERE label = ?\n"
    )
    assert secret(configured, "sqlite:/etc/smtpd/q") == Secret("ann", "hunter2")
    assert configured.errors(f"table t sqlite:/etc/smtpd/q\n{LOCAL}") == [
        '1:1: table "t": there is no line "query_alias", which the configuration needs'
    ]


def test_aliases_come_from_a_database(configured: Configured) -> None:
    build(str(configured.folder / "t.db"), Shape.MAPPING, [("root", "ann")])
    assert alias(configured, "db:/etc/smtpd/t.db", "Root") == "ann"


def test_a_database_of_another_shape_than_its_use_needs_is_told(configured: Configured) -> None:
    build(str(configured.folder / "t.db"), Shape.LIST, [("root", "root")])
    assert configured.errors(f"table t db:/etc/smtpd/t.db\n{LOCAL}") == [
        '2:24: table "t" is a list, but "alias" needs a mapping ({ key = value } or lines KEY VALUE)'
    ]


def test_what_cannot_be_read_at_first_is_a_warning(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    text = f'table t cred:relay\ntable u "exec:false"\ntable v env:MAILSPOOL_NO_SUCH_VARIABLE\n{RELAY}'
    told = [warning for warning in configured.warnings(text) if warning[:3] in ("1: ", "2: ", "3: ")]
    assert [warning.split("; ")[0] for warning in told if "until it can be read" in warning] == [
        "1: table t: cred:relay: there is no $CREDENTIALS_DIRECTORY (the service needs LoadCredential=relay:/path)",
        "2: table u: exec:false: exit status 1",
        "3: table v: env:MAILSPOOL_NO_SUCH_VARIABLE: the environment has no such variable",
    ]


def test_aliases_that_cannot_be_read_at_first_are_a_warning_too(configured: Configured) -> None:
    assert any("exec:false: exit status 1" in each for each in configured.warnings(f'table t "exec:false"\n{LOCAL}'))


def test_a_text_that_is_no_table_is_told_where_it_is_declared(configured: Configured) -> None:
    assert configured.errors(f"table t \"exec:printf 'a b\\nc\\n'\"\n{LOCAL}") == [
        '1:9: table "t": a key without a value, in a table whose first entry has one: expected KEY VALUE or KEY: VALUE'
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("db:t.db", 'expected an absolute path (db:/path), found "db:t.db"'),
        ("sqlite", 'expected an absolute path (sqlite:/path), found "sqlite"'),
        ("proc:x", 'not supported yet: "proc:" tables (tables of programs)'),
        ("sqlit:/x", 'unknown kind of table "sqlit"; did you mean "sqlite"?'),
        ("cred:a/b", '"a/b" is no name of a credential: expected cred:NAME'),
        ('"env:a b"', '"a b" is no name of a variable: expected env:NAME'),
        ("exec:", "expected exec:COMMAND, found no command"),
        ('"exec:pass \'x"', "the command cannot be split into words: No closing quotation"),
    ],
)
def test_what_declares_no_table_is_told(configured: Configured, table: str, said: str) -> None:
    assert f"1:9: {said}" in configured.errors(f"table t {table}\n{LOCAL}")


def test_tables_of_every_kind_are_printed_as_they_are_declared(configured: Configured, tmp_path: Path) -> None:
    build(str(configured.folder / "t.db"), Shape.MAPPING, [("root", "ann")])
    path = configured.folder / "mail.db"
    sqlite3.connect(path).close()
    configured.write("q", "dbpath /etc/smtpd/mail.db\nquery_alias SELECT ?\n")
    text = 'table a db:/etc/smtpd/t.db\ntable b sqlite:/etc/smtpd/q\ntable c "exec:echo \\"x\\" y"\n' + "".join(
        f'action "{name}" mbox alias <{name}>\nmatch from any for domain {name}.example action "{name}"\n'
        for name in "abc"
    )
    printed = config_text(configured.load(text))
    lines = [line.replace(str(tmp_path), "") for line in printed.splitlines() if line.startswith(("table", "action"))]
    assert lines == [
        'table "a" "db:/etc/smtpd/t.db"',
        'table "b" "sqlite:/etc/smtpd/q"',
        'table "c" "exec:echo \\"x\\" y"',
        'action "a" mbox alias <"a">',
        'action "b" mbox alias <"b">',
        'action "c" mbox alias <"c">',
    ]


def test_entries_of_a_file_that_cannot_serve_are_told_with_their_lines(configured: Configured) -> None:
    configured.write("t", "192.0.2.0/24\n# x\n192.0.2.0/33\nlocal\nhere\n")
    said = configured.errors("match from src <t> for local reject\n")
    assert said == [
        '3:1: table "t": "192.0.2.0/33" is no IP address, network or "local"',
        '5:1: table "t": "here" is no IP address, network or "local"',
    ]


def test_entries_in_place_that_cannot_serve_are_told_where_they_stand(configured: Configured) -> None:
    said = configured.errors('match from any helo regex { "^a", "(b" } for any reject\n')
    assert said == ['1:35: "(b" is no regular expression: missing ): (b']


def test_a_table_that_serves_each_use_apart_is_called_by_its_name(configured: Configured) -> None:
    configured.write("accounts", "ann:x:1000:100::/srv/ann:\n")
    config = configured.load(
        'table t passwd:/etc/smtpd/accounts\naction "in" maildir userbase <t> alias { root = ann }\n'
        'match from any for local action "in"\n'
    )
    action = config.actions["in"]
    assert isinstance(action, LocalAction)
    assert action.userbase
    assert action.alias
    assert table_words(config, action.userbase) == "<t>"
    assert table_words(config, action.alias) == "{ ... }"


def test_addresses_to_connect_from_are_told_with_their_lines_and_keep_the_old_ones(configured: Configured) -> None:
    path = configured.write("ours", "192.0.2.25\nhere\n")
    text = 'action "out" relay src <ours>\nmatch auth from any for any action "out"\n'
    assert configured.errors(text) == ['2:1: table "ours": "here" is no IP address to connect from']
    path.write_text("192.0.2.25\n")
    action = configured.load(text).actions["out"]
    assert isinstance(action, Relay)
    assert action.src
    path.write_text("here\n")
    assert list(action.src.keys()) == ["192.0.2.25"]


@pytest.mark.parametrize(
    "line",
    [
        'filter "f" phase mail-from match mail-from regex <m> reject "550 no"',
        "match from any mail-from regex <m> for any reject",
    ],
)
def test_regular_expressions_are_a_list_wherever_they_are_asked(configured: Configured, line: str) -> None:
    said = configured.errors(f"table m {{ a = b }}\n{line}\nmatch for local reject\n")
    assert any('table "m" is a mapping, but "mail-from" needs a list' in each for each in said)
