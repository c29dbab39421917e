"""Keys of the queue: where the configuration says they are, and how they are read.

A source holds one key a line, as 32 characters or as 64 hexadecimal digits; or nothing but the 32 octets of one key.

Guarantees: no message holds a key, or what might be one. A file that others can read or exchange is not used.

Failure: `KeyUnusable`, with a sentence.

smtpd.conf(5) of OpenSMTPD: ``queue encryption``.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Final

from policy.errors import PolicyError, TableUnavailable
from policy.grammar.vocabulary import KEY_PLACES
from policy.private_file import doubts
from policy.tables.sources import Credential, SourceError
from spool.layout import Layout
from spool.seal import KEY_SIZE, SealKey

#: Nobody but owner and group may read a key, and nobody but the owner write it.
KEY_MODE: Final = 0o640
#: Octets of a file of keys: a hundred of them.
MAX_OCTETS: Final = 8192
#: Hexadecimal digits of a key.
_DIGITS: Final = 2 * KEY_SIZE
_CREDENTIAL: Final = "cred:"


class KeyUnusable(PolicyError):
    """A key of the queue is missing, or cannot be one."""


class Asks(enum.Enum):
    """Who is asked for the key when the daemon starts."""

    #: Whoever sits at the terminal.
    TERMINAL = "terminal"
    #: Standard input, for one line.
    STDIN = "stdin"


@dataclass(frozen=True, slots=True)
class KeySource:
    """Keys out of one place."""

    keys: tuple[SealKey, ...]
    #: As the configuration writes it; empty when the key itself stands there.
    written: str


@dataclass(frozen=True, slots=True)
class Encryption:
    """``queue encryption``: what new bodies are sealed with, and what opens older ones."""

    #: The first key of it seals, the others open; None when nothing is sealed, or the key is asked for.
    source: KeySource | None
    asks: Asks | None = None
    old: tuple[KeySource, ...] = ()


def read_source(text: str, layout: Layout) -> KeySource:
    """The keys that ``text`` stands for."""
    if text.startswith("/"):
        return KeySource(_file_keys(text, layout.inside(text)), text)
    if text.startswith(_CREDENTIAL):
        return KeySource(_credential_keys(text), text)
    octets = os.fsencode(text)
    if len(octets) == KEY_SIZE:
        return KeySource((SealKey(octets),), "")
    raise KeyUnusable(
        f'expected the absolute path of a file, "cred:NAME", "stdin" or the {KEY_SIZE} characters of the key; '
        f"found {len(octets)} characters, which are not shown"
    )


def is_place(text: str) -> bool:
    """Whether ``text`` says where a key is; otherwise it may be one."""
    is_path = text.startswith("/") and len(os.fsencode(text)) != KEY_SIZE
    return is_path or text.startswith(_CREDENTIAL) or is_stdin(text)


def is_stdin(text: str) -> bool:
    """Whether ``text`` stands for standard input."""
    return text.lower() in KEY_PLACES


def keys_in(data: bytes) -> tuple[SealKey, ...]:
    """The keys of a file's content, the first one first."""
    if len(data) == KEY_SIZE:
        return (SealKey(data),)
    lines = [(number, line.removesuffix(b"\r")) for number, line in enumerate(data.split(b"\n"), 1)]
    keys = tuple(_line_key(number, line) for number, line in lines if line)
    if not keys:
        raise KeyUnusable("no key is in it")
    return keys


def _line_key(number: int, line: bytes) -> SealKey:
    if len(line) == KEY_SIZE:
        return SealKey(line)
    if len(line) == _DIGITS:
        try:
            return SealKey(bytes.fromhex(line.decode("ascii")))
        except ValueError:
            raise KeyUnusable(f"line {number} has {_DIGITS} characters, but not all are hexadecimal digits") from None
    raise KeyUnusable(
        f"line {number} has {len(line)} characters: a key is {KEY_SIZE} characters or {_DIGITS} hexadecimal digits"
    )


def _file_keys(written: str, path: str) -> tuple[SealKey, ...]:
    # What looks like a path may be a key that begins with a slash.
    shown = "this file" if len(os.fsencode(written)) == KEY_SIZE else path
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if doubt := next(doubts(shown, os.fstat(file.fileno()), KEY_MODE), ""):
                raise KeyUnusable(doubt)
            data = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise KeyUnusable(f"{shown}: {error.strerror}") from None
    return _named(shown, data)


def _credential_keys(written: str) -> tuple[SealKey, ...]:
    try:
        data = Credential(written.removeprefix(_CREDENTIAL)).read()
    except (SourceError, TableUnavailable) as error:
        raise KeyUnusable(str(error)) from None
    return _named(written, data)


def _named(shown: str, data: bytes) -> tuple[SealKey, ...]:
    if len(data) > MAX_OCTETS:
        raise KeyUnusable(f"{shown}: longer than {MAX_OCTETS} octets")
    try:
        return keys_in(data)
    except KeyUnusable as error:
        raise KeyUnusable(f"{shown}: {error}") from None
