"""Tables of a configuration: declared, implicit (``<name>`` for the file beside the configuration), and written in place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from policy.errors import Finding, Place, TableUnavailable
from policy.grammar.syntax import LiteralTable, NamedTable, Script, TableStatement, TableUse, Word
from policy.suggestion import did_you_mean
from policy.tables.file import FileTable
from policy.tables.format import TableSyntaxError, any_entry
from policy.tables.inline import InlineTable
from policy.tables.kinds import KindError, StoredTable, stored_table
from policy.tables.service import ANY, Service
from policy.tables.sourced import SourcedTable
from policy.tables.table import Shape, Table
from spool.layout import Layout

#: What a file beside the configuration may be called to be found by ``<name>``.
_IMPLICIT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")

_T = TypeVar("_T")


@dataclass(slots=True)
class TableShelf:
    """The tables of one configuration; opened at the first use, each once."""

    script: Script
    path: str
    layout: Layout
    findings: list[Finding]
    notes: list[str]
    tables: dict[str, Table] = field(default_factory=dict)
    #: Tables that could not be opened: that was said once, and is not said at each use.
    broken: set[str] = field(default_factory=set)
    #: Those of them whose content is somewhere else.
    stored: dict[str, StoredTable] = field(default_factory=dict)
    literals: int = 0

    def open_declared(self) -> None:
        """Open every declared table, whether it is used or not."""
        for statement in self.script.tables.values():
            self._declared(statement)

    def use(self, use: TableUse, wanted: Shape, where: str, service: Service = ANY) -> Table | None:
        """The table for ``use``, which must be ``wanted`` and fit for ``service``; None, and said, when it is not."""
        table = self._named(use) if isinstance(use, NamedTable) else self._literal(use)
        if table is None:
            return None
        if not table.shape.serves(wanted):
            self.complain(
                use.place, f"{_called(use)} is {table.shape.value}, but {where} needs {wanted.value}{_how(wanted)}"
            )
            return None
        if isinstance(use, LiteralTable):
            return table if self._is_right(use, service) else None
        return self._serving(table, use.place, wanted, service)

    def complain(self, place: Place, message: str) -> None:
        """Note an error."""
        self.findings.append(Finding.at(place, message))

    def _is_right(self, use: LiteralTable, service: Service) -> bool:
        faults = list(_faults(use, service))
        for place, fault in faults:
            self.complain(place, fault)
        return not faults

    def _serving(self, table: Table, place: Place, wanted: Shape, service: Service) -> Table | None:
        if isinstance(table, InlineTable):
            statement = self.script.tables[table.name]
            assert isinstance(statement.content, LiteralTable)
            faults = [fault for _place, fault in _faults(statement.content, service)]
            for fault in faults:
                self.complain(place, f'table "{table.name}": {fault}')
            return None if faults else table
        stored = self.stored[table.name]
        return self._try(stored, place, lambda: stored.serving(wanted, service))

    def _declared(self, statement: TableStatement) -> None:
        name = statement.name.text
        if isinstance(statement.content, LiteralTable):
            self.tables[name] = inline(name, statement.content)
            return
        word = statement.content
        try:
            self._open(stored_table(name, word.text, self.layout), word.place)
        except KindError as error:
            self.complain(word.place, str(error))
        if name not in self.tables:
            self.broken.add(name)

    def _named(self, use: NamedTable) -> Table | None:
        if use.name not in self.tables and ("table", use.name) not in self.script.begun and use.name not in self.broken:
            self._implicit(use)
            if use.name not in self.tables:
                self.broken.add(use.name)
        return self.tables.get(use.name)

    def _implicit(self, use: NamedTable) -> None:
        folder = os.path.dirname(self.path)
        declared = self._meant(use.name, folder)
        if not _IMPLICIT_NAME.fullmatch(use.name):
            self.complain(use.place, f'no table "{use.name}" is declared{declared}')
            return
        path = os.path.join(folder, use.name)
        if not os.path.lexists(path):
            tried = f'no table "{use.name}" is declared, and there is no file {path} beside the configuration'
            self.complain(use.place, tried + declared)
            return
        self._open(FileTable(use.name, path), use.place)
        self.notes.append(f'{use.place}: table "{use.name}" is not declared: the file {path} is used')

    def _meant(self, name: str, folder: str) -> str:
        names = self.script.names("table")
        near = did_you_mean(name, [*names, *_files_in(folder)])
        return near if near.endswith("?") else did_you_mean(name, names, "declared are")

    def _open(self, table: StoredTable, place: Place) -> None:
        def load() -> StoredTable:
            try:
                table.load()
            except TableUnavailable as error:
                if not isinstance(table, SourcedTable):
                    raise
                # A program may need the network, which comes later; a credential is there for the service alone.
                message = f"{error}; until it can be read, whoever needs it is put off"
                self.findings.append(Finding.at(place, message, is_warning=True))
            return table

        if self._try(table, place, load):
            self.tables[table.name] = self.stored[table.name] = table

    def _try(self, table: StoredTable, place: Place, act: Callable[[], _T]) -> _T | None:
        """What ``act`` gives; None when the table cannot do that, which is said at its line, or else at ``place``."""
        try:
            return act()
        except TableUnavailable as error:
            self.complain(place, str(error))
        except TableSyntaxError as error:
            for fault in error.faults:
                message = f'table "{table.name}": {fault.message}'
                path = getattr(table, "path", "")
                self.findings.append(Finding(path, fault.line, 1, message) if path else Finding.at(place, message))
        return None

    def _literal(self, use: LiteralTable) -> Table:
        self.literals += 1
        return inline(f"<{use.place}>", use)


def _files_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return []


def entries_of(use: TableUse, table: Table) -> list[Word]:
    """The keys of ``table``; what is written in place keeps its own place, the rest stands where the table is named."""
    return list(use.keys) if isinstance(use, LiteralTable) else [Word(key, use.place) for key in tuple(table.keys())]


def inline(name: str, literal: LiteralTable) -> InlineTable:
    """A table out of its elements."""
    keys = [word.text for word in literal.keys]
    if not literal.values:
        return InlineTable.of_list(name, keys)
    return InlineTable.of_mapping(name, dict(zip(keys, (word.text for word in literal.values), strict=True)))


def _faults(literal: LiteralTable, service: Service) -> Iterator[tuple[Place, str]]:
    if service.fault is any_entry:
        return
    for key, value in zip(literal.keys, literal.values or literal.keys, strict=True):
        fault = service.fault(key.text, value.text)
        if fault:
            yield key.place, fault


def _called(use: TableUse) -> str:
    return f'table "{use.name}"' if isinstance(use, NamedTable) else "this"


def _how(wanted: Shape) -> str:
    if wanted is Shape.MAPPING:
        return " ({ key = value } or lines KEY VALUE)"
    return ' ({ a, b } or one entry a line; "# @list" before them, if they have blanks or colons)'
