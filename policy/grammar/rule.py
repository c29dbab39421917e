"""``match`` lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policy.errors import Place
from policy.grammar.arguments import option
from policy.grammar.cursor import Cursor
from policy.grammar.syntax import Given, RuleStatement, Script, Word
from policy.grammar.vocabulary import CONDITIONS, FOR_FORMS, FROM_FORMS
from policy.suggestion import did_you_mean
from policy.tables.table import network_of

_PARTS: Final = ("from", "for", *CONDITIONS, "reject", "action")


@dataclass(slots=True)
class _Draft:
    source: Given | None = None
    destination: Given | None = None
    conditions: list[Given] = field(default_factory=list)
    action: Word | None = None
    rejects: bool = False
    seen: set[str] = field(default_factory=set)


def match(cursor: Cursor, script: Script, place: Place) -> None:
    """The rest of a ``match`` line: conditions in any order, and ``reject`` or ``action NAME``."""
    script.begun.add(("match", ""))
    draft = _Draft()
    while not cursor.at_line_end:
        _part(cursor, draft)
    if draft.rejects and draft.action:
        cursor.fail(place, 'a rule has either "reject" or "action", not both')
    if not draft.rejects and not draft.action:
        cursor.fail(place, 'this rule does nothing: expected "action NAME" or "reject" in it')
    cursor.end_directive()
    script.rules.append(RuleStatement(place, draft.source, draft.destination, tuple(draft.conditions), draft.action))


def _part(cursor: Cursor, draft: _Draft) -> None:
    negated = cursor.accept_mark("!")
    token = cursor.token
    if cursor.at_word(*_PARTS):
        _see(cursor, draft, token.text, token.place)
    if cursor.at_word("reject", "action") and negated:
        cursor.fail(token.place, f'"!" cannot stand before "{token.text}"')
    if cursor.accept_word("from"):
        _from(cursor, draft, negated)
    elif cursor.accept_word("for"):
        _for(cursor, draft, negated)
    elif cursor.accept_word("reject"):
        draft.rejects = True
    elif cursor.accept_word("action"):
        draft.action = cursor.string('the name of an action after "action"')
    elif cursor.at_word(*CONDITIONS):
        draft.conditions.append(option(cursor, CONDITIONS, "a rule")._replace(negated=negated))
    elif token.is_string:
        cursor.fail(token.place, f'"{token.text}" is no part of a rule{did_you_mean(token.text, _PARTS)}')
    else:
        cursor.fail_expecting(f"a part of a rule ({', '.join(_PARTS)})")


def _see(cursor: Cursor, draft: _Draft, part: str, place: Place) -> None:
    if part in draft.seen:
        cursor.complain(place, f'"{part}" twice in one rule')
    draft.seen.add(part)


def _from(cursor: Cursor, draft: _Draft, negated: bool) -> None:
    text = cursor.token.text
    if cursor.token.is_string and text not in FROM_FORMS and network_of(text):
        cursor.fail(cursor.token.place, f'"from" takes an address only after "src"; did you mean: src "{text}"?')
    form = option(cursor, FROM_FORMS, '"from"', "form")._replace(negated=negated)
    if form.word == "mail-from":
        # smtpd.conf(5): short for "from any mail-from", and "!" is about the sender.
        _see(cursor, draft, form.word, form.place)
        draft.conditions.append(form)
        form = Given("any", form.place)
    draft.source = form


def _for(cursor: Cursor, draft: _Draft, negated: bool) -> None:
    text = cursor.token.text
    if cursor.token.is_string and text not in FOR_FORMS and "." in text:
        cursor.fail(cursor.token.place, f'"for" takes a domain only after "domain"; did you mean: domain "{text}"?')
    draft.destination = option(cursor, FOR_FORMS, '"for"', "form")._replace(negated=negated)
