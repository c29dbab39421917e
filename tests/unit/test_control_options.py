"""The command line of smtpd."""

from __future__ import annotations

import pytest

from control.options import Options, UsageError, read_options


def test_flags_may_be_run_together() -> None:
    assert read_options(["-dv", "-T", "smtp", "-Tmta"]) == Options(debug=True, verbose=True, traces=("smtp", "mta"))


def test_a_macro_is_cut_at_its_last_equals_sign() -> None:
    assert read_options(["-D", "a=b=c", "-Dx="]).macros == {"a=b": "c", "x": ""}


def test_file_and_root_are_read() -> None:
    options = read_options(["-n", "-f", "x.conf", "--root", "/srv"])
    assert (options.check, options.file, options.root) == (True, "x.conf", "/srv")


def test_parts_that_start_paused_are_named_once_each() -> None:
    assert read_options(["-P", "mta", "-Psmtp", "-P", "mta"]).paused == ("mta", "smtp")


def test_a_file_to_migrate_is_read_with_its_macros() -> None:
    options = read_options(["-D", "a=b", "--migrate", "old.conf"])
    assert (options.migrate, options.macros) == ("old.conf", {"a": "b"})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-x"], "option -x not recognized"),
        (["-f"], "option -f requires argument"),
        (["-D", "name"], "-D name: not macro=value"),
        (["-T", "imsg"], "-T imsg: not one of all expand"),
        (["-P", "queue"], "-P queue: not one of mda mta smtp"),
        (["-d", "--migrate", "old.conf"], "--migrate only prints: -d has no meaning with it"),
        (["now"], "unexpected operand: now"),
    ],
)
def test_what_is_not_on_the_usage_line_is_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read_options(arguments)
