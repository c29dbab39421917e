"""``queue encryption``: the keys are there, and safe from others."""

from __future__ import annotations

from policy.build.workbench import Workbench
from policy.errors import Place
from policy.grammar.syntax import EncryptionStatement, Word
from policy.queue_key import Asks, Encryption, KeySource, KeyUnusable, is_place, is_stdin, read_source


def build_encryption(bench: Workbench) -> Encryption | None:
    """What the line says; None when there is none. A finding that could show a key shows no line."""
    statement = bench.script.encryption
    if statement is None:
        return None
    old = tuple(source for word in statement.old if (source := _source(bench, statement, word)) is not None)
    if statement.key is None:
        return Encryption(None, None if statement.old else Asks.TERMINAL, old)
    if is_stdin(statement.key.text):
        return Encryption(None, Asks.STDIN, old)
    source = _source(bench, statement, statement.key)
    if source and not source.written:
        bench.warn(
            _shown(statement, statement.key),
            "the key of the queue stands in the configuration itself: it is safer in a file of its own",
        )
    encryption = Encryption(source, None, old)
    _note_keys(bench, encryption)
    return encryption


def _note_keys(bench: Workbench, encryption: Encryption) -> None:
    """Which file has which key, by the names that listings use."""
    sources = (*((encryption.source,) if encryption.source else ()), *encryption.old)
    sealing = encryption.source.keys[0] if encryption.source else None
    for source in sources:
        for key in source.keys:
            does = "seals new mail" if key is sealing else "opens older mail"
            bench.shelf.notes.append(f"key {key.fingerprint} of the queue ({source.written or 'written here'}) {does}")


def _source(bench: Workbench, statement: EncryptionStatement, word: Word) -> KeySource | None:
    try:
        return read_source(word.text, bench.layout)
    except KeyUnusable as error:
        bench.complain(_shown(statement, word), str(error))
    return None


def _shown(statement: EncryptionStatement, word: Word) -> Place:
    """Where ``word`` stands, without its line when a key might stand there."""
    words = (*statement.old, *((statement.key,) if statement.key else ()))
    return word.place if all(is_place(each.text) for each in words) else word.place._replace(source="")
