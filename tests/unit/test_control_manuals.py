"""The manuals of smtpd and smtpctl say what the programs do."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from control.asking import EXPLAIN_LONG, EXPLAIN_SHORT
from control.journal import SUBSYSTEMS
from control.options import USAGE
from control.smtpctl import FORMS
from policy.explain import (
    Asked,
    Explanation,
    LocalRoute,
    NextHop,
    Node,
    PlannedEnvelope,
    RefusedAnswer,
    RelayRoute,
    Trial,
)

DOCS = Path(__file__).parents[2] / "docs"
#: Words by which a subsystem is called as well, as in OpenSMTPD.
ALIASES = {"table", "transfer"}


def words(manual: str) -> str:
    """A manual's text without its markup, in one line."""
    text = (DOCS / manual).read_text()
    return " ".join(re.sub(r"^\.\w+|\\&|\b(?:Ar|Cm|Op|No|Li|Fl)\b", " ", text, flags=re.MULTILINE).split())


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
@pytest.mark.parametrize("manual", ["smtpd.8", "smtpctl.8"])
def test_the_markup_is_right(manual: str) -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", str(DOCS / manual)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("form", sorted({form.text.split("<")[0].strip() for form in FORMS}))
def test_every_command_is_in_the_manual(form: str) -> None:
    first, *rest = form.split()
    listed = re.sub(r" ?\| ?", "|", words("smtpctl.8"))
    pattern = rf"\b{first}\b(?: (?:\w+\|)*)?{' '.join(rest)}" if rest else rf"\b{first}\b"
    assert re.search(pattern, listed), form


def test_every_subsystem_is_in_the_manual() -> None:
    text = words("smtpd.8")
    assert {name for name in SUBSYSTEMS if not re.search(rf"\b{name}\b", text)} <= ALIASES


def test_every_option_is_in_the_manual() -> None:
    text = (DOCS / "smtpd.8").read_text()
    for option in "dFhnvDfPT":
        assert re.search(rf"^\.It Fl {option}\b", text, re.MULTILINE), option
    assert ".It Fl -root" in text
    assert ".It Fl -migrate" in text
    assert "[-dFhnv]" in USAGE


@pytest.mark.parametrize(
    "value", [Explanation, Asked, Trial, Node, PlannedEnvelope, RelayRoute, NextHop, LocalRoute, RefusedAnswer]
)
def test_every_name_in_the_json_of_an_explanation_is_in_the_manual(value: type[Any]) -> None:
    text = (DOCS / "smtpctl.8").read_text().partition(".Sh EXPLANATIONS")[2].partition("\n.Sh ")[0]
    listed = {
        name for line in re.findall(r"^\.(?:It |Pq )?Li (.*)$", text, re.MULTILINE) for name in re.findall(r"\w+", line)
    }
    assert {field.name for field in dataclasses.fields(value)} <= listed


def test_every_option_of_explain_is_in_the_manual() -> None:
    text = (DOCS / "smtpctl.8").read_text()
    for option in EXPLAIN_LONG:
        assert f".It Fl -{option.rstrip('=')}" in text
    for option in EXPLAIN_SHORT.replace(":", ""):
        assert f".It Fl {option} " in text
