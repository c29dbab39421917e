"""sendmail in the place of other commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tools.mailer import COMMAND, Mailer


@pytest.fixture
def mailer(tmp_path: Path) -> Mailer:
    mailer = Mailer(tmp_path / "root")
    conf = Path(mailer.layout.conf_dir)
    conf.mkdir(parents=True)
    (conf / "aliases").write_text("root: ann\n")
    return mailer


def called(name: str, mailer: Mailer, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``sendmail`` under another name, through a symbolic link as packages make them."""
    link = tmp_path / name
    link.symlink_to(COMMAND)
    return subprocess.run(
        [link, *arguments], env=mailer.environment(), capture_output=True, text=True, check=False, timeout=30
    )


def test_aliases_are_checked_with_bi(mailer: Mailer) -> None:
    done = mailer.send(["-bi"])
    assert (done.returncode, done.stdout) == (0, f"{mailer.layout.conf_dir}/aliases: 1 aliases\n")


def test_the_name_newaliases_means_newaliases(mailer: Mailer, tmp_path: Path) -> None:
    assert called("newaliases", mailer, tmp_path).stdout == f"{mailer.layout.conf_dir}/aliases: 1 aliases\n"


def test_the_name_mailq_means_mailq(mailer: Mailer, tmp_path: Path) -> None:
    by_name, by_option = called("mailq", mailer, tmp_path), mailer.send(["-bp"])
    assert "mailq: " in by_name.stderr + by_name.stdout
    assert (by_name.stdout, by_name.stderr, by_name.returncode) == (
        by_option.stdout,
        by_option.stderr,
        by_option.returncode,
    )


def test_the_name_send_mail_means_sendmail(mailer: Mailer, tmp_path: Path) -> None:
    assert called("send-mail", mailer, tmp_path, "bob").returncode == 0
    assert len(mailer.left()) == 1


@pytest.mark.parametrize("arguments", [["-q"], ["-q30m"], ["-qIabc"], ["-q", "--root", "{root}"]])
def test_the_queue_is_flushed_through_smtpctl(mailer: Mailer, arguments: list[str]) -> None:
    done = mailer.send([argument.format(root=mailer.layout.root) for argument in arguments])
    assert done.stderr.startswith("smtpctl: ")
    assert done.returncode == 1


@pytest.mark.parametrize("flag", ["-qRbob", "-qSann"])
def test_a_part_of_the_queue_that_smtpctl_cannot_name_is_a_usage_error(mailer: Mailer, flag: str) -> None:
    done = mailer.send([flag])
    assert done.returncode == 64
    assert "not supported" in done.stderr
