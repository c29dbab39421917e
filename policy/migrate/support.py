"""What a migrated configuration asks for and is not supported here becomes a comment, with everything that needs it.

Failure: none; each such line is among the troubles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from policy.errors import Finding
from policy.lexer import Source
from policy.migrate.translation import Migration, Passage
from policy.migrate.words import directive_at

#: How errors about what is to come begin.
NOT_YET: Final = "not supported yet: "
#: The same of tables that a program of somebody else answers for.
_UNKNOWN_TABLE: Final = "unknown kind of table "


def without_unsupported(migration: Migration, errors: Callable[[Source], Iterable[Finding]]) -> None:
    """Comment out of ``migration`` what ``errors``, asked about its text, calls not supported."""
    path = migration.source.path
    unsupported = [
        error
        for error in errors(Source(path, migration.text))
        if error.path == path and error.message.startswith((NOT_YET, _UNKNOWN_TABLE))
    ]
    line = 1
    for passage in migration.passages:
        first = line + passage.before.count("\n")
        line += passage.text.count("\n")
        found = next((error.message for error in unsupported if first <= error.line <= line), None)
        if found:
            _lose(migration, passage, found)


def _lose(migration: Migration, passage: Passage, reason: str) -> None:
    if passage.lost:
        return
    passage.lost = reason
    migration.troubles.append(Finding.at(passage.place, reason))
    for other in migration.passages:
        if needed := _need(other, passage):
            _lose(migration, other, f"this needs {needed}, which is not supported yet")


def _need(passage: Passage, lost: Passage) -> str:
    if passage.action and passage.action == lost.action:
        return f'action "{lost.action}"'
    directive = directive_at(lost.old, 0)
    words = directive.words if directive else ()
    if len(words) > 1 and words[0].text == "table" and any(f"<{words[1].text}>" in line for line in passage.lines):
        return f'table "{words[1].text}"'
    return ""
