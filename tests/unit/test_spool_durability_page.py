"""docs/durability.md is held to its word: each test it names is there, and each instant has its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from spool.instants import Instant

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "durability.md").read_text()


def names_of_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(?:[\w/]+\.py::)?(test_\w+)", PAGE))
    assert len(named) > 30
    assert named - names_of_tests() == set()


def test_every_instant_has_its_row() -> None:
    rows = " ".join(line for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d ", line))
    assert {instant for instant in Instant if f"`{instant}`" not in rows} == set()
