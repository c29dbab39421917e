"""Which files of a configuration hold passwords, or hashes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policy.build.workbench import Workbench
from policy.config import AnyAction, Relay
from policy.errors import Place
from policy.grammar.syntax import Given, NamedTable
from policy.secret_file import SecretFile
from policy.tables.file import FileTable
from policy.tables.inline import InlineTable
from policy.tables.table import Table


def build_secret_files(bench: Workbench, actions: Mapping[str, AnyAction]) -> dict[SecretFile, Place]:
    """Each of them once, with the place that makes it one."""
    found: dict[SecretFile, Place] = {}
    for place, table, what in (*_of_relays(bench, actions), *_of_listeners(bench)):
        statement = bench.script.tables.get(table.name)
        path = _path(table, statement.name.place.path if statement else bench.shelf.path)
        if path:
            found.setdefault(SecretFile(path, what), place)
    return found


def _of_relays(bench: Workbench, actions: Mapping[str, AnyAction]) -> Iterator[tuple[Place, Table, str]]:
    for name, action in actions.items():
        given = bench.script.actions[name].options.find("auth")
        if isinstance(action, Relay) and action.auth is not None and given is not None:
            yield given.place, action.auth, "passwords"


def _of_listeners(bench: Workbench) -> Iterator[tuple[Place, Table, str]]:
    for statement in bench.script.listens:
        given = statement.options.find("auth", "auth-optional")
        table = bench.shelf.tables.get(_named(given))
        if given and table:
            yield given.place, table, "hashes of passwords"


def _named(given: Given | None) -> str:
    return given.argument.name if given and isinstance(given.argument, NamedTable) else ""


def _path(table: Table, configuration: str) -> str:
    """The file in which the content of ``table`` stands, which ``configuration`` declares; empty when it is in none."""
    if isinstance(table, InlineTable):
        return configuration
    if isinstance(table, FileTable):
        return table.path
    # SQLite costs 10 ms and 1 MB: only those pay who may have a table there.
    from policy.tables.database import DbTable
    from policy.tables.sqlite import SqliteTable

    if isinstance(table, SqliteTable):
        return table.dbpath
    return table.path if isinstance(table, DbTable) else ""
