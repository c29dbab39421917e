"""A whole configuration of the older grammar, said anew.

Comments and blank lines stay where they are, macros stay macros, rules keep their order. What a line has to say about a
change of meaning stands above it as a comment.

Guarantees: a file in which nothing is of the older grammar comes back as it was. What cannot be said anew becomes a comment,
and is among the troubles.

Failure: none is raised.

OpenSMTPD's notes on the release 6.4; smtpd.conf(5) of OpenBSD 6.3 and 6.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from policy.errors import Finding, Place
from policy.lexer import KEYWORDS, Source
from policy.migrate.listeners import rewrite_listener
from policy.migrate.phrase import Phrase, Untranslatable
from policy.migrate.recognition import expanded, is_former, is_macro, resolved
from policy.migrate.rewritten import Rewritten
from policy.migrate.rules import Actions, rewrite_rule
from policy.migrate.settings import SETTINGS, rewrite_macro
from policy.migrate.surroundings import Surroundings, survey
from policy.migrate.words import Directive, Sort, Word, directive_at, directives

#: How remarks begin, so that they are found again.
REMARK: Final = "# migrated: "
_WRITTEN_OUT: Final = "{macros} is written out here: words of it are written otherwise now"


@dataclass(slots=True)
class Passage:
    """A directive and the text before it, on its way from the old file into the new one."""

    place: Place
    before: str
    #: The directive as it was.
    old: str
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    #: The action that the lines declare or name.
    action: str = ""
    #: Why the lines are comments; empty when they are not.
    lost: str = ""

    @property
    def text(self) -> str:
        """How it stands in the new file."""
        start = self.before.rfind("\n") + 1
        head, indent = self.before[:start], self.before[start:]
        remarks = [REMARK + note for note in (*self.notes, *([self.lost] if self.lost else []))]
        body = [f"# {line}" for each in self.lines for line in _uncontinued(each)] if self.lost else self.lines
        return head + "\n".join(indent + line for line in (*remarks, *body))


@dataclass(slots=True)
class Migration:
    """A configuration said anew. What is not supported may still be taken out of it."""

    source: Source
    passages: list[Passage]
    tail: str
    is_changed: bool
    troubles: list[Finding] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The new file."""
        return "".join(passage.text for passage in self.passages) + self.tail


def migrate(source: Source, macros: Mapping[str, str] | None = None) -> Migration:
    """What the configuration ``source`` is in the present grammar. ``macros`` are those of the command line."""
    found, tail = directives(source)
    words = resolved(found, dict(macros or {}))
    if not any(map(is_former, words)):
        same = [_kept(source, directive) for directive in found]
        return Migration(source, same, tail, is_changed=False)
    surroundings = survey(words)
    translator = _Translator(source, surroundings, Actions(taken=dict.fromkeys(surroundings.actions, 1)))
    passages = [translator.passage(directive, each) for directive, each in zip(found, words, strict=True)]
    return Migration(source, passages, tail, is_changed=True, troubles=translator.troubles)


def present_form(text: str, offset: int, macros: Mapping[str, str], pkis: Iterable[str]) -> str | None:
    """What the line of ``text`` at ``offset`` is now, in one line; None unless it is of the older grammar.

    `Untranslatable` when it has no counterpart.
    """
    directive = directive_at(text, offset)
    words = expanded(directive.words, macros) if directive else ()
    if not words or not is_former(words):
        return None
    rewritten = _rewritten(words, Surroundings(pkis=sorted(pkis)), Actions())
    lines = [" ".join(line.replace("\\\n", " ").split()) for line in rewritten.lines] if rewritten else []
    return ", and: ".join(lines)


@dataclass(slots=True)
class _Translator:
    source: Source
    surroundings: Surroundings
    actions: Actions
    troubles: list[Finding] = field(default_factory=list)
    #: Remarks that were made: each is made once in a file.
    told: set[str] = field(default_factory=set)

    def passage(self, directive: Directive, words: tuple[Word, ...]) -> Passage:
        passage = _kept(self.source, directive)
        try:
            rewritten = _rewritten(words, self.surroundings, self.actions)
        except Untranslatable as error:
            self._trouble(error.offset, error.message)
            passage.lost = f"not translated: {error.message}"
            return passage
        if rewritten is None:
            return passage
        for trouble in rewritten.troubles:
            self._trouble(*trouble)
        passage.notes, passage.action = self._new(rewritten.notes), rewritten.action
        if _squeezed("".join(rewritten.lines)) != _squeezed("".join(word.spelling for word in words)):
            passage.lines = rewritten.lines
            passage.notes = self._new(_written_out(directive, words)) + passage.notes
        return passage

    def _trouble(self, offset: int, message: str) -> None:
        self.troubles.append(Finding.at(self.source.place(offset), message))

    def _new(self, notes: tuple[str, ...]) -> tuple[str, ...]:
        fresh = tuple(note for note in dict.fromkeys(notes) if note not in self.told)
        self.told.update(fresh)
        return fresh


def _kept(source: Source, directive: Directive) -> Passage:
    return Passage(source.place(directive.words[0].offset), directive.before, directive.text, (directive.text,))


def _rewritten(words: tuple[Word, ...], surroundings: Surroundings, actions: Actions) -> Rewritten | None:
    if is_macro(words):
        return rewrite_macro(words)
    first = words[0].text if words[0].sort is Sort.WORD else ""
    if first in ("accept", "reject"):
        return rewrite_rule(words, surroundings, actions)
    if first == "listen":
        return rewrite_listener(words, surroundings)
    rewrite = SETTINGS.get(first)
    if rewrite is not None:
        return rewrite(words)
    if first not in KEYWORDS:
        Phrase(words).fail("expected a directive of the older or the present grammar")
    return None


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _uncontinued(text: str) -> list[str]:
    return [line.rstrip().removesuffix("\\").rstrip() for line in text.split("\n")]


def _written_out(directive: Directive, words: tuple[Word, ...]) -> tuple[str, ...]:
    kept = {word.spelling for word in words}
    gone = [word.spelling for word in directive.words if word.sort is Sort.MACRO and word.spelling not in kept]
    return (_WRITTEN_OUT.format(macros=" and ".join(dict.fromkeys(gone))),) if gone else ()
