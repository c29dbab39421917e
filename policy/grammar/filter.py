"""``filter`` lines."""

from __future__ import annotations

from typing import Final

from policy.errors import Place
from policy.grammar.arguments import literal, option
from policy.grammar.cursor import Cursor
from policy.grammar.syntax import ChainStatement, FilterStatement, Script, Word
from policy.grammar.vocabulary import FILTER_DEEDS, FILTER_KINDS, FILTER_PHASES, FILTER_QUESTIONS, LATER
from policy.suggestion import did_you_mean

_A_QUESTION: Final = f"a condition of a filter ({', '.join(FILTER_QUESTIONS)})"


def filter_line(cursor: Cursor, script: Script, _place: Place) -> None:
    """The rest of a ``filter`` line: a name, and a phase with its condition, or a chain."""
    name = cursor.string("the name of the filter")
    script.begun.add(("filter", name.text))
    if name.text in script.filters:
        first = script.filters[name.text].name.place
        cursor.complain(name.place, f'filter "{name.text}" is declared already, at {first}')
    token = cursor.token
    if later := LATER.get(f"filter {token.text}"):
        cursor.fail(token.place, f'not supported yet: "filter {token.text}" ({later})')
    if not cursor.accept_word(*FILTER_KINDS):
        cursor.fail_expecting(f"what the filter is ({', '.join(FILTER_KINDS)})")
    statement = _phase(cursor, name) if token.text == "phase" else _chain(cursor, name)
    cursor.end_directive()
    script.filters.setdefault(name.text, statement)


def _chain(cursor: Cursor, name: Word) -> ChainStatement:
    if not cursor.at_mark("{"):
        cursor.fail_expecting('"{" and the names of filters')
    return ChainStatement(name, literal(cursor))


def _phase(cursor: Cursor, name: Word) -> FilterStatement:
    token = cursor.token
    if not cursor.accept_word(*FILTER_PHASES):
        if token.is_string:
            cursor.fail(token.place, f'unknown phase "{token.text}"{did_you_mean(token.text, FILTER_PHASES)}')
        cursor.fail_expecting(f"a phase ({', '.join(FILTER_PHASES)})")
    if not cursor.accept_word("match"):
        cursor.fail_expecting('"match" and a condition')
    negated = cursor.accept_mark("!")
    if not cursor.at_word(*FILTER_QUESTIONS):
        cursor.fail_expecting(_A_QUESTION)
    question = option(cursor, FILTER_QUESTIONS, "a filter", "condition")._replace(negated=negated)
    if cursor.at_mark("!") or cursor.at_word(*FILTER_QUESTIONS):
        cursor.fail(cursor.token.place, "a filter has one condition: several filters in a chain ask several")
    deed = option(cursor, FILTER_DEEDS, "a filter", "action")
    return FilterStatement(name, Word(token.text, token.place), question, deed)
