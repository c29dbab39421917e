"""docs/rfcs.md speaks of what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/rfcs.md").read_text()
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]


def test_every_row_says_yes_partial_or_no() -> None:
    verdicts = {row.split("|")[3].strip() for row in ROWS}
    assert verdicts <= {"Yes", "Partial", "No"}


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`([a-z_]+/[a-z_./]+)`", PAGE))
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_name_beside_a_file_is_in_it() -> None:
    named = re.findall(r"`([a-z_]+/[a-z_]+\.py)` \(`(\w+)`\)", PAGE)
    assert named
    assert [pair for pair in named if pair[1] not in (ROOT / pair[0]).read_text()] == []
