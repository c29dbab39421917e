"""smtpd --migrate: what it prints where, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tools.daemon import Daemon, wait_for

BIN = Path(sys.executable).parent
OLD = "listen on lo # here\naccept for local deliver to maildir\n"
NEW = 'listen on lo # here\naction "maildir" maildir\nmatch for local action "maildir"\n'


def migrate(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "smtpd"), *options, "--root", str(path.parent), "--migrate", str(path)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="surrogateescape", check=False, timeout=30
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "old.conf"
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def test_an_older_configuration_is_printed_anew(tmp_path: Path) -> None:
    done = migrate(written(tmp_path, OLD))
    assert (done.returncode, done.stdout, done.stderr) == (0, NEW, "")


def test_a_present_configuration_is_printed_as_it_is_and_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, NEW)
    done = migrate(path)
    assert (done.returncode, done.stdout) == (0, NEW)
    assert done.stderr == (f"smtpd: nothing in {path} is of the grammar before OpenSMTPD 6.4: it is printed as it is\n")


def test_what_has_no_counterpart_is_a_comment_and_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, f"{OLD}accept for any relay via gopher://example.org\n")
    done = migrate(path)
    assert done.returncode == 1
    assert done.stdout.startswith(NEW)
    assert done.stdout.endswith("\n# accept for any relay via gopher://example.org\n")
    first, line, caret = done.stderr.splitlines()
    assert first == f'{path}:3:26: "gopher://" is no kind of relay of the older grammar'
    assert (line, caret.index("^")) == ("accept for any relay via gopher://example.org", 25)


def test_what_is_not_supported_is_a_comment_with_everything_that_needs_it(tmp_path: Path) -> None:
    text = (
        'table people "nosql:/etc/people"\n'
        f"{OLD}"
        'accept for domain "a.example" alias <people> deliver to mbox\n'
        'accept for domain "b.example" alias <people> deliver to mbox\n'
    )
    path = written(tmp_path, text.replace("nosql:", "proc:"))
    done = migrate(path)
    assert done.returncode == 1
    assert '# table people "proc:/etc/people"\n' in done.stdout
    assert '# match for domain "b.example" action "mbox"\n' in done.stdout
    assert [line.split(": ")[0] for line in done.stderr.splitlines() if line.startswith(str(path))] == [
        f"{path}:1:1",
        f"{path}:4:1",
        f"{path}:5:1",
    ]


def test_what_is_printed_runs(tmp_path: Path) -> None:
    old = (
        'listen on 127.0.0.1 port $port\naccept from any for any virtual { "@" = root } deliver to maildir "/Maildir"\n'
    )
    done = migrate(written(tmp_path, old))
    with Daemon(tmp_path, done.stdout) as daemon:
        daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\nx\n")
        wait_for(lambda: list((tmp_path / "Maildir/new").glob("*")), "the message")


def test_octets_that_are_no_utf8_leave_as_they_came(tmp_path: Path) -> None:
    done = migrate(written(tmp_path, f"# \udce9 caf\xe9\n{OLD}"))
    assert done.stdout == f"# \udce9 caf\xe9\n{NEW}"


def test_a_macro_of_the_command_line_is_looked_into(tmp_path: Path) -> None:
    done = migrate(written(tmp_path, "accept for any relay via $out verify\n"), "-D", "out=tls://mx.example.net")
    assert 'host "smtp+tls://mx.example.net" tls\n' in done.stdout


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = migrate(tmp_path / "none.conf")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"smtpd: {tmp_path}/none.conf: No such file or directory\n"


def test_it_only_prints_so_other_options_are_refused(tmp_path: Path) -> None:
    done = migrate(written(tmp_path, OLD), "-n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("smtpd: --migrate only prints: -n has no meaning with it\n")
