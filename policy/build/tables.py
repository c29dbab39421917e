"""Tables of a configuration: declared, implicit (``<name>`` for the file beside the configuration), and written in place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from policy.errors import Finding, Place, TableUnavailable
from policy.grammar.syntax import LiteralTable, NamedTable, Script, TableStatement, TableUse, Word
from policy.suggestion import did_you_mean
from policy.tables.file import FileTable
from policy.tables.format import TableSyntaxError
from policy.tables.inline import InlineTable
from policy.tables.service import ANY, Service
from policy.tables.table import Shape, Table
from spool.layout import Layout

#: What a file beside the configuration may be called to be found by ``<name>``.
_IMPLICIT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
#: Kinds of tables that the language has and we have not.
_LATER: Final = {"db": "tables in databases", "sqlite": "tables in SQLite", "proc": "tables of programs"}


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
        return table if self._fits(use, table, wanted, service) else None

    def complain(self, place: Place, message: str) -> None:
        """Note an error."""
        self.findings.append(Finding.at(place, message))

    def _fits(self, use: TableUse, table: Table, wanted: Shape, service: Service) -> bool:
        if isinstance(table, FileTable):
            return self._opens(table, use.place, lambda: table.want(wanted, service.fault))
        if not isinstance(use, LiteralTable):
            faults = ((use.place, service.fault(key, table.lookup(key) or "")) for key in tuple(table.keys()))
        else:
            values = use.values or use.keys
            pairs = zip(use.keys, values, strict=True)
            faults = ((key.place, service.fault(key.text, value.text)) for key, value in pairs)
        found = [(place, fault) for place, fault in faults if fault]
        for place, fault in found:
            self.complain(place, fault)
        return not found

    def _declared(self, statement: TableStatement) -> None:
        name = statement.name.text
        if isinstance(statement.content, LiteralTable):
            self.tables[name] = inline(name, statement.content)
            return
        path = self._path_of(statement.content)
        if path is not None:
            self._open(name, path, statement.content.place)
        if name not in self.tables:
            self.broken.add(name)

    def _path_of(self, content: Word) -> str | None:
        kind, colon, path = content.text.partition(":")
        if content.text.startswith("/"):
            return content.text
        if colon and kind == "file" and path.startswith("/"):
            return path
        if kind in _LATER:
            self.complain(content.place, f'not supported yet: "{kind}:" tables ({_LATER[kind]})')
        elif kind == "file" or not colon:
            self.complain(content.place, f'expected an absolute path ("/path" or file:/path), found "{content.text}"')
        else:
            self.complain(content.place, f'unknown kind of table "{kind}"{did_you_mean(kind, ["file"])}')
        return None

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
        self._open(use.name, path, use.place, is_beside=True)
        self.notes.append(f'{use.place}: table "{use.name}" is not declared: the file {path} is used')

    def _meant(self, name: str, folder: str) -> str:
        names = self.script.names("table")
        near = did_you_mean(name, [*names, *_files_in(folder)])
        return near if near.endswith("?") else did_you_mean(name, names, "declared are")

    def _open(self, name: str, path: str, place: Place, *, is_beside: bool = False) -> None:
        table = FileTable(name, path if is_beside else self.layout.inside(path))
        if self._opens(table, place, table.load):
            self.tables[name] = table

    def _opens(self, table: FileTable, place: Place, load: Callable[[], None]) -> bool:
        try:
            load()
        except TableUnavailable as error:
            self.complain(place, str(error))
        except TableSyntaxError as error:
            self.findings.extend(
                Finding(table.path, fault.line, 1, f'table "{table.name}": {fault.message}') for fault in error.faults
            )
        else:
            return True
        return False

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


def _called(use: TableUse) -> str:
    return f'table "{use.name}"' if isinstance(use, NamedTable) else "this"


def _how(wanted: Shape) -> str:
    return " ({ key = value } or lines KEY VALUE)" if wanted is Shape.MAPPING else " ({ a, b } or one entry a line)"
