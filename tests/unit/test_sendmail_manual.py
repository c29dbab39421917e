"""The manual of sendmail and its sisters says what the code does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from ingress.flags import BARE, MAYBE_VALUED, VALUED

DOCS = Path(__file__).parents[2] / "docs"
#: The macros that end the flags of a line.
_ARGUMENTS = frozenset({"Ar", "Cm", "Ns", "Op"})


def test_every_option_is_in_the_manual() -> None:
    assert set(_flags((DOCS / "sendmail.8").read_text())) >= BARE | MAYBE_VALUED | VALUED


def _flags(manual: str) -> Iterator[str]:
    """What stands behind ``Fl`` on a line: letters, ``oi`` for a letter with its value, ``Gitv`` for a bundle."""
    for line in manual.split("\n"):
        _, macro, words = line.partition("Fl ")
        for word in takewhile(lambda word: word not in _ARGUMENTS, words.split()) if macro else ():
            yield from word if len(word) > 2 else word[0]


@pytest.mark.parametrize("name", ["sendmail.8", "mailq.8", "newaliases.8", "makemap.8"])
def test_a_manual_page_has_no_fault(name: str) -> None:
    if shutil.which("mandoc") is None:
        assert os.environ.get("MAILSPOOL_PEERS") != "required", "mandoc is not installed"
        pytest.skip("needs mandoc")
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", DOCS / name], capture_output=True, text=True, check=False
    )
    assert (lint.returncode, lint.stdout) == (0, "")
