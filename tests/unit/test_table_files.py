"""newaliases and makemap."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control.table_files import makemap, newaliases
from policy.tables.database import DbTable

CONFIG = 'listen on localhost\naction "local" mbox alias <aliases>\nmatch for local action "local"\n'


class Result:
    """What a command printed, and its exit status."""

    def __init__(self, status: int, captured: tuple[str, str]) -> None:
        self.status = status
        self.output, self.errors = captured


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(function: Callable[[], int], *arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        return Result(function(), capsys.readouterr())

    return command


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMTPD_ROOT", str(tmp_path))
    folder = tmp_path / "etc" / "smtpd"
    folder.mkdir(parents=True)
    (folder / "mailname").write_text("mail.example.org\n")
    return folder


def test_the_aliases_of_the_configuration_are_counted(run: Run, conf: Path) -> None:
    (conf / "smtpd.conf").write_text(CONFIG)
    (conf / "aliases").write_text("root: ann\n# nobody\nwww: root, |/bin/true\n")
    result = run(newaliases)
    assert (result.status, result.output, result.errors) == (0, f"{conf}/aliases: 2 aliases\n", "")


def test_every_alias_that_is_wrong_is_told_with_its_line(run: Run, conf: Path) -> None:
    (conf / "smtpd.conf").write_text(CONFIG)
    (conf / "aliases").write_text('root: ann\na: |\nb: "open\nc: x@\n')
    result = run(newaliases)
    assert (result.status, result.output) == (1, "")
    places = [line.split(": ")[0] for line in result.errors.splitlines()]
    assert places == [f"{conf}/aliases:{line}" for line in (2, 3, 4)]


def test_lines_that_are_no_entries_are_all_told(run: Run, conf: Path) -> None:
    (conf / "smtpd.conf").write_text(CONFIG)
    (conf / "aliases").write_text("root: ann\nbob\neve\n")
    result = run(newaliases)
    assert result.status == 1
    assert [line.split(" ")[0] for line in result.errors.splitlines()] == [
        f"{conf}/aliases:2:1:",
        f"{conf}/aliases:3:1:",
    ]


def test_an_alias_that_stands_there_twice_is_a_warning(run: Run, conf: Path) -> None:
    (conf / "aliases").write_text("root: ann\nRoot: bob\n")
    result = run(newaliases, conf / "aliases")
    assert (result.status, result.output) == (0, f"{conf}/aliases: 1 aliases\n")
    assert result.errors == f"{conf}/aliases:2: warning: duplicate entry for root\n"


def test_another_configuration_may_be_given(run: Run, conf: Path) -> None:
    (conf / "other.conf").write_text(CONFIG)
    (conf / "aliases").write_text("root: ann\n")
    assert run(newaliases, "-f", conf / "other.conf").output == f"{conf}/aliases: 1 aliases\n"


def test_a_broken_configuration_is_told(run: Run, conf: Path) -> None:
    (conf / "smtpd.conf").write_text("listen no localhost\n")
    result = run(newaliases)
    assert result.status == 1
    assert f"{conf}/smtpd.conf:1:8: " in result.errors


def test_the_command_ends_well_where_there_is_nothing_to_do(run: Run, conf: Path) -> None:
    assert run(newaliases).status == 0
    (conf / "smtpd.conf").write_text('action "out" relay\nmatch for any action "out"\n')
    assert run(newaliases).status == 0


def test_a_file_of_aliases_without_a_configuration_is_checked(run: Run, conf: Path) -> None:
    (conf / "aliases").write_text("root: |\n")
    assert run(newaliases).status == 1


def content_of(path: Path) -> dict[str, str | None]:
    table = DbTable("t", str(path))
    table.load()
    return {key: table.lookup(key) for key in table.keys()}  # noqa: SIM118  (a table is no mapping)


def test_a_map_is_built_beside_its_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("Ann: Bob\nb c, d\n")
    result = run(makemap, tmp_path / "map")
    assert (result.status, result.output, result.errors) == (0, "", "")
    assert content_of(tmp_path / "map.db") == {"ann": "Bob", "b": "c, d"}


def test_a_map_is_built_where_it_is_wanted_and_of_any_kind(run: Run, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a b\n")
    for kind in ("hash", "btree", "dbm"):
        assert run(makemap, "-d", kind, "-o", tmp_path / f"{kind}.x", tmp_path / "map").status == 0
        assert content_of(tmp_path / f"{kind}.x") == {"a": "b"}


def test_a_set_keeps_its_keys_as_they_are_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("Example.ORG\n")
    assert run(makemap, "-t", "set", tmp_path / "set").status == 0
    assert content_of(tmp_path / "set.db") == {"example.org": "Example.ORG"}


def test_sendmail_s_way_to_make_a_map_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from control.table_files import makemap; sys.exit(makemap())",
            "hash",
            "map",
        ],
        input=b"a b\n",
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 0
    assert content_of(tmp_path / "map.db") == {"a": "b"}


@pytest.mark.parametrize(("content", "said"), [("a b\nA c\n", "2: duplicate entry for a"), ("a b\nc\n", "2:")])
def test_a_map_is_not_built_of_a_file_with_errors(run: Run, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "map").write_text(content)
    result = run(makemap, tmp_path / "map")
    assert result.status == 1
    assert f"{tmp_path}/map:{said}" in result.errors
    assert os.listdir(tmp_path) == ["map"]


def test_a_map_is_dumped(run: Run, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("b: C d\na: x\n")
    run(makemap, tmp_path / "map")
    result = run(makemap, "-U", tmp_path / "map.db")
    assert (result.status, result.output) == (0, "a\tx\nb\tC d\n")


def test_what_is_no_map_is_not_dumped(run: Run, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a: x\n" * 1000)
    result = run(makemap, "-U", tmp_path / "map")
    assert (result.status, result.errors) == (1, f"makemap: {tmp_path}/map: file is not a database\n")


def test_the_first_map_is_readable_by_those_who_can_read_its_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a b\n")
    (tmp_path / "map").chmod(0o604)
    run(makemap, tmp_path / "map")
    assert stat.S_IMODE((tmp_path / "map.db").stat().st_mode) == 0o604


def test_a_new_map_has_the_mode_of_the_old_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a b\n")
    run(makemap, tmp_path / "map")
    (tmp_path / "map.db").chmod(0o440)
    run(makemap, tmp_path / "map")
    assert stat.S_IMODE((tmp_path / "map.db").stat().st_mode) == 0o440
    assert sorted(os.listdir(tmp_path)) == ["map", "map.db"]


DB_CONFIG = (
    'table aliases db:/etc/smtpd/aliases.db\naction "local" mbox alias <aliases>\nmatch for local action "local"\n'
)


def test_no_planted_link_says_who_may_read_a_map(run: Run, tmp_path: Path) -> None:
    table, planted = tmp_path / "table", tmp_path / "planted"
    table.write_text("a b\n")
    table.chmod(0o600)
    planted.touch()
    planted.chmod(0o4777)
    (tmp_path / "table.db").symlink_to(planted)
    assert run(makemap, table).status == 0
    assert not (tmp_path / "table.db").is_symlink()
    assert (tmp_path / "table.db").stat().st_mode & 0o7777 == 0o600


def test_a_map_is_never_a_program(run: Run, tmp_path: Path) -> None:
    table, old = tmp_path / "table", tmp_path / "table.db"
    table.write_text("a b\n")
    old.touch()
    old.chmod(0o6755)
    assert run(makemap, table).status == 0
    assert old.stat().st_mode & 0o7777 == 0o644


def test_the_database_of_aliases_is_built_before_it_is_there(run: Run, conf: Path) -> None:
    (conf / "smtpd.conf").write_text(DB_CONFIG)
    (conf / "aliases").write_text("Root: ann\nwww: root\n")
    result = run(newaliases)
    assert (result.status, result.output, result.errors) == (0, f"{conf}/aliases: 2 aliases\n", "")
    assert content_of(conf / "aliases.db") == {"root": "ann", "www": "root"}


def test_aliases_with_an_error_leave_the_old_database(run: Run, conf: Path) -> None:
    (conf / "smtpd.conf").write_text(DB_CONFIG)
    (conf / "aliases").write_text("root: ann\n")
    run(newaliases)
    (conf / "aliases").write_text("root: bob\nwww: |\n")
    result = run(newaliases)
    assert result.status == 1
    assert result.errors.startswith(f"{conf}/aliases:2: alias www: ")
    assert content_of(conf / "aliases.db") == {"root": "ann"}


def test_a_database_of_aliases_needs_a_name_that_tells_its_file(run: Run, conf: Path) -> None:
    (conf / "smtpd.conf").write_text(DB_CONFIG.replace("aliases.db", "aliases.dbm"))
    result = run(newaliases)
    assert result.status == 1
    assert 'expected a name that ends with ".db"' in result.errors


@pytest.mark.parametrize(
    ("kind", "content", "status", "said"),
    [
        ([], "a x\nb: y\n", 0, "{path}: 2 entries\n"),
        ([], "a x\nA y\n", 1, "{path}:2: duplicate entry for a\n"),
        ([], "a |\n", 0, "{path}: 1 entries\n"),
        (["-t", "aliases"], "a: |\n", 1, '{path}:1: alias a: nothing after "|"\n'),
        (["-t", "set"], "a\nb\n", 0, "{path}: 2 entries\n"),
        (["-t", "set"], "a b\n", 1, "{path}:1: this is a mapping, expected a list\n"),
        ([], "a\n", 1, '{path}:1: this is a list, expected a mapping; for a list: "-t set"\n'),
        ([], "", 0, "{path}: 0 entries\n"),
    ],
)
def test_a_map_is_checked(run: Run, tmp_path: Path, kind: list[str], content: str, status: int, said: str) -> None:
    path = tmp_path / "map"
    path.write_text(content)
    result = run(makemap, "-n", *kind, path)
    assert (result.status, result.output + result.errors) == (status, said.format(path=path))


def test_a_missing_file_is_told(run: Run, tmp_path: Path) -> None:
    result = run(makemap, "-n", tmp_path / "map")
    assert (result.status, result.errors) == (1, f"{tmp_path}/map: No such file or directory\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-n"],
        ["-n", "a", "b"],
        ["-"],
        ["-d", "cdb", "a"],
        ["-U", "-n", "a"],
        ["-n", "-o", "y", "x"],
        ["-n", "-t", "tree", "a"],
        ["-z"],
    ],
)
def test_arguments_that_make_no_sense_are_a_usage_error(run: Run, arguments: list[str]) -> None:
    result = run(makemap, *arguments)
    assert result.status == 64
    assert "usage: makemap" in result.errors
