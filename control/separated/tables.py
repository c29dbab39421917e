"""Whether the tables of a configuration say something new: looked at by root, for those that cannot.

Guarantees: looking costs a stat(2) for each file that has not changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from policy.tables.held import Snapshot, is_held_elsewhere, snapshot_of
from policy.tables.table import Table


class TableWatch:
    """Remembers what was said last."""

    def __init__(self) -> None:
        self._tables: Mapping[str, Table] = {}
        self._said: dict[str, Snapshot] = {}

    def has_news(self, tables: Mapping[str, Table]) -> bool:
        """Look at all of them; may take as long as a vault does, so it is for a thread. The first look at some has none."""
        said = {name: _look(table) for name, table in tables.items() if is_held_elsewhere(table)}
        has_news = tables is self._tables and any(not _same(self._said[name], now) for name, now in said.items())
        self._tables, self._said = tables, said
        return has_news


def _look(table: Table) -> Snapshot:
    if table.is_stale:
        table.refresh()
    return snapshot_of(table)


def _same(before: Snapshot, now: Snapshot) -> bool:
    return before.content is now.content and before.trouble == now.trouble
