"""``newaliases`` and ``makemap``: look through the files of tables, tell every line that is wrong, and write databases.

The daemon reads the text of a ``file:`` table itself and notices when it changes, so there is nothing to build for it;
programs that change aliases call ``newaliases`` all the same, and it must end well where all is well. A ``db:`` table is
the database that these commands write; a running daemon notices the new one by itself.

Guarantees: nothing is written unless every line is right.

Failure: 1 with a line for each error on standard error; 64 for arguments that make no sense.

newaliases(8), makemap(8).
"""

from __future__ import annotations

import getopt
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from control.table_build import build
from policy.config import Config, LocalAction
from policy.errors import ConfigError, Place, TableUnavailable
from policy.parser import declared_tables, load_config
from policy.tables.database import DbTable
from policy.tables.file import FileTable
from policy.tables.format import Entry, Fault, TableReader
from policy.tables.table import Shape
from policy.target import TargetSyntaxError, parse_targets
from spool.layout import Layout, nearest_layout

_NEWALIASES_USAGE: Final = "usage: newaliases [-f file] [--root directory] [aliases-file ...]"
_MAKEMAP_USAGE: Final = """\
usage: makemap [-n] [-d hash|btree|dbm] [-o database] [-t aliases|set] file|-
       makemap -U database
       makemap hash|btree|dbm name < file"""
#: What stands behind the name of a file in that of its database.
_SUFFIX: Final = ".db"
#: Kinds of databases that the makemap of OpenSMTPD and sendmail's know. Ours is always the same, so that all serve.
_DATABASES: Final = ("hash", "btree", "dbm")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is for: the shape that it must have, and whether its values are targets of aliases."""

    shape: Shape
    #: What to do when the file has another one.
    hint: str = ""
    are_targets: bool = False


_KINDS: Final = {
    "": Kind(Shape.MAPPING, '; for a list: "-t set"'),
    "aliases": Kind(Shape.MAPPING, are_targets=True),
    "set": Kind(Shape.LIST),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that is right to its last line."""

    name: str
    entries: Sequence[Entry]

    def rows(self) -> list[tuple[str, str]]:
        """Its entries as a database holds them; of a key that stands there twice, the last."""
        return list({entry.key.lower(): entry.value for entry in self.entries}.items())


class _Usage(Exception):
    """The arguments make no sense."""


def newaliases() -> int:
    """The command; its exit status."""
    return _run(_newaliases, _NEWALIASES_USAGE)


def makemap() -> int:
    """The command; its exit status."""
    return _run(_makemap, _MAKEMAP_USAGE)


def _run(command: Callable[[Sequence[str]], int], usage: str) -> int:
    try:
        return command(sys.argv[1:])
    except (_Usage, getopt.GetoptError) as error:
        print(f"{error}\n{usage}".lstrip(), file=sys.stderr)
        return os.EX_USAGE


# -- newaliases -------------------------------------------------------------------------------------------------------


def _newaliases(arguments: Sequence[str]) -> int:
    options, paths = getopt.gnu_getopt(list(arguments), "f:", ["root="])
    given = dict(options)
    layout = nearest_layout(given.get("--root", ""))
    if paths:
        return _status([_checked_aliases(path) for path in paths])
    try:
        return _configured_aliases(given.get("-f", ""), layout)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1


def _configured_aliases(config_file: str, layout: Layout) -> int:
    """The database of aliases, or the files that the configuration takes them from; without it, the file it would find."""
    config_file = config_file or layout.conf_file
    if not os.path.exists(config_file) and config_file == layout.conf_file:
        path = layout.conf_dir + "/aliases"
        return _status([_checked_aliases(path)] if os.path.exists(path) else [])
    database = _database_of_aliases(config_file, layout)
    if database:
        # The configuration cannot be loaded before its database is there.
        return _status([_build_aliases(database)])
    return _status([_checked_aliases(path) for path in _alias_files(load_config(config_file, layout, {}).config)])


def _status(done: Sequence[bool]) -> int:
    if not done:
        print("newaliases: the configuration has no aliases in files: nothing to do")
    return os.EX_OK if all(done) else 1


def _checked_aliases(path: str) -> bool:
    checked = _check(path, _KINDS["aliases"], duplicates_matter=False)
    return checked is not None and _counted(checked, "aliases")


def _build_aliases(database: str) -> bool:
    source = database.removesuffix(_SUFFIX)
    if source == database:
        return _failed(database, f'expected a name that ends with "{_SUFFIX}": the aliases are in the file without it')
    checked = _check(source, _KINDS["aliases"], duplicates_matter=True)
    return checked is not None and _built(checked, database, _KINDS["aliases"]) and _counted(checked, "aliases")


def _database_of_aliases(config_file: str, layout: Layout) -> str:
    kind, _colon, path = declared_tables(config_file, layout).get("aliases", "").partition(":")
    return layout.inside(path) if kind == "db" and path.startswith("/") else ""


def _alias_files(config: Config) -> list[str]:
    tables = (action.alias for action in config.actions.values() if isinstance(action, LocalAction))
    return sorted({table.path for table in tables if isinstance(table, FileTable)})


# -- makemap ----------------------------------------------------------------------------------------------------------


def _makemap(arguments: Sequence[str]) -> int:
    options, paths = getopt.gnu_getopt(list(arguments), "d:no:t:U")
    given = dict(options)
    if not given and len(paths) == len(("type", "name")):
        given, paths = {"-d": paths[0], "-o": paths[1] + _SUFFIX}, ["-"]
    kind = _KINDS.get(given.get("-t", ""))
    if kind is None:
        raise _Usage(f"makemap: -t {given['-t']}: expected aliases or set")
    if given.get("-d", _DATABASES[0]) not in _DATABASES:
        raise _Usage(f"makemap: -d {given['-d']}: expected one of {', '.join(_DATABASES)}")
    if len(paths) != 1 or ("-U" in given and len(given) > 1) or {"-n", "-o"} <= given.keys():
        raise _Usage("")
    path = paths[0]
    if "-U" in given:
        return os.EX_OK if _dump(path) else 1
    if path == "-" and not given.keys() & {"-n", "-o"}:
        raise _Usage("makemap: standard input has no name: expected -o database")
    checked = _check(path, kind, duplicates_matter=True)
    if checked is None:
        return 1
    done = _counted(checked, "entries") if "-n" in given else _built(checked, given.get("-o", path + _SUFFIX), kind)
    return os.EX_OK if done else 1


def _built(checked: Checked, database: str, kind: Kind) -> bool:
    try:
        build(database, kind.shape, checked.rows(), checked.name)
    except OSError as error:
        return _failed(database, error.strerror or str(error))
    except sqlite3.Error as error:
        return _failed(database, str(error))
    return True


def _dump(path: str) -> bool:
    table = DbTable("", os.path.abspath(path))
    try:
        rows = [(key, table.lookup(key)) for key in tuple(table.keys())]
        shape = table.shape
    except TableUnavailable as error:
        return _failed("makemap", str(error).partition(": ")[2])
    for key, value in rows:
        print(value if shape is Shape.LIST else f"{key}\t{value}")
    return True


# -- files ------------------------------------------------------------------------------------------------------------


def _check(path: str, kind: Kind, *, duplicates_matter: bool) -> Checked | None:
    """Look through one file, ``-`` for standard input; None when something is wrong, which has been told."""
    name = "<stdin>" if path == "-" else path
    try:
        with open(path if path != "-" else 0, "rb", closefd=path != "-") as file:
            text = file.read().decode(errors="surrogateescape")
    except OSError as error:
        _failed(path, error.strerror or str(error))
        return None
    reader = TableReader(text)
    found = list(reader)
    entries = [each for each in found if isinstance(each, Entry)]
    errors = list(_errors(found, kind))
    doubles = list(_duplicates(entries))
    if entries and not reader.shape.serves(kind.shape):
        errors = [Fault(entries[0].line, f"this is {reader.shape.value}, expected {kind.shape.value}{kind.hint}")]
    if duplicates_matter:
        errors = sorted([*errors, *doubles], key=lambda fault: fault.line)
    else:
        _tell(name, doubles, "warning: ")
    _tell(name, errors)
    return None if errors else Checked(name, entries)


def _counted(checked: Checked, noun: str) -> bool:
    print(f"{checked.name}: {len(checked.rows())} {noun}")
    return True


def _failed(name: str, reason: str) -> bool:
    print(f"{name}: {reason}", file=sys.stderr)
    return False


def _tell(path: str, faults: Sequence[Fault], word: str = "") -> None:
    for fault in faults:
        print(f"{Place(path, fault.line)}: {word}{fault.message}", file=sys.stderr)


def _errors(found: Sequence[Entry | Fault], kind: Kind) -> Iterator[Fault]:
    for each in found:
        if isinstance(each, Fault):
            yield Fault(each.line, f"invalid entry: {each.message}")
        elif kind.are_targets:
            try:
                parse_targets(each.value)
            except TargetSyntaxError as error:
                yield Fault(each.line, f"alias {each.key}: {error}")


def _duplicates(entries: Sequence[Entry]) -> Iterator[Fault]:
    seen: set[str] = set()
    for entry in entries:
        key = entry.key.lower()
        if key in seen:
            yield Fault(entry.line, f"duplicate entry for {key}")
        seen.add(key)
