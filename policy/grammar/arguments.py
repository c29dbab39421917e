"""What stands behind the words of a directive: tables, delays, sizes, ports, and whole lists of options."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from typing import Final

from policy.grammar.cursor import Cursor
from policy.grammar.syntax import (
    Argument,
    Delays,
    Given,
    LiteralTable,
    NamedTable,
    Number,
    Options,
    TableUse,
    Word,
)
from policy.grammar.vocabulary import (
    CONDITIONS,
    DIRECTIVES,
    LISTEN_OPTIONS,
    LOCAL_OPTIONS,
    RELAY_OPTIONS,
    Option,
    Takes,
)
from policy.lexer import END, KEYWORD, NUMBER, QUOTED, WORD, Token
from policy.suggestion import did_you_mean

#: Whose options a word may be that stands in the wrong place.
_OWNERS: Final = {
    "local delivery": LOCAL_OPTIONS,
    "relay": RELAY_OPTIONS,
    "other listeners": LISTEN_OPTIONS,
    "rules": CONDITIONS,
}
_DELAY: Final = re.compile(r"([0-9]{1,9})([smhd])")
_DELAY_UNIT: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: Ten years: longer is a slip of the finger, and shorter fits every counter.
_MAX_DELAY: Final = 3650 * 86_400_000
_SIZE: Final = re.compile(r"([0-9]{1,15})([kmg]?)", re.IGNORECASE)
_SIZE_UNIT: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_A_TABLE: Final = 'a table (<name>, { "a", "b" } or a string)'


def delay(cursor: Cursor) -> Number:
    """Digits and one of ``s m h d``, at least 1; in milliseconds."""
    what = "a delay such as 90s, 30m, 4h or 5d"
    if cursor.token.kind is NUMBER:
        cursor.fail(cursor.token.place, f'"{cursor.token.text}" has no unit: expected {what}')
    word = cursor.string(what)
    match = _DELAY.fullmatch(word.text)
    value = int(match.group(1)) * _DELAY_UNIT[match.group(2)] if match else 0
    if not 0 < value <= _MAX_DELAY:
        cursor.fail(word.place, f'"{word.text}" is not {what}')
    return Number(value, word.place)


def delays(cursor: Cursor) -> Number | Delays:
    """A delay, or ``{ 1m, 5m }``; commas and line ends separate, as in tables."""
    start = cursor.token
    if not cursor.accept_mark("{"):
        return delay(cursor)
    found: list[Number] = []
    cursor.skip_newlines()
    while not cursor.at_mark("}") or not found:
        if _is_unclosed(cursor):
            cursor.fail(start.place, _not_closed(cursor))
        found.append(delay(cursor))
        comma = cursor.accept_mark(",")
        cursor.skip_newlines()
        if comma and cursor.at_mark("}"):
            cursor.fail_expecting("another delay after the comma")
    cursor.advance()
    return Delays(tuple(found), start.place)


def size(cursor: Cursor) -> Number:
    """Digits and perhaps one of ``K M G`` (powers of 1024); in octets."""
    what = "a size in octets, such as 36700160 or 35M"
    word = _number_as_word(cursor) or cursor.string(what)
    match = _SIZE.fullmatch(word.text)
    value = int(match.group(1)) * _SIZE_UNIT[match.group(2).lower()] if match else 0
    if value <= 0:
        cursor.fail(word.place, f'"{word.text}" is not {what}')
    return Number(value, word.place)


def count(cursor: Cursor) -> Number:
    """A number of at least 1."""
    word = _number_as_word(cursor)
    if word is None:
        cursor.fail_expecting("a number")
    if not 0 < int(word.text) < 1 << 31:
        cursor.fail(word.place, f"{word.text} is not a number of at least 1")
    return Number(int(word.text), word.place)


def whole(cursor: Cursor) -> Number:
    """A number of at least 0."""
    word = _number_as_word(cursor)
    if word is None:
        cursor.fail_expecting("a number")
    if not 0 <= int(word.text) < 1 << 31:
        cursor.fail(word.place, f"{word.text} is not a number of at least 0")
    return Number(int(word.text), word.place)


def port(cursor: Cursor) -> Number:
    """A number from 1 to 65535, or a service's name."""
    what = 'a port (1 to 65535) or a service such as "submission"'
    token = cursor.accept_word("smtp", "smtps")
    word = Word(token.text, token.place) if token else _number_as_word(cursor) or cursor.string(what)
    number = int(word.text) if re.fullmatch(r"-?[0-9]{1,9}", word.text) else _service_port(word.text)
    if not 0 < number < 65536:
        cursor.fail(word.place, f'"{word.text}" is not {what}')
    return Number(number, word.place)


def table(cursor: Cursor, what: str = _A_TABLE) -> TableUse:
    """``<name>``, ``{ ... }`` or a string, which is a list of one."""
    start = cursor.token
    if cursor.accept_mark("<"):
        name = cursor.string('the name of a table after "<"')
        if not cursor.accept_mark(">"):
            cursor.fail_expecting(f'">" after "<{name.text}"')
        return NamedTable(name.text, start)
    if cursor.at_mark("{"):
        return literal(cursor)
    word = cursor.string(what)
    return LiteralTable((word,), (), word.at)


def literal(cursor: Cursor) -> LiteralTable:
    """``{ a, b }`` or ``{ a = b, c = d }``; commas and line ends separate, and nothing but them is needed."""
    start = cursor.token
    cursor.advance()
    keys: list[Word] = []
    values: list[Word] = []
    cursor.skip_newlines()
    while not cursor.at_mark("}") or not keys:
        keys.append(_element(cursor, start))
        if cursor.accept_mark("=", "=>"):
            values.append(cursor.string('a value after "="'))
        if values and len(values) != len(keys):
            cursor.fail(keys[len(values) % len(keys)].place, "an element without a value among elements that have one")
        comma = cursor.accept_mark(",")
        cursor.skip_newlines()
        if comma and cursor.at_mark("}"):
            cursor.fail_expecting("another element after the comma")
    cursor.advance()
    return LiteralTable(tuple(keys), tuple(values), start)


def options(cursor: Cursor, known: Mapping[str, Option], owner: str, ends: tuple[str, ...] = ()) -> Options:
    """Options in any order up to the end of the line, or to one of the words ``ends``."""
    given: list[Given] = []
    groups: dict[str, str] = {}
    while not cursor.at_line_end and not cursor.at_word(*ends):
        one = option(cursor, known, owner)
        group = known[one.word].group or one.word
        if group in groups and not known[one.word].repeats:
            cursor.complain(one.place, _already(group, one.word, groups[group], owner))
        groups.setdefault(group, one.word)
        given.append(one)
    return Options(tuple(given))


def option(cursor: Cursor, known: Mapping[str, Option], owner: str, noun: str = "option") -> Given:
    """One word of ``known`` with what it takes; messages call it the ``noun`` of ``owner``."""
    token = cursor.token
    if token.kind is QUOTED and token.text in known:
        cursor.fail(token.place, f'"{token.text}" is {_a(noun)} of {owner} only without quotes')
    if cursor.at_mark(","):
        cursor.fail(token.place, f"no comma stands between the words of {owner}: blanks do")
    if token.kind not in (KEYWORD, WORD):
        cursor.fail_expecting(f"{_a(noun)} of {owner} ({', '.join(_supported(known))})")
    if token.text not in known:
        cursor.fail(token.place, f'unknown {noun} "{token.text}" of {owner}{_hint(token.text, known)}')
    spec = known[token.text]
    if spec.later:
        cursor.complain(token.place, f'not supported yet: "{spec.word}" ({spec.later})')
    cursor.advance()
    is_regex = spec.takes in _TAKE_PATTERNS and cursor.accept_word("regex") is not None
    argument = _ARGUMENTS[Takes.PATTERNS if is_regex else spec.takes](cursor, spec.word)
    modifier = cursor.accept_word(spec.modifier) if spec.modifier else None
    if modifier and spec.modifier_later:
        cursor.complain(modifier.place, f'not supported yet: "{spec.word} {spec.modifier}" ({spec.modifier_later})')
    return Given(spec.word, token, argument, modifier is not None, is_regex=is_regex)


def _supported(known: Mapping[str, Option]) -> list[str]:
    return [word for word, spec in known.items() if not spec.later]


def _hint(word: str, known: Mapping[str, Option]) -> str:
    # Somebody may have meant a word that is not supported yet, but it need not be advertised.
    hint = did_you_mean(word, known)
    if "?" in hint or "since" in hint:
        return hint
    owners = [owner for owner, options in _OWNERS.items() if word in options]
    return f"; it is an option of {', '.join(owners)}" if owners else did_you_mean(word, _supported(known))


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _already(group: str, word: str, before: str, owner: str) -> str:
    return f'"{word}" twice in {owner}' if word == before else f'{group} of {owner} is given already, by "{before}"'


def _element(cursor: Cursor, opened: Token) -> Word:
    if _is_unclosed(cursor):
        cursor.fail(opened.place, _not_closed(cursor))
    return cursor.string('an element of the table, or "}"')


def _is_unclosed(cursor: Cursor) -> bool:
    """Whether the file or the directive ended before a brace was closed."""
    return cursor.token.kind is END or (cursor.at_line_start and cursor.at_word(*DIRECTIVES))


def _not_closed(cursor: Cursor) -> str:
    return f'this "{{" is not closed: expected "}}" before {cursor.described()}'


def _number_as_word(cursor: Cursor) -> Word | None:
    if cursor.token.kind is not NUMBER:
        return None
    token = cursor.advance()
    return Word(token.text, token)


def _service_port(name: str) -> int:
    try:
        return socket.getservbyname(name, "tcp")
    except (OSError, ValueError):
        return 0


def _at_table(cursor: Cursor) -> bool:
    return cursor.at_mark("<", "{") or cursor.token.is_string


def _maybe_string(cursor: Cursor, word: str) -> Argument:
    # Options that are no reserved words are meant as options, unless they are quoted.
    is_option = cursor.token.kind is WORD and cursor.token.text in LOCAL_OPTIONS
    return cursor.string(word) if cursor.token.is_string and not is_option else None


def _names(cursor: Cursor, word: str) -> Argument:
    return literal(cursor) if cursor.at_mark("{") else cursor.string(f'a name after "{word}"')


def _mx(cursor: Cursor, word: str) -> Argument:
    return cursor.string(f'a host name after "{word} mx"') if cursor.accept_word("mx") else None


_TAKE_PATTERNS: Final = frozenset({Takes.PATTERNS, Takes.MAYBE_PATTERNS})
_ARGUMENTS: Final[Mapping[Takes, Callable[[Cursor, str], Argument]]] = {
    Takes.NOTHING: lambda _cursor, _word: None,
    Takes.STRING: lambda cursor, word: cursor.string(f'a string after "{word}"'),
    Takes.MAYBE_STRING: _maybe_string,
    Takes.TABLE: lambda cursor, word: table(cursor, f'{_A_TABLE} after "{word}"'),
    Takes.MAYBE_TABLE: lambda cursor, _word: table(cursor) if _at_table(cursor) else None,
    Takes.PATTERNS: lambda cursor, word: table(cursor, f'{_A_TABLE} after "{word}"'),
    Takes.MAYBE_PATTERNS: lambda cursor, _word: table(cursor) if _at_table(cursor) else None,
    Takes.DELAY: lambda cursor, _word: delay(cursor),
    Takes.DELAYS: lambda cursor, _word: delays(cursor),
    Takes.PORT: lambda cursor, _word: port(cursor),
    Takes.NAMES: _names,
    Takes.MAYBE_MX: _mx,
}
