"""Strings are written so that the lexer reads the same strings again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policy.lexer import Kind, Lexer, Macros, Source
from policy.quoting import quoted

#: What a string of a configuration may hold, with what quotes care about more often than chance would have it.
STRINGS = st.text(st.sampled_from("\\\"' \t$#a/{") | st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))


@given(STRINGS)
def test_a_quoted_string_is_read_back_as_itself(text: str) -> None:
    lexer = Lexer(Source("smtpd.conf", f"{quoted(text)} next"), Macros({}))
    first, second = lexer.next(), lexer.next()
    assert (first.kind, first.text) == (Kind.QUOTED, text)
    assert second.text == "next"
