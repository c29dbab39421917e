"""The configuration file, from its octets to a `Config`.

Guarantees: whatever the file holds, `load_config` returns or raises `ConfigError`, and that has every error of the file in
it. Nothing is changed on the machine.

Failure: `ConfigError`.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from policy.build.assembly import assemble
from policy.build.encryption import build_encryption
from policy.build.tables import TableShelf
from policy.build.workbench import Workbench
from policy.check import check
from policy.config import Config, Pki
from policy.errors import ConfigError, Finding, Place, TableUnavailable
from policy.grammar.statements import read_script
from policy.grammar.syntax import Script, Word
from policy.host import Host, KernelHost
from policy.lexer import Macros, Source
from policy.queue_key import Encryption
from policy.server_name import server_name
from spool.layout import Layout

#: A configuration larger than this is another file, given by mistake.
MAX_CONFIG_OCTETS: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, what is doubtful in it, and how it was understood."""

    config: Config
    warnings: tuple[Finding, ...]
    notes: tuple[str, ...]


def load_config(path: str, layout: Layout, macros: Mapping[str, str], host: Host | None = None) -> Loaded:
    """Read, understand and check the configuration at ``path``; ``macros`` are those of the command line."""
    try:
        source = read_source(path)
    except OSError as error:
        raise ConfigError((Finding.at(Place(path), str(error.strerror)),)) from error
    return load_source(source, layout, macros, host)


def load_source(source: Source, layout: Layout, macros: Mapping[str, str], host: Host | None = None) -> Loaded:
    """Understand and check ``source``, wherever its text comes from."""
    with _without_collections():
        return _load(source, layout, macros, host or KernelHost())


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    # Hundreds of thousands of objects are made and nearly all of them kept: the collector would walk them again and again,
    # in a quarter of the whole time, and find nothing.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(source: Source, layout: Layout, macros: Mapping[str, str], host: Host) -> Loaded:
    path = source.path
    findings: list[Finding] = []
    notes: list[str] = []
    script = _script(source, layout, macros, findings)
    shelf = TableShelf(script, path, layout, findings, notes)
    bench = Workbench(script, layout, host, findings, shelf, {})
    name = server_name(layout, host)
    try:
        assembled = assemble(bench, name)
        _refuse(findings, path)
        # What is doubtful is looked for only where nothing is wrong: rules name actions that are there then.
        check(bench, assembled, name)
    except TableUnavailable as error:
        # A table that was read a moment ago is gone already.
        findings.append(Finding.at(Place(path), str(error)))
        _refuse(findings, path)
    notes.insert(0, f"server name: {name.name} ({name.origin})")
    return Loaded(assembled.config, _in_order(findings, path), tuple(notes))


def _refuse(findings: Iterable[Finding], path: str) -> None:
    errors = [finding for finding in findings if not finding.is_warning]
    if errors:
        raise ConfigError(_in_order(errors, path))


def declared_tables(path: str, layout: Layout) -> Mapping[str, str]:
    """What stands behind each ``table NAME`` that names its content; no table is opened, and no error is told.

    Raises `ConfigError` when the file cannot be read.
    """
    try:
        script = _script(read_source(path), layout, {}, [])
    except OSError as error:
        raise ConfigError((Finding.at(Place(path), str(error.strerror)),)) from error
    contents = ((name, statement.content) for name, statement in script.tables.items())
    return {name: content.text for name, content in contents if isinstance(content, Word)}


def declared_pkis(path: str, layout: Layout) -> Iterator[Pki]:
    """Every ``pki`` that names its two files, whether they are there or not; no error is told.

    Raises `ConfigError` when the file cannot be read.
    """
    try:
        script = _script(read_source(path), layout, {}, [])
    except OSError as error:
        raise ConfigError((Finding.at(Place(path), str(error.strerror)),)) from error
    for name, statement in script.pkis.items():
        if statement.cert is not None and statement.key is not None:
            yield Pki(name.lower(), layout.inside(statement.cert.text), layout.inside(statement.key.text))


def declared_encryption(path: str, layout: Layout) -> Encryption | None:
    """The keys of the queue, as far as they can be read, whatever else is wrong.

    Raises `ConfigError` when the file cannot be read.
    """
    findings: list[Finding] = []
    try:
        script = _script(read_source(path), layout, {}, findings)
    except OSError as error:
        raise ConfigError((Finding.at(Place(path), str(error.strerror)),)) from error
    shelf = TableShelf(script, path, layout, findings, [])
    return build_encryption(Workbench(script, layout, KernelHost(), findings, shelf, {}))


def read_source(path: str) -> Source:
    """The text of a configuration file; `OSError` when it cannot be read. Octets that are not UTF-8 stay what they are."""
    with open(path, "rb") as file:
        data = file.read(MAX_CONFIG_OCTETS + 1)
    if len(data) > MAX_CONFIG_OCTETS:
        raise OSError(0, f"larger than {MAX_CONFIG_OCTETS} octets", path)
    return Source(path, data.decode(errors="surrogateescape").removeprefix("\ufeff"))


def _script(source: Source, layout: Layout, macros: Mapping[str, str], findings: list[Finding]) -> Script:
    def opener(included: str, including: Source) -> Source:
        if included.startswith("/"):
            return read_source(layout.inside(included))
        return read_source(os.path.join(os.path.dirname(including.path), included))

    return read_script(source, Macros(macros), opener, findings)


def _in_order(findings: Iterable[Finding], path: str) -> tuple[Finding, ...]:
    """The main file's first, by line; each once."""
    once = dict.fromkeys(findings)
    return tuple(sorted(once, key=lambda finding: (finding.path != path, finding.path, finding.line, finding.column)))
