"""Warnings about aliases that lead back to themselves, with the place where the circle can be cut.

Guarantees: as `policy.circles`.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from policy.build.workbench import Workbench
from policy.circles import MAX_ENTRIES, Circle, find_circles, table_of
from policy.config import AnyLocalAction, Config, Relay
from policy.errors import Place, TableUnavailable
from policy.grammar.syntax import Given, LiteralTable
from policy.tables.file import FileTable
from policy.tables.format import Entry, TableReader
from policy.tables.table import Table

#: Circles that are told: who has more begins with these.
MAX_TOLD: Final = 5


def check_circles(bench: Workbench, config: Config) -> None:
    """Warn of each circle once, whatever actions it is found by."""
    told: set[str] = set()
    for name, action in config.actions.items():
        given = bench.script.actions[name].options.find("alias", "virtual")
        if isinstance(action, Relay) or given is None:
            continue
        for circle in _circles(bench, config, action):
            if str(circle) not in told and len(told) == MAX_TOLD:
                bench.warn(given.place, f"more than {MAX_TOLD} aliases lead back to themselves; mend the first ones")
                return
            if str(circle) not in told:
                told.add(str(circle))
                where = _place_of(bench, given, circle)
                bench.warn(where, f"this alias leads back to itself, so its mail will be refused: {circle}")


def _circles(bench: Workbench, config: Config, action: AnyLocalAction) -> list[Circle]:
    try:
        _note_size(bench, table_of(action))
        return list(find_circles(config, action))
    except TableUnavailable:
        # It has been told that a table cannot be asked now.
        return []


def _note_size(bench: Workbench, table: Table | None) -> None:
    if table is not None and len(tuple(islice(table.keys(), MAX_ENTRIES + 1))) > MAX_ENTRIES:
        note = f"table {table.name}: only its first {MAX_ENTRIES} entries were searched for aliases that lead back"
        if note not in bench.shelf.notes:
            bench.shelf.notes.append(note)


def _place_of(bench: Workbench, given: Given, circle: Circle) -> Place:
    table = circle.table
    if isinstance(table, FileTable):
        return _line_of(table, circle.key)
    statement = bench.script.tables.get(table.name)
    content = statement.content if statement else given.argument
    words = content.keys if isinstance(content, LiteralTable) else ()
    return next((word.place for word in words if word.text.lower() == circle.key), given.place)


def _line_of(table: FileTable, key: str) -> Place:
    try:
        with open(table.path, encoding="utf-8", errors="surrogateescape") as file:
            entries = TableReader(file.read())
    except OSError:
        # It was there a moment ago, when the table was read.
        return Place(table.path)
    # Of a key that stands there twice, the last counts.
    lines = [entry.line for entry in entries if isinstance(entry, Entry) and entry.key.lower() == key]
    return Place(table.path, lines[-1] if lines else 0)
