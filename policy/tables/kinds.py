"""The kinds of tables that are declared with a word and a colon, such as ``file:`` and ``exec:``.

Failure: `KindError` for what can mean no table.

smtpd.conf(5), table(5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from policy.errors import PolicyError
from policy.suggestion import did_you_mean
from policy.tables.accounts import PasswdTable
from policy.tables.file import FileTable
from policy.tables.service import Service
from policy.tables.sourced import SourcedTable
from policy.tables.sources import Credential, Program, SourceError, Variable
from policy.tables.table import Shape, Table
from spool.layout import Layout


class KindError(PolicyError):
    """What stands behind ``table NAME`` is no table that we know."""


class StoredTable(Table, Protocol):
    """A table whose content is somewhere else than in the configuration."""

    def load(self) -> None:
        """Read it for the first time. Raises `TableSyntaxError`, or `TableUnavailable`."""

    def serving(self, shape: Shape, service: Service) -> Table:
        """The table to ask for that use. Raises `TableSyntaxError` when it cannot serve it, or `TableUnavailable`."""


def _database(name: str, path: str) -> StoredTable:
    # SQLite costs 10 ms and 1 MB: only those pay who keep a table there.
    from policy.tables.database import DbTable

    return DbTable(name, path)


def _sqlite(name: str, path: str, root: str) -> StoredTable:
    # As in `_database`.
    from policy.tables.sqlite import SqliteTable

    return SqliteTable(name, path, root)


_WITH_PATH: Final[Mapping[str, Callable[[str, str], StoredTable]]] = {
    "file": FileTable,
    "db": _database,
    "passwd": PasswdTable,
}
_WITH_SOURCE: Final[Mapping[str, Callable[[str], Credential | Variable | Program]]] = {
    "cred": Credential,
    "env": Variable,
    "exec": Program,
}
_SQLITE: Final = "sqlite"
KINDS: Final = (*_WITH_PATH, _SQLITE, *_WITH_SOURCE)


def stored_table(name: str, text: str, layout: Layout) -> StoredTable:
    """The table that ``text`` declares: ``/path``, or a kind, a colon and what it needs; not loaded yet."""
    kind, colon, argument = ("file", ":", text) if text.startswith("/") else text.partition(":")
    if kind == _SQLITE and argument.startswith("/"):
        return _sqlite(name, layout.inside(argument), layout.root)
    if colon and kind in _WITH_PATH and argument.startswith("/"):
        return _WITH_PATH[kind](name, layout.inside(argument))
    if colon and kind in _WITH_SOURCE:
        try:
            return SourcedTable(name, _WITH_SOURCE[kind](argument))
        except SourceError as error:
            raise KindError(str(error)) from error
    if kind == _SQLITE or (kind in _WITH_PATH and kind != "file"):
        raise KindError(f'expected an absolute path ({kind}:/path), found "{text}"')
    if kind == "proc":
        raise KindError('not supported yet: "proc:" tables (tables of programs)')
    if kind == "file" or not colon:
        raise KindError(f'expected an absolute path ("/path" or file:/path), found "{text}"')
    raise KindError(f'unknown kind of table "{kind}"{did_you_mean(kind, KINDS)}')
