"""``newaliases`` and ``makemap``: look through the files of tables and tell every line that is wrong.

The daemon reads these files itself and notices when they change, so there is nothing to build; programs that change aliases
call ``newaliases`` all the same, and it must end well where all is well.

Guarantees: nothing is changed.

Failure: 1 with a line for each error on standard error; 64 for arguments that make no sense; 69 for what makemap cannot do
yet.

newaliases(8), makemap(8).
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from policy.config import Config, LocalAction
from policy.errors import ConfigError, Place
from policy.parser import load_config
from policy.tables.file import FileTable
from policy.tables.format import Entry, Fault, TableReader
from policy.tables.table import Shape
from policy.target import TargetSyntaxError, parse_targets
from spool.layout import Layout, nearest_layout

_NEWALIASES_USAGE: Final = "usage: newaliases [-f file] [--root directory] [aliases-file ...]"
_MAKEMAP_USAGE: Final = "usage: makemap -n [-t aliases|set] file|-"
_NOT_YET: Final = (
    "makemap: databases are not supported yet: smtpd reads the file itself, with a line like\n"
    "    table NAME file:/path/to/file\n"
    "and `makemap -n file` checks it"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is for: the shape that it must have, and whether its values are targets of aliases."""

    shape: Shape
    are_targets: bool = False


_KINDS: Final = {"": Kind(Shape.MAPPING), "aliases": Kind(Shape.MAPPING, are_targets=True), "set": Kind(Shape.LIST)}


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
    try:
        paths = paths or _paths_of_aliases(given.get("-f", ""), layout)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    if not paths:
        print("newaliases: the configuration has no aliases in files: nothing to do")
    checks = [_check(path, _KINDS["aliases"], "aliases", duplicates_matter=False) for path in paths]
    return os.EX_OK if all(checks) else 1


def _paths_of_aliases(config_file: str, layout: Layout) -> list[str]:
    """The files that the configuration takes aliases from; without a configuration, the one it would find."""
    if config_file or os.path.exists(layout.conf_file):
        return _alias_files(load_config(config_file or layout.conf_file, layout, {}).config)
    path = layout.conf_dir + "/aliases"
    return [path] if os.path.exists(path) else []


def _alias_files(config: Config) -> list[str]:
    tables = (action.alias for action in config.actions.values() if isinstance(action, LocalAction))
    return sorted({table.path for table in tables if isinstance(table, FileTable)})


# -- makemap ----------------------------------------------------------------------------------------------------------


def _makemap(arguments: Sequence[str]) -> int:
    options, paths = getopt.gnu_getopt(list(arguments), "d:no:t:U")
    given = dict(options)
    if "-n" not in given or given.keys() & {"-d", "-o", "-U"}:
        print(_NOT_YET, file=sys.stderr)
        return os.EX_UNAVAILABLE
    kind = _KINDS.get(given.get("-t", ""))
    if kind is None:
        raise _Usage(f"makemap: -t {given['-t']}: expected aliases or set")
    if len(paths) != 1:
        raise _Usage("")
    return os.EX_OK if _check(paths[0], kind, "entries", duplicates_matter=True) else 1


# -- files ------------------------------------------------------------------------------------------------------------


def _check(path: str, kind: Kind, noun: str, *, duplicates_matter: bool) -> bool:
    """Look through one file, ``-`` for standard input: how many entries, or every error; whether there is none."""
    try:
        with open(path if path != "-" else 0, "rb") as file:
            text = file.read().decode(errors="surrogateescape")
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        return False
    name = "<stdin>" if path == "-" else path
    reader = TableReader(text)
    found = list(reader)
    entries = [each for each in found if isinstance(each, Entry)]
    errors = list(_errors(found, kind))
    doubles = list(_duplicates(entries))
    if entries and not reader.shape.serves(kind.shape):
        errors = [Fault(entries[0].line, f"this is {reader.shape.value}, expected {kind.shape.value}")]
    if duplicates_matter:
        errors = sorted([*errors, *doubles], key=lambda fault: fault.line)
    else:
        _tell(name, doubles, "warning: ")
    _tell(name, errors)
    if not errors:
        print(f"{name}: {len({entry.key.lower() for entry in entries})} {noun}")
    return not errors


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
