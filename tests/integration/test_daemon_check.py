"""smtpd -n and -h: what they print, how they end, and that they start nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
GOOD = 'listen on 127.0.0.1 port 2525\naction "a" maildir\nmatch for local action "a"\n'


def smtpd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / "smtpd"), *arguments], capture_output=True, text=True, check=False, timeout=30)


def configured(root: Path, text: str) -> Path:
    path = root / "etc/smtpd/smtpd.conf"
    path.parent.mkdir(parents=True)
    (path.parent / "mailname").write_text("box.example.net\n")
    path.write_text(text)
    return path


def test_a_right_configuration_is_ok(tmp_path: Path) -> None:
    configured(tmp_path, GOOD)
    done = smtpd("-n", "--root", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "configuration OK\n")


def test_verbose_says_how_it_was_understood(tmp_path: Path) -> None:
    configured(tmp_path, GOOD)
    done = smtpd("-nv", "--root", str(tmp_path))
    assert "server name: box.example.net" in done.stderr
    assert done.stderr.endswith("configuration OK\n")


def test_verbose_prints_a_configuration_that_means_the_same(tmp_path: Path) -> None:
    path = configured(tmp_path, GOOD)
    understood = smtpd("-nv", "--root", str(tmp_path)).stdout
    assert 'listen on "127.0.0.1" port 2525' in understood
    path.write_text(understood)
    assert smtpd("-nv", "--root", str(tmp_path)).stdout == understood


def test_what_is_probably_not_meant_is_warned_of(tmp_path: Path) -> None:
    path = configured(tmp_path, f'{GOOD}action "b" mbox\n')
    done = smtpd("-n", "--root", str(tmp_path))
    assert done.returncode == 0
    first, line, caret, last = done.stderr.splitlines()
    assert first == f'{path}:4:8: warning: no rule uses action "b"'
    assert (line, caret, last) == ('action "b" mbox', " " * 7 + "^", "configuration OK")


def test_every_error_is_shown_with_its_place_its_line_and_a_caret(tmp_path: Path) -> None:
    path = configured(tmp_path, 'action "a" maildr\nmatch for local action "b"\n')
    done = smtpd("-n", "--root", str(tmp_path))
    assert done.returncode == 1
    first, line, caret, *_ = done.stderr.splitlines()
    assert first.startswith(f"{path}:1:12: ")
    assert line == 'action "a" maildr'
    assert caret == " " * 11 + "^"
    assert f"{path}:2:" in done.stderr


def test_a_macro_of_the_command_line_counts(tmp_path: Path) -> None:
    configured(tmp_path, GOOD.replace("2525", "$listen_port"))
    assert smtpd("-n", "--root", str(tmp_path), "-D", "listen_port=2525").returncode == 0
    assert "listen_port" in smtpd("-n", "--root", str(tmp_path)).stderr


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = smtpd("-n", "-f", str(tmp_path / "none.conf"))
    assert (done.returncode, done.stderr) == (1, f"{tmp_path}/none.conf: No such file or directory\n")


def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    configured(tmp_path, "bogus\n")
    assert smtpd("-d", "--root", str(tmp_path)).returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc"]


def test_help_prints_version_and_usage() -> None:
    done = smtpd("-h")
    assert done.returncode == 1
    version, usage = done.stderr.splitlines()
    assert version.startswith("version: Mailspool ")
    assert usage.startswith("usage: smtpd [-dFhnv]")


@pytest.mark.parametrize("arguments", [["-x"], ["operand"], ["-n", "-T", "imsg"]])
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    done = smtpd(*arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("usage: smtpd")


def test_looking_loads_nothing_of_the_daemon(tmp_path: Path) -> None:
    configured(tmp_path, GOOD)
    code = "import sys, control.__main__ as it; it.smtpd(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "-n", "--root", str(tmp_path)], capture_output=True, text=True, check=True
    )
    heavy = {"aiosmtpd", "aiosmtplib", "sqlite_utils", "uvloop", "dns", "sqlite3"}
    assert heavy & {name.partition(".")[0] for name in done.stdout.split()} == set()
