"""The scorecard counts what was tried, and hides nothing that failed."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.tools.scorecard import Cases, printed, scorecard

Outcome = Literal["passed", "failed", "skipped"]


def phase(
    outcome: Outcome, *properties: tuple[str, object], name: str = "test_x", when: str = "call"
) -> pytest.TestReport:
    marked = [("reliability", "2 faults"), *properties]
    return pytest.TestReport(name, ("", 0, ""), {}, outcome, None, when, user_properties=marked)  # type: ignore[arg-type]


def test_a_test_is_one_case_whatever_its_phases() -> None:
    row = scorecard([phase("passed", when="setup"), phase("passed"), phase("passed", when="teardown")])["2 faults"]
    assert (row.tests, row.cases, row.failed) == (1, 1, 0)


def test_a_test_that_tries_many_counts_as_many() -> None:
    row = scorecard([phase("passed"), phase("passed", ("cases tried", 40), ("cases failed", 0), when="teardown")])[
        "2 faults"
    ]
    assert (row.tests, row.cases, row.failed) == (1, 40, 0)


def test_every_case_that_failed_is_counted() -> None:
    row = scorecard([phase("failed", ("cases tried", 40), ("cases failed", 3), when="teardown")])["2 faults"]
    assert (row.cases, row.failed) == (40, 3)


def test_a_test_that_breaks_has_failed_even_when_it_counted_nothing() -> None:
    row = scorecard([phase("failed"), phase("passed", ("cases tried", 0), ("cases failed", 0), when="teardown")])[
        "2 faults"
    ]
    assert row.failed == 1


def test_what_was_skipped_is_no_case() -> None:
    row = scorecard([phase("skipped", when="setup"), phase("passed", when="teardown")])["2 faults"]
    assert (row.tests, row.cases, row.skipped) == (1, 0, 1)


def test_a_figure_is_printed_below_the_table_once() -> None:
    reports = [phase("passed"), phase("passed", ("note", "slowest 3 ms"), when="teardown")]
    assert printed(scorecard(reports))[-1] == "2 faults: slowest 3 ms"


def test_a_test_with_failed_cases_fails(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["tests.tools.scorecard"]')
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.reliability("3 time")
        def test_x(cases, thorough):
            assert not thorough
            cases.tried(7)
            cases.failed("the third one")
        """
    )
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*the third one*", "3 time*1*7*1*0", "all*1*7*1*0"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_line_that_the_scorecard_lacks_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["tests.tools.scorecard"]')
    pytester.makepyfile('import pytest\n@pytest.mark.reliability("14 luck")\ndef test_x(): ...')
    assert pytester.runpytest("-p", "no:cacheprovider").ret == pytest.ExitCode.USAGE_ERROR


def test_a_case_counts_from_nothing() -> None:
    counted = Cases()
    counted.tried()
    counted.tried(3)
    assert counted.count == 4
