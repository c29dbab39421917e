"""Which lines are of the older grammar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from policy.lexer import KEYWORDS
from policy.migrate.words import OLD_KEYWORDS, Directive, Sort, Word, words_of

#: First words of lines that only the older grammar has.
FORMER: Final = (
    "accept",
    "bounce-warn",
    "ciphers",
    "expire",
    "limit",
    "max-message-size",
    "max-mta-deferred",
    "reject",
    "subaddressing-delimiter",
)
#: Kinds of filters since 6.6; what else stands there is the name of a program.
PRESENT_FILTERS: Final = ("proc", "proc-exec", "phase")
#: Options of listeners behind which any word may stand.
_WITH_ARGUMENT: Final = (
    "ca",
    "ciphers",
    "filter",
    "hostname",
    "hostnames",
    "pki",
    "protocols",
    "senders",
    "tag",
)
_IN_LISTENERS: Final = ("secure", "ssl", "mask-source")
_IN_PKIS: Final = ("certificate", "ca", "dhparams")


def is_macro(words: tuple[Word, ...]) -> bool:
    """Whether this is ``name = value``."""
    return len(words) > 1 and words[0].is_string and words[1].text == "=" and words[1].sort is Sort.MARK


def is_former(words: tuple[Word, ...]) -> bool:
    """Whether a directive can only be of the older grammar."""
    if is_macro(words) or words[0].sort is not Sort.WORD:
        return False
    match words[0].text:
        case "listen":
            return any(_is(word, *_IN_LISTENERS) for word in _options(words[3:]))
        case "pki":
            return any(_is(word, *_IN_PKIS) for word in words[2::2])
        case "ca":
            return _is_at(words, 2, "certificate")
        case "filter":
            return len(words) > 2 and not is_present_filter(words)
        case "reject":
            # Alone it is the end of a rule, behind a line end that nothing joins.
            return len(words) > 1
        case first:
            return first in FORMER


def is_present_filter(words: tuple[Word, ...]) -> bool:
    """Whether a ``filter`` line is of the present grammar."""
    return _is_at(words, 2, *PRESENT_FILTERS) or (_is_at(words, 2, "chain") and _is_at(words, 3, "{"))


def resolved(found: list[Directive], macros: dict[str, str]) -> list[tuple[Word, ...]]:
    """The words of every directive; ``macros``, those of the command line, are joined by those of the file."""
    persistent = frozenset(macros)
    result = []
    for directive in found:
        words = directive.words
        if not is_macro(words):
            words = expanded(words, macros)
        elif words[0].text not in persistent and len(words) > 2:
            macros[words[0].text] = words[2].text
        result.append(words)
    return result


def expanded(words: tuple[Word, ...], macros: Mapping[str, str]) -> tuple[Word, ...]:
    """Macros written out, but for those that stand for a string or a table, which only get their value."""
    return tuple(word for each in words for word in _expanded(each, macros))


def _expanded(word: Word, macros: Mapping[str, str]) -> list[Word]:
    if word.sort is not Sort.MACRO:
        return [word]
    value = macros.get(word.spelling[1:], "")
    words = words_of(value, word.offset)
    if not words or _is_argument(words):
        return [Word(Sort.MACRO, value, word.spelling, word.gap, word.offset)]
    first = words[0]
    return [Word(first.sort, first.text, first.spelling, word.gap, word.offset), *words[1:]]


def _is_argument(words: list[Word]) -> bool:
    if len(words) == 1:
        return words[0].sort is Sort.QUOTED or words[0].text not in KEYWORDS | OLD_KEYWORDS
    if words[0].text == "<":
        return len(words) == 3
    return words[0].text == "{" and words[-1].text == "}" and all(word.text != "}" for word in words[:-1])


def _options(words: tuple[Word, ...]) -> Iterator[Word]:
    """The words that are neither arguments nor within tables."""
    depth, is_argument = 0, False
    for word in words:
        depth += _is(word, "{", "<") - _is(word, "}", ">")
        if depth <= 0 and not is_argument and word.sort is Sort.WORD:
            yield word
        is_argument = depth <= 0 and _is(word, *_WITH_ARGUMENT)


def _is(word: Word, *texts: str) -> bool:
    return word.sort in (Sort.WORD, Sort.MARK) and word.text in texts


def _is_at(words: tuple[Word, ...], index: int, *texts: str) -> bool:
    return len(words) > index and _is(words[index], *texts)
