"""Leaving the terminal: the caller hears once how the start went."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from control.background import Starting


def told(script: str) -> subprocess.CompletedProcess[str]:
    """What a caller of a program sees that goes into the background and then does ``script``."""
    code = f"import os, sys, time\nfrom control.background import into_background\n{script}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)


@pytest.mark.parametrize(("word", "status"), [("ready()", 0), ("failed(75)", 75)])
def test_the_caller_ends_with_what_it_is_told(word: str, status: int) -> None:
    assert told(f"into_background(keep_stderr=False).{word}").returncode == status


def test_a_daemon_that_dies_without_a_word_is_a_failure() -> None:
    assert told("into_background(keep_stderr=False); os._exit(0)").returncode == os.EX_SOFTWARE


def test_complaints_before_the_start_reach_the_terminal_and_later_ones_do_not() -> None:
    script = (
        "starting = into_background(keep_stderr=False)\n"
        "print('before', file=sys.stderr); starting.ready(); print('after', file=sys.stderr)"
    )
    assert told(script).stderr == "before\n"


def test_the_daemon_has_a_session_of_its_own_and_cannot_get_a_terminal() -> None:
    script = (
        "caller = os.getsid(0)\n"
        "starting = into_background(keep_stderr=True)\n"
        "print(os.getsid(0) not in (caller, os.getpid()), os.getcwd(), file=sys.stderr)\n"
        "starting.ready()"
    )
    assert told(script).stderr == "True /\n"


def test_what_is_said_after_the_first_word_goes_nowhere() -> None:
    reading, writing = os.pipe()
    starting = Starting(writing, keep_stderr=True)
    starting.failed(75)
    other = os.open(os.devnull, os.O_WRONLY)
    starting.failed(1)
    assert other == writing, "the number was given to another file"
    os.close(other)
    assert os.read(reading, 10) == bytes([75])
    os.close(reading)
