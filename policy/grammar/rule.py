"""``match`` lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from policy.errors import Place
from policy.grammar.arguments import option
from policy.grammar.cursor import Cursor
from policy.grammar.syntax import Given, RuleStatement, Script, Word
from policy.grammar.vocabulary import CONDITIONS, FOR_FORMS, FROM_FORMS, LOCAL_OPTIONS, METHODS, RELAY_OPTIONS
from policy.lexer import KEYWORD, QUOTED, WORD, Token
from policy.suggestion import did_you_mean
from policy.tables.patterns import network_of

#: Reserved words that named conditions before OpenSMTPD 6.4, and words that said what is done.
_FORMER_PARTS: Final = ("recipient", "tagged")
_FORMER_METHODS: Final = ("accept", "deliver")


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
        _join(cursor, draft)
    if draft.rejects and draft.action:
        cursor.fail(place, 'a rule has either "reject" or "action", not both')
    if not draft.rejects and not draft.action:
        cursor.fail(place, 'this rule does nothing: expected "action NAME" or "reject" in it')
    cursor.end_directive()
    script.rules.append(RuleStatement(place, draft.source, draft.destination, tuple(draft.conditions), draft.action))


def _join(cursor: Cursor, draft: _Draft) -> None:
    if not cursor.goes_on(*_READERS) or draft.rejects or draft.action:
        return
    place = cursor.token.place
    if place.source[: place.column].rstrip().endswith("\\"):
        cursor.complain(place, 'blanks behind the "\\" keep it from joining the lines')
    else:
        cursor.complain(place, 'the rule seems to go on in the next line: expected "\\" at the end of this one')
    cursor.advance()


def _part(cursor: Cursor, draft: _Draft) -> None:
    negated = cursor.accept_mark("!")
    token = cursor.token
    read = _READERS.get(token.text) if token.kind in (KEYWORD, WORD) else None
    if read is None:
        _fail_part(cursor)
    _see(cursor, draft, token.text, token)
    if negated and read in (_reject, _action):
        cursor.fail(token.place, f'"!" cannot stand before "{token.text}"')
    read(cursor, draft, negated)


def _part_hint(token: Token) -> str:
    if token.kind is QUOTED:
        is_quoted_part = token.text in _READERS
        return " in quotes" if is_quoted_part else '; the name of an action stands behind "action"'
    if token.text in METHODS or token.text in _FORMER_METHODS:
        return ': declare an action that does it, and name it here, as in: action "NAME"'
    if token.text in LOCAL_OPTIONS or token.text in RELAY_OPTIONS:
        return ", but an option of actions"
    return '; it is written "!"' if token.text == "not" else did_you_mean(token.text, _READERS)


def _fail_part(cursor: Cursor) -> NoReturn:
    token = cursor.token
    if token.is_string or cursor.at_word(*LOCAL_OPTIONS, *RELAY_OPTIONS, *METHODS, *_FORMER_PARTS):
        cursor.fail(token.place, f'"{token.text}" is no part of a rule{_part_hint(token)}')
    cursor.fail_expecting(f"a part of a rule ({', '.join(_READERS)})")


def _see(cursor: Cursor, draft: _Draft, part: str, where: Token | Given) -> None:
    if part in draft.seen:
        cursor.complain(where.place, f'"{part}" twice in one rule')
    draft.seen.add(part)


def _from(cursor: Cursor, draft: _Draft, negated: bool) -> None:
    cursor.advance()
    text = cursor.token.text
    if cursor.token.is_string and text not in FROM_FORMS and network_of(text):
        cursor.fail(cursor.token.place, f'"from" takes an address only after "src"; did you mean: src "{text}"?')
    _check_negation(cursor, "from")
    form = option(cursor, FROM_FORMS, '"from"', "form")._replace(negated=negated)
    if form.word == "mail-from":
        # smtpd.conf(5): short for "from any mail-from", and "!" is about the sender.
        _see(cursor, draft, form.word, form)
        draft.conditions.append(form)
        form = Given("any", form.place)
    draft.source = form


def _for(cursor: Cursor, draft: _Draft, negated: bool) -> None:
    cursor.advance()
    text = cursor.token.text
    if cursor.token.is_string and text not in FOR_FORMS and "." in text:
        local, _, domain = text.rpartition("@")
        meant = f'rcpt-to "{text}"' if local else f'domain "{domain}"'
        cursor.fail(cursor.token.place, f'"for" takes a domain only after "domain"; did you mean: {meant}?')
    _check_negation(cursor, "for")
    draft.destination = option(cursor, FOR_FORMS, '"for"', "form")._replace(negated=negated)


def _check_negation(cursor: Cursor, word: str) -> None:
    if cursor.at_mark("!"):
        cursor.fail(cursor.token.place, f'"!" stands before "{word}"')


def _condition(cursor: Cursor, draft: _Draft, negated: bool) -> None:
    draft.conditions.append(option(cursor, CONDITIONS, "a rule")._replace(negated=negated))


def _reject(cursor: Cursor, draft: _Draft, _negated: bool) -> None:
    cursor.advance()
    draft.rejects = True


def _action(cursor: Cursor, draft: _Draft, _negated: bool) -> None:
    cursor.advance()
    draft.action = cursor.string('the name of an action after "action"')


_READERS: Final[Mapping[str, Callable[[Cursor, _Draft, bool], None]]] = {
    "from": _from,
    "for": _for,
    **dict.fromkeys(CONDITIONS, _condition),
    "reject": _reject,
    "action": _action,
}
