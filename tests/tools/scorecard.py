"""The scorecard of reliability: for each promise, how many cases were tried and how many of them failed.

A pytest plugin. A test that belongs to the scorecard says so with ``@pytest.mark.reliability("2 faults")``; it is one case,
or as many as it says to the fixture ``cases``. ``make reliability`` runs these tests alone and ``--thorough``, ``make test``
runs them in their short form; both print the table at their end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

#: The promises, in the order in which they are printed.
ITEMS = (
    "1 instants",
    "1 n-th call",
    "1 power loss",
    "1 kills under load",
    "2 faults",
    "3 time",
    "4 local once",
    "5 outbound duplicates",
    "6 reports",
    "7 at rest",
    "8 a million",
    "9 moving house",
    "10 verify",
)
_LINE = "{:<24}{:>8}{:>10}{:>8}{:>9}"
_TRIED, _FAILED, _NOTE = "cases tried", "cases failed", "note"


@dataclass(slots=True)
class Cases:
    """What a test that tries many cases counts."""

    count: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tried(self, count: int = 1) -> None:
        """So many more cases were tried."""
        self.count += count

    def failed(self, what: str) -> None:
        """One of them failed; the test goes on, and fails at its end."""
        self.failures.append(what)

    def note(self, text: str) -> None:
        """A figure that is worth printing below the table."""
        self.notes.append(text)


@dataclass(slots=True)
class Row:
    """A line of the scorecard."""

    tests: int = 0
    cases: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="try many more cases, as make reliability does")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "reliability(item): counts in the scorecard of make reliability")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("reliability")
        if marker is not None and marker.args[0] not in ITEMS:
            raise pytest.UsageError(f"{item.nodeid}: no line of the scorecard is called {marker.args[0]!r}")


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether many cases are to be tried."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Iterator[Cases]:
    """Counts the cases of this test; those that failed fail it at its end."""
    counted = Cases()
    yield counted
    request.node.user_properties.append((_TRIED, counted.count))
    request.node.user_properties.append((_FAILED, len(counted.failures)))
    request.node.user_properties += [(_NOTE, note) for note in counted.notes]
    if counted.failures:
        pytest.fail("\n".join(counted.failures))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("reliability")
    if marker is not None and ("reliability", marker.args[0]) not in item.user_properties:
        item.user_properties.append(("reliability", marker.args[0]))
    return (yield)


def scorecard(reports: Iterable[pytest.TestReport]) -> dict[str, Row]:
    """The table, from the reports of all phases of all tests; of a test the phase that was reported last counts."""
    last: dict[str, list[pytest.TestReport]] = {}
    for report in reports:
        last.setdefault(report.nodeid, []).append(report)
    rows: dict[str, Row] = {}
    for phases in last.values():
        properties = {name: value for phase in phases for name, value in phase.user_properties}
        item = properties.get("reliability")
        if isinstance(item, str):
            _count(rows.setdefault(item, Row()), phases, properties)
    return rows


def _count(row: Row, phases: list[pytest.TestReport], properties: dict[str, object]) -> None:
    row.tests += 1
    if any(phase.skipped for phase in phases):
        row.skipped += 1
        return
    tried, failed = properties.get(_TRIED, 1), properties.get(_FAILED, 0)
    assert isinstance(tried, int)
    assert isinstance(failed, int)
    row.cases += tried
    row.failed += max(failed, int(any(phase.failed for phase in phases)))
    row.notes += sorted({str(value) for phase in phases for name, value in phase.user_properties if name == _NOTE})


def printed(rows: dict[str, Row]) -> list[str]:
    """The scorecard as lines of text."""
    present = {item: rows[item] for item in ITEMS if item in rows}
    columns = ("tests", "cases", "failed", "skipped")
    counts = {item: [getattr(row, column) for column in columns] for item, row in present.items()}
    counts["all"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    lines = [_LINE.format("", *columns)] + [_LINE.format(item, *numbers) for item, numbers in counts.items()]
    return lines + [f"{item}: {note}" for item, row in present.items() for note in row.notes]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed", "error", "skipped", "")
        for report in terminalreporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)
    ]
    rows = scorecard(reports)
    if rows:
        terminalreporter.section("scorecard of reliability")
        for line in printed(rows):
            terminalreporter.write_line(line)
