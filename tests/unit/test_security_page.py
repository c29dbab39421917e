"""SECURITY.md is held to its word: each test that it names is there, and each row of the table names one."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.test_spool_durability_page import names_of_tests

PAGE = (Path(__file__).parents[2] / "SECURITY.md").read_text()


def test_every_test_that_the_security_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40
    assert named - names_of_tests() == set()


def test_every_threat_has_a_wall_and_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "|---|" not in line][1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(rows) > 20
    assert [row for row in cells if len(row) != 4 or not row[1] or not row[2] or "`test_" not in row[3]] == []
