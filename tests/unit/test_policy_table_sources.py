"""Tables whose content comes from a credential, the environment or a program."""

from __future__ import annotations

import logging
import os
import shlex
import time
from pathlib import Path

import anyio
import pytest

from policy.credentials import check_login, encrypt
from policy.errors import TableUnavailable
from policy.tables.format import TableSyntaxError
from policy.tables.freshness import freshen
from policy.tables.secret import Secret, secret_of
from policy.tables.service import ALIAS, CREDENTIALS, SECRETS
from policy.tables.sourced import KEPT_SECONDS, RETRY_SECONDS, SourcedTable
from policy.tables.sources import MAX_OCTETS, PROGRAM_LIFETIME, Credential, Program, SourceError, Variable
from policy.tables.table import Shape


def test_a_variable_is_read() -> None:
    assert Variable("MAIL_SECRETS", {b"MAIL_SECRETS": b"a b:c"}).read() == b"a b:c"


def test_a_variable_that_is_not_there_is_told() -> None:
    with pytest.raises(TableUnavailable, match="env:MAIL_SECRETS: the environment has no such variable"):
        Variable("MAIL_SECRETS", {}).read()


def test_a_credential_is_a_file_in_the_folder_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "relay").write_text("user:password\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert Credential("relay", environment).read() == b"user:password\n"
    with pytest.raises(TableUnavailable, match="cred:other: No such file or directory"):
        Credential("other", environment).read()


def test_without_systemd_it_is_told_what_a_credential_needs() -> None:
    with pytest.raises(TableUnavailable, match="LoadCredential=relay:/path"):
        Credential("relay", {}).read()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc/shadow"])
def test_a_credential_is_in_no_other_folder(name: str) -> None:
    with pytest.raises(SourceError):
        Credential(name)


@pytest.mark.parametrize("name", ["", "a b", "1", "A=B"])
def test_a_variable_needs_a_name(name: str) -> None:
    with pytest.raises(SourceError):
        Variable(name)


def test_a_program_is_run_without_a_shell() -> None:
    assert Program("printf '%s|' 'two words' $HOME").read() == b"two words|$HOME|"


@pytest.mark.parametrize("command", ["", "  ", "pass 'show"])
def test_what_is_no_command_is_told(command: str) -> None:
    with pytest.raises(SourceError):
        Program(command)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo hunter2; echo first >&2; echo no such entry >&2; exit 3", "exec:sh: exit status 3: no such entry"),
        ("kill -9 $$", "exec:sh: killed by signal 9"),
        ("printf '\\033[31mred' >&2; false", r"exec:sh: exit status 1: ?[31mred"),
        ("exec sleep 60", "exec:sh: not done after 0.3 seconds"),
        ("sleep 60 & wait", "exec:sh: not done after 0.3 seconds"),
        ("exec cat /dev/zero", f"exec:sh: it printed more than {MAX_OCTETS} octets"),
        ("exec cat /dev/zero >&2", f"exec:sh: it printed more than {MAX_OCTETS} octets"),
    ],
)
def test_a_program_that_fails_is_told_by_its_last_words_and_never_by_what_it_printed(script: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(TableUnavailable) as raised:
        Program(f"sh -c {shlex.quote(script)}", seconds=0.3 if "sleep" in script else 10).read()
    assert str(raised.value) == said
    assert time.monotonic() - began < 5


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(TableUnavailable, match="exec:/nonexistent/pass: No such file or directory"):
        Program("/nonexistent/pass show mail").read()


def test_a_program_may_leave_another_that_holds_its_output() -> None:
    began = time.monotonic()
    assert Program("sh -c 'sleep 3 & echo secret'", seconds=3).read() == b"secret\n"
    assert time.monotonic() - began < 2


class FakeSource:
    """Gives what the test says."""

    written = "fake:x"

    def __init__(self, text: str, lifetime: float | None = 300.0) -> None:
        self.text = text
        self.lifetime = lifetime
        self.trouble = ""
        self.reads = 0

    def read(self) -> bytes:
        self.reads += 1
        if self.trouble:
            raise TableUnavailable(self.trouble)
        return self.text.encode()


class FakeTime:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def secrets(source: FakeSource, clock: FakeTime | None = None) -> SourcedTable:
    table = SourcedTable("t", source, clock or FakeTime())
    table.load()
    return table.serving(Shape.MAPPING, SECRETS)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("hunter2\n", Secret("label", "hunter2")),
        ("hunter2", Secret("label", "hunter2")),
        ("ann:hunter2\n", Secret("ann", "hunter2")),
        ("ann@example.org:pass:word\r\n", Secret("ann@example.org", "pass:word")),
        ("#hunter2\n", Secret("label", "#hunter2")),
        ("label ann:hunter2\n", Secret("ann", "hunter2")),
        ("label: ann:pass phrase\n", Secret("ann", "pass phrase")),
        ("# two\nother x:y\nlabel ann:hunter2\n", Secret("ann", "hunter2")),
        ("other x:y\n", None),
    ],
)
def test_a_source_is_a_table_of_secrets_or_one_secret(text: str, secret: Secret | None) -> None:
    assert secret_of(secrets(FakeSource(text)), "label") == secret


def test_one_secret_serves_no_other_use() -> None:
    table = SourcedTable("t", FakeSource("hunter2"))
    table.load()
    with pytest.raises(TableSyntaxError, match="this is a list, expected a mapping") as raised:
        table.serving(Shape.MAPPING, CREDENTIALS)
    assert "hunter2" not in str(raised.value)


def test_logins_can_come_from_a_source() -> None:
    table = SourcedTable("t", FakeSource(f"ann:{encrypt('right')}\n"))
    table.load()
    table.serving(Shape.MAPPING, CREDENTIALS)
    assert check_login(table, "ann", "right")
    assert not check_login(table, "ann", "wrong")
    assert not check_login(table, "bob", "right")


def test_aliases_can_come_from_a_source() -> None:
    table = SourcedTable("t", FakeSource("root: ann\n"))
    table.load()
    assert table.serving(Shape.MAPPING, ALIAS).lookup("ROOT") == "ann"


def is_stale(table: SourcedTable) -> bool:
    return table.is_stale


def test_a_source_that_never_changes_is_read_once() -> None:
    source, clock = FakeSource("a:b", lifetime=None), FakeTime()
    table = secrets(source, clock)
    clock.now += 1e9
    assert not is_stale(table)
    assert table.lookup("x") == "a:b"
    assert source.reads == 1


def test_content_is_asked_for_again_when_its_time_is_over() -> None:
    source, clock = FakeSource("a:b"), FakeTime()
    table = secrets(source, clock)
    clock.now += 299
    assert not is_stale(table)
    clock.now += 2
    source.text = "a:c"
    assert is_stale(table)
    assert table.lookup("x") == "a:b"
    anyio.run(freshen, [table])
    assert table.lookup("x") == "a:c"
    assert not is_stale(table)


@pytest.mark.parametrize(
    ("trouble", "text"), [("exit status 1", "a:b"), ("", "one line\nbroken\n"), ("", "no\nmapping\n")]
)
def test_a_source_that_fails_leaves_the_old_content_for_a_while(
    trouble: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, clock = FakeSource("a:b"), FakeTime()
    table = secrets(source, clock)
    source.trouble, source.text = trouble, text
    clock.now += PROGRAM_LIFETIME
    with caplog.at_level(logging.WARNING, "policy.tables"):
        table.refresh()
        table.refresh()
    assert len(caplog.records) == 1
    assert table.lookup("x") == "a:b"
    assert not is_stale(table)
    clock.now += RETRY_SECONDS
    assert is_stale(table)
    clock.now += KEPT_SECONDS
    with pytest.raises(TableUnavailable, match="table t: "):
        table.lookup("x")
    source.trouble, source.text = "", "a:c"
    table.refresh()
    assert table.lookup("x") == "a:c"


def test_a_source_that_fails_at_first_is_asked_again() -> None:
    source, clock = FakeSource("a:b"), FakeTime()
    source.trouble = "exit status 1"
    table = SourcedTable("t", source, clock)
    with pytest.raises(TableUnavailable, match="table t: exit status 1"):
        table.load()
    table.serving(Shape.MAPPING, SECRETS)
    with pytest.raises(TableUnavailable, match="table t: exit status 1"):
        table.lookup("x")
    source.trouble = ""
    clock.now += RETRY_SECONDS
    assert is_stale(table)
    table.refresh()
    assert table.lookup("x") == "a:b"


def test_a_secret_is_in_no_text_of_its_table() -> None:
    table = secrets(FakeSource("ann:hunter2"))
    assert "hunter2" not in f"{table!r} {table._content!r} {table.written}"


def test_a_program_that_is_asked_twice_at_once_runs_once(tmp_path: Path) -> None:
    clock = FakeTime()
    table = SourcedTable("t", Program(f"sh -c 'echo x >>{tmp_path}/runs; sleep 0.2; echo a:b'"), clock)
    table.load()
    clock.now += PROGRAM_LIFETIME

    async def twice() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(freshen, [table])
            group.start_soon(freshen, [table])

    anyio.run(twice)
    assert os.stat(tmp_path / "runs").st_size == 4
