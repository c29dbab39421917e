"""newaliases and makemap."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control.table_files import makemap, newaliases

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


def test_a_map_is_not_built(run: Run, tmp_path: Path) -> None:
    for arguments in (["x"], ["-n", "-o", "y", "x"], ["-U", "x"], ["-d", "hash", "x"]):
        result = run(makemap, *arguments)
        assert result.status == 69
        assert "not supported yet" in result.errors


@pytest.mark.parametrize(
    ("kind", "content", "status", "said"),
    [
        ([], "a x\nb: y\n", 0, "{path}: 2 entries\n"),
        ([], "a x\nA y\n", 1, "{path}:2: duplicate entry for a\n"),
        ([], "a |\n", 0, "{path}: 1 entries\n"),
        (["-t", "aliases"], "a: |\n", 1, '{path}:1: alias a: nothing after "|"\n'),
        (["-t", "set"], "a\nb\n", 0, "{path}: 2 entries\n"),
        (["-t", "set"], "a b\n", 1, "{path}:1: this is a mapping, expected a list\n"),
        ([], "a\n", 1, "{path}:1: this is a list, expected a mapping\n"),
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


@pytest.mark.parametrize("arguments", [["-n"], ["-n", "a", "b"], ["-n", "-t", "tree", "a"], ["-z"]])
def test_arguments_that_make_no_sense_are_a_usage_error(run: Run, arguments: list[str]) -> None:
    result = run(makemap, *arguments)
    assert result.status == 64
    assert "usage: makemap" in result.errors
