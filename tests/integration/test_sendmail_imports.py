"""Every start of sendmail pays for what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.mailer import COMMAND, Mailer

ROOT = Path(__file__).parents[2]
#: What sendmail may ask for beyond the bare interpreter: small modules, most of them in C.
ALLOWED = "__future__, _socket, fcntl, os, pwd, select, sys, time, zlib"
OURS = {
    "ingress", "ingress.compose", "ingress.dropfile", "ingress.enqueue", "ingress.flags", "ingress.handin",
    "ingress.mailboxes", "ingress.post", "ingress.source", "spool", "spool.layout",
}  # fmt: skip
SHOW = "sys.stderr.write(' '.join(sorted(sys.modules)))"
START = """
import sys
sys.path.insert(0, {root!r})
sys.argv = ["sendmail", *{arguments!r}]
from ingress.enqueue import main
status = main()
{show}
sys.exit(status)
"""


def modules_of(program: str, mailer: Mailer) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        input="Subject: x\n\nx\n",
        env=mailer.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [("-i", "root"), ("-ti", "-f", "ann@example.org", "root")])
def test_a_message_costs_next_to_no_imports(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    mailer = Mailer(tmp_path)
    allowed = modules_of(f"import {ALLOWED}; {SHOW}", mailer) | OURS
    program = START.format(root=str(ROOT), arguments=arguments, show=SHOW)
    with mailer.daemon():
        assert modules_of(program, mailer) - allowed == set()
    assert modules_of(program, mailer) - allowed == set()


def imported_by(command: list[str], environment: dict[str, str]) -> set[str]:
    done = subprocess.run(
        command,
        input="Subject: x\n\nx\n",
        env={**environment, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_the_installed_command_asks_for_no_more(tmp_path: Path) -> None:
    mailer = Mailer(tmp_path)
    allowed = imported_by([sys.executable, "-c", f"import {ALLOWED}"], dict(os.environ)) | OURS
    imported = imported_by([str(COMMAND), "-i", "root"], mailer.environment())
    assert "ingress.post" in imported
    assert imported - allowed == set()
