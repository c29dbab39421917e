"""Whatever stands in a file, migrating it says something and breaks nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.errors import ConfigError, Finding
from policy.lexer import Source
from policy.migrate.translation import migrate
from policy.migrate.words import OLD_KEYWORDS, directives, spelt
from policy.parser import load_source
from spool.layout import layout
from tests.tools.configured import FakeHost

WORDS = [
    *sorted(OLD_KEYWORDS),
    "limit",
    "session",
    "x",
    "$m",
    '"tls+auth://l@h:25"',
    "<t>",
    "{ a, b }",
    "{ a = b }",
    "m = any",
]
MARKS = ["!", "<", ">", "{", "}", ",", "=", "(", "#", "\\", "\\\n", "\n", '"', "'", "$", "\t", "\udcff", "\r\n"]
piece = st.sampled_from(WORDS) | st.sampled_from(MARKS) | st.text(max_size=4)
soup = st.lists(piece, max_size=25).map(" ".join)
line = st.builds(
    lambda first, rest: " ".join([first, *rest]),
    st.sampled_from(
        ["accept", "reject", "listen on lo", "pki x", "ca x", "queue", "limit", "filter", "include", "table t"]
    ),
    st.lists(piece, max_size=8),
)
files = st.lists(soup | line, max_size=6).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(files)
def test_words_and_gaps_are_the_file(text: str) -> None:
    found, tail = directives(Source("x", text))
    assert "".join(each.before + spelt(each.words) for each in found) + tail == text


@settings(max_examples=150, deadline=None)
@given(files)
def test_any_file_is_printed_anew(text: str) -> None:
    migration = migrate(Source("x", text))
    if not migration.is_changed:
        assert migration.text == text
    assert not migrate(Source("x", migration.text)).is_changed
    for passage in migration.passages:
        assert bool(passage.lost) <= bool(migration.troubles)


@settings(max_examples=100, deadline=None)
@given(files)
def test_lines_of_the_older_grammar_are_errors_and_nothing_worse(text: str) -> None:
    findings: tuple[Finding, ...] = ()
    try:
        load_source(Source("/nowhere/smtpd.conf", text), layout("/nowhere"), {}, FakeHost())
    except ConfigError as error:
        findings = error.findings
    assert all(finding.message for finding in findings)
