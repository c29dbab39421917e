"""What the other lines of an old configuration say that a line has to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from policy.migrate.recognition import is_present_filter
from policy.migrate.words import Sort, Word, words_of


@dataclass(slots=True)
class Surroundings:
    """Gathered from the whole file before anything is rewritten."""

    #: Some listener takes logins, or another file is included, which may have one.
    takes_logins: bool = False
    #: Filters of the present grammar are declared, so that uses of them are of the present grammar, too.
    has_filters: bool = False
    #: Names of actions of the present grammar, in a file that is half translated.
    actions: list[str] = field(default_factory=list)
    pkis: list[str] = field(default_factory=list)
    #: The elements of tables that are written in the file.
    tables: dict[str, frozenset[str]] = field(default_factory=dict)

    def has_local(self, table: tuple[Word, ...]) -> bool:
        """Whether a table of addresses holds ``local``. What a file holds is not known, and taken to be addresses."""
        words = [word for each in table for word in (words_of(each.text, 0) if each.sort is Sort.MACRO else [each])]
        if words and words[0].spelling == "<":
            return "local" in self.tables.get(words[1].text, ())
        return any(word.text == "local" for word in words)


def survey(directives: list[tuple[Word, ...]]) -> Surroundings:
    """What ``directives`` say together."""
    found = Surroundings()
    for words in directives:
        match words[0].text:
            case "include":
                found.takes_logins = True
            case "listen":
                found.takes_logins |= any(word.sort is Sort.WORD and word.text.startswith("auth") for word in words[3:])
            case "filter":
                found.has_filters |= is_present_filter(words)
            case "action" if len(words) > 1:
                found.actions.append(words[1].text)
            case "pki" if len(words) > 1 and words[1].text not in found.pkis:
                found.pkis.append(words[1].text)
            case "table" if len(words) > 2 and words[2].text == "{":
                found.tables[words[1].text] = frozenset(word.text for word in words[3:-1] if word.is_string)
    return found
