"""``make run`` shows what it says it shows: the printed lines are run to the letter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from tests.tools.daemon import free_port, wait_for

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[list[str]]:
    """The commands that the demonstration prints."""
    environment = {**os.environ, "DEMO_ROOT": str(tmp_path / "demo"), "DEMO_PORT": str(free_port())}
    command = [sys.executable, str(CHECKOUT / "examples/demo.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as demo:
        assert demo.stdout is not None
        lines = list(takewhile(lambda line: not line.startswith("Ctrl-C"), demo.stdout))
        yield [line.strip() for line in lines if line.startswith("  ") and not line.lstrip().startswith("#")]
        demo.terminate()
        assert demo.wait(30) == 0


def shell(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True, timeout=30).stdout


def test_the_printed_lines_send_two_messages_and_show_them(printed: list[str]) -> None:
    by_sendmail, by_smtp, mailq, read = printed
    shell(by_sendmail)
    shell(by_smtp)
    wait_for(lambda: shell(mailq) == "Mail queue is empty\n", "an empty queue")
    mailbox = shell(read)
    assert "by sendmail\n" in mailbox
    assert "by SMTP\n" in mailbox
