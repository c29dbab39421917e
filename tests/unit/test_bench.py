"""What the benchmark makes of its figures: a file, ratios, a chart."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.chart import chart
from bench.kept import Kept, add, read
from bench.limits import Limits
from bench.rows import Figure
from bench.table import Runs, line

LIMITS = Limits(2, 4000.0, 2000.0, 6000.0, 50_000.0)


def runs(key: str = "relay", unit: str = "messages/s", **values: list[float]) -> Runs:
    return Runs(
        key, f"row <{key}>", unit, "3 x", {name: [Figure(each) for each in found] for name, found in values.items()}
    )


def test_a_rate_is_better_when_it_is_higher_and_a_time_when_it_is_lower() -> None:
    assert runs(mailspool=[300, 100, 200], postfix=[100]).ratio("postfix") == 2
    assert runs(unit="ms", mailspool=[5], postfix=[10]).ratio("postfix") == 2


def test_there_is_no_ratio_to_who_was_not_measured_or_came_to_nothing() -> None:
    assert runs(mailspool=[1]).ratio("postfix") is None
    assert runs(mailspool=[1], postfix=[0]).ratio("postfix") is None


def test_a_line_says_median_extremes_ratio_and_how_much_less_a_peer_was_given() -> None:
    said = line(runs(mailspool=[500, 400, 600], opensmtpd=[10, 10, 10]), verbose=False)
    assert "500 (400 to 600)" in said
    assert "ours is 50.00 times as good   (2% of the messages)" in said


def test_rows_measured_one_by_one_make_one_table_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "build/bench.json"
    first, other = runs("relay", mailspool=[1.5]), runs("accept", mailspool=[2.5])
    for row in (first, other, runs("relay", mailspool=[3.5])):
        add(path, Kept("2026-01-01T00:00:00+00:00", LIMITS, row))
    kept = read(path)
    assert list(kept) == ["accept", "relay"]
    assert kept["relay"].runs.median("mailspool") == 3.5
    assert kept["accept"] == Kept("2026-01-01T00:00:00+00:00", LIMITS, other)


def test_a_file_of_something_else_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text('{"relay": 5}')
    with pytest.raises(SystemExit, match="move it away, or name another with --json"):
        read(path)
    assert path.read_text() == '{"relay": 5}'


def test_a_bar_points_to_the_left_where_ours_is_worse() -> None:
    drawn = chart([runs(mailspool=[1], postfix=[2], opensmtpd=[0.5]), runs("accept", mailspool=[1])])
    picture = ElementTree.fromstring(drawn)
    (middle,) = (float(each.get("x1", "")) for each in picture if each.tag.endswith("line"))
    _, worse, better = (float(each.get("x", "0")) for each in picture if each.tag.endswith("rect"))
    assert worse < middle
    assert better == middle
    assert "row &lt;relay&gt;" in drawn
    assert "accept" not in drawn
