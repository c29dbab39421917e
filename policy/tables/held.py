"""Tables in a process that may not read their files: what the supervisor has read of them.

`portable` writes a configuration for such a process: file and sourced tables become held ones, those that it has no business
with become withheld ones, everything else stays what it is. Only root's process writes these octets, and only its children
read them.

Guarantees: a held table answers as the table that it stands for did when it was looked at last. A withheld one answers
nothing, and none of its entries is in the octets.

Failure: `TableUnavailable`, when the table that it stands for could not be read, or is withheld.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from policy.errors import TableUnavailable
from policy.tables.file import FileTable
from policy.tables.inline import InlineTable
from policy.tables.patterns import Patterns
from policy.tables.secret import LoneSecret
from policy.tables.sourced import SourcedTable
from policy.tables.table import Content, Shape, Table

#: Those whose content is in the configuration.
_TABLES: Final = (FileTable, SourcedTable, InlineTable)
_NOTHING: Final = Content({}, Shape.EITHER)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a table held when it was looked at."""

    #: None when it cannot be asked.
    content: Content | LoneSecret | None
    trouble: str = ""


class HeldTable:
    """Stands for the table ``name``, which is ``written`` like that in the configuration."""

    def __init__(self, name: str, written: str, snapshot: Snapshot) -> None:
        self.name = name
        self.written = written
        self._snapshot = snapshot

    def __repr__(self) -> str:
        return f"<HeldTable {self.name}>"

    @property
    def shape(self) -> Shape:
        """What its entries are."""
        content = self._snapshot.content
        return content.shape if isinstance(content, Content) else Shape.EITHER

    @property
    def is_stale(self) -> bool:
        """Never: another table is brought in its place."""
        return False

    @property
    def trouble(self) -> str:
        """What was wrong with the table that it stands for."""
        return self._snapshot.trouble

    def refresh(self) -> None:
        """Nothing happens."""

    def lookup(self, key: str) -> str | None:
        """The value of ``key``, or None."""
        content = self._content()
        return content.value_for(key) if isinstance(content, LoneSecret) else content.entries.get(key.lower())

    def keys(self) -> Iterable[str]:
        """All keys; one secret has none."""
        return self._entries().entries.keys()

    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""
        return self._entries().patterns

    def _content(self) -> Content | LoneSecret:
        if self._snapshot.content is None:
            raise TableUnavailable(self._snapshot.trouble)
        return self._snapshot.content

    def _entries(self) -> Content:
        content = self._content()
        return content if isinstance(content, Content) else _NOTHING


def is_held_elsewhere(table: Table) -> bool:
    """Whether other processes get its content from the supervisor."""
    return isinstance(table, FileTable | SourcedTable)


def snapshot_of(table: Table) -> Snapshot:
    """What a table that is held elsewhere says now."""
    assert isinstance(table, FileTable | SourcedTable)
    try:
        content = table.content()
    except TableUnavailable as error:
        return Snapshot(None, str(error))
    return Snapshot(content, table.trouble)


def portable(value: object, withheld: Collection[str] = ()) -> bytes:
    """``value`` for another process, without the tables of these names."""
    octets = io.BytesIO()
    _Writer(octets, frozenset(withheld)).dump(value)
    return octets.getvalue()


def _lock(_: object) -> tuple[Callable[[], Any], tuple[()]]:
    return threading.Lock, ()


def _proxy(proxy: MappingProxyType[Any, Any]) -> tuple[Callable[..., Any], tuple[dict[Any, Any]]]:
    return MappingProxyType, (dict(proxy),)


class _Writer(pickle.Pickler):
    dispatch_table = {  # noqa: RUF012  (the name and the place are the library's)
        **copyreg.dispatch_table,
        type(threading.Lock()): _lock,
        MappingProxyType: _proxy,
    }

    def __init__(self, octets: io.BytesIO, withheld: frozenset[str]) -> None:
        super().__init__(octets, pickle.HIGHEST_PROTOCOL)
        self._withheld = withheld

    def reducer_override(self, value: object) -> Any:
        """What is written in place of a table."""
        if isinstance(value, _TABLES) and value.name in self._withheld:
            return HeldTable, (value.name, "", Snapshot(None, f"table {value.name} is withheld from this process"))
        if isinstance(value, FileTable | SourcedTable):
            return HeldTable, (value.name, value.written, snapshot_of(value))
        return NotImplemented
