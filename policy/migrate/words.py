"""A configuration as words that keep their spelling, and directives that keep what stands between them.

The lexer of the language answers what a text means; whoever rewrites a file also has to know how everything was written,
so that comments, blank lines, macros and quotes stay what they are.

Guarantees: gaps and spellings put together again, with the text before each directive and the tail, are the source.

Failure: none. What is no word is one of sort BROKEN, and a brace that is not closed takes in the rest of the file.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from policy.lexer import KEYWORDS, Source
from policy.quoting import quoted

_SPELLING: Final = re.compile(
    r"""
      (?P<blank>   (?: [ \t] | \\\r?\n )++ )
    | (?P<comment> \# (?: \\\r?\n | [^\n] )*+ )
    | (?P<newline> \r?\n )
    | (?P<quoted>  " (?: \\" | [^"] )*+ " | ' (?: \\' | [^'] )*+ ' )
    | (?P<mark>    => | [(){}<>!=,] )
    | (?P<macro>   \$ [A-Za-z0-9_]++ )
    | (?P<word>    (?: \\\r?\n | \\[^\r\n] | [^\s(){}<>!=\#,\\] )++ )
    | (?P<stray>   [\s\S] )
    """,
    re.VERBOSE,
)
_GAPS: Final = ("blank", "comment", "newline")
_ESCAPE: Final = re.compile(r"\\\r?\n|\\([\s\S])")
_QUOTED_ESCAPE: Final = {quote: re.compile(rf"\\?\r?\n|\\([{quote} \t])") for quote in "\"'"}

#: Words of the older grammar: unquoted, none of them was a string.
OLD_KEYWORDS: Final = frozenset(
    re.findall(
        r"\S+",
        """
        accept alias any as auth auth-optional authenticated backup bounce-warn ca certificate ciphers compression deliver
        dhparams domain encryption expire filter for forward-only from hostname hostnames include inet4 inet6 key limit
        listen lmtp local maildir mask-source max-message-size max-mta-deferred mbox mda mta no-dsn on pki port queue
        recipient reject relay scheduler secure sender smtps source subaddressing-delimiter table tag tagged tls
        tls-require to userbase verify via virtual
        """,
    )
)


class Sort(enum.Enum):
    """What a word is."""

    WORD = "word"
    QUOTED = "quoted string"
    #: ``$name``; its text is the value, or empty when nobody defines it.
    MACRO = "macro"
    MARK = "mark"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Word:
    """A word, a string or a mark."""

    sort: Sort
    #: Without quotes and escapes.
    text: str
    spelling: str
    #: What stands before it in its directive.
    gap: str
    offset: int

    @property
    def is_string(self) -> bool:
        """Whether it can be a name, a path or the like."""
        return self.sort in (Sort.WORD, Sort.QUOTED, Sort.MACRO)

    def respelt(self, spelling: str) -> Word:
        """The same place, said otherwise."""
        return replace(self, spelling=spelling)


@dataclass(frozen=True, slots=True)
class Directive:
    """A directive, and everything between the one before and itself: line ends, comments, its indentation."""

    before: str
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """As it was written."""
        return spelt(self.words)


def directives(source: Source) -> tuple[list[Directive], str]:
    """The directives of ``source``, and the text behind the last of them."""
    found: list[Directive] = []
    start = 0
    while (directive := directive_at(source.text, start)) is not None:
        found.append(directive)
        last = directive.words[-1]
        start = last.offset + len(last.spelling)
    return found, source.text[start:]


def directive_at(text: str, start: int) -> Directive | None:
    """The first directive of ``text`` that begins at ``start`` or later; None when there is none."""
    words: list[Word] = []
    before, gap, depth = "", "", 0
    for match in _SPELLING.finditer(text, start):
        kind, spelling, offset = match.lastgroup or "", match.group(), match.start()
        if kind == "newline" and depth <= 0 and words:
            break
        if kind in _GAPS:
            gap += spelling
            continue
        if not words:
            before, gap = gap, ""
        words.append(_word(kind, spelling, gap, offset))
        gap = ""
        depth += (spelling == "{") - (spelling == "}")
    return Directive(before, tuple(words)) if words else None


def words_of(text: str, offset: int) -> list[Word]:
    """The words of a macro's value, standing where it is used."""
    pieces = ((match.lastgroup or "", match.group()) for match in _SPELLING.finditer(text))
    found = [_word(kind, spelling, " ", offset) for kind, spelling in pieces if kind not in _GAPS]
    return [replace(word, gap="") if index == 0 else word for index, word in enumerate(found)]


def spelt(words: Iterable[Word]) -> str:
    """Words as they stand in a file; the gap before the first is left out."""
    return "".join(word.spelling if index == 0 else word.gap + word.spelling for index, word in enumerate(words))


def argument(word: Word) -> str:
    """How a string is written where the present language wants one: in quotes when it would be read otherwise."""
    is_word_of_ours = word.sort is Sort.WORD and word.text in KEYWORDS
    return quoted(word.text) if is_word_of_ours else word.spelling


def _word(kind: str, spelling: str, gap: str, offset: int) -> Word:
    match kind:
        case "quoted":
            text = _QUOTED_ESCAPE[spelling[0]].sub(lambda match: match.group(1) or "", spelling[1:-1])
            return Word(Sort.QUOTED, text, spelling, gap, offset)
        case "mark":
            return Word(Sort.MARK, spelling, spelling, gap, offset)
        case "macro":
            return Word(Sort.MACRO, "", spelling, gap, offset)
        case "word" if spelling[0] not in "\"'":
            return Word(Sort.WORD, _ESCAPE.sub(lambda match: match.group(1) or "", spelling), spelling, gap, offset)
    return Word(Sort.BROKEN, spelling, spelling, gap, offset)
