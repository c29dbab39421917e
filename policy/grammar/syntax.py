"""What one configuration says, statement by statement, before names are looked up: the parser's result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from policy.errors import Place
from policy.lexer import Token
from policy.limits import Limits

Placed: TypeAlias = Place | Token


def _place_of(at: Placed) -> Place:
    return at.place if isinstance(at, Token) else at


class Word(NamedTuple):
    """A string, and where it stands.

    These are tuples, and their places are found when somebody asks, because a long configuration has so many of them.
    """

    text: str
    at: Placed

    @property
    def place(self) -> Place:
        """Where it stands."""
        return _place_of(self.at)


class Number(NamedTuple):
    """A number (milliseconds for a delay, octets for a size), and where it stands."""

    value: int
    place: Place


@dataclass(frozen=True, slots=True)
class Delays:
    """``{ 1m, 5m }``: delays in their order, at least one."""

    delays: tuple[Number, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class NamedTable:
    """``<name>``."""

    name: str
    at: Placed

    @property
    def place(self) -> Place:
        """Where it stands."""
        return _place_of(self.at)


@dataclass(frozen=True, slots=True)
class LiteralTable:
    """``{ a, b }`` or ``{ a = b }``; a lone string is a list of one. A list has no values."""

    keys: tuple[Word, ...]
    values: tuple[Word, ...]
    at: Placed

    @property
    def place(self) -> Place:
        """Where it stands."""
        return _place_of(self.at)


TableUse: TypeAlias = NamedTable | LiteralTable
Argument: TypeAlias = Word | Number | Delays | TableUse | None


class Given(NamedTuple):
    """An option, a delivery method or a condition as it was written."""

    word: str
    at: Placed
    argument: Argument = None
    #: Whether its modifier stood behind it: ``tls no-verify``, ``lmtp "host" rcpt-to``.
    modified: bool = False
    #: Whether ``!`` stood before it.
    negated: bool = False
    #: Whether ``regex`` stood before its table.
    is_regex: bool = False

    @property
    def place(self) -> Place:
        """Where it stands."""
        return _place_of(self.at)

    def string(self) -> Word:
        """Its argument, which the grammar made a string."""
        assert isinstance(self.argument, Word)
        return self.argument

    def number(self) -> Number:
        """Its argument, which the grammar made a number."""
        assert isinstance(self.argument, Number)
        return self.argument

    def table(self) -> TableUse:
        """Its argument, which the grammar made a table."""
        assert isinstance(self.argument, NamedTable | LiteralTable)
        return self.argument


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one directive, in the order they are written."""

    given: tuple[Given, ...] = ()

    def find(self, *words: str) -> Given | None:
        """The first option that is one of ``words``, or None."""
        return next((given for given in self.given if given.word in words), None)

    def all(self, word: str) -> Iterator[Given]:
        """Every ``word`` option."""
        return (given for given in self.given if given.word == word)

    def has(self, word: str) -> bool:
        """Whether ``word`` is among them."""
        return self.find(word) is not None

    def text(self, word: str) -> str:
        """The string of option ``word``; empty when it is not given."""
        given = self.find(word)
        return given.string().text if given else ""


@dataclass(frozen=True, slots=True)
class ListenStatement:
    """``listen on ...``. ``on`` is empty for the socket."""

    place: Place
    on: str
    options: Options


@dataclass(frozen=True, slots=True)
class TableStatement:
    """``table NAME ...``: a ``backend`` string, or elements."""

    name: Word
    content: Word | LiteralTable


@dataclass(frozen=True, slots=True)
class ActionStatement:
    """``action NAME METHOD ...``."""

    name: Word
    method: Given
    options: Options


@dataclass(frozen=True, slots=True)
class RuleStatement:
    """``match ...``. ``action`` None means ``reject``; a missing ``source`` or ``destination`` means ``local``."""

    place: Place
    source: Given | None
    destination: Given | None
    conditions: tuple[Given, ...]
    action: Word | None


@dataclass(frozen=True, slots=True)
class FilterStatement:
    """``filter NAME phase PHASE match QUESTION DEED``."""

    name: Word
    phase: Word
    question: Given
    deed: Given


@dataclass(frozen=True, slots=True)
class ChainStatement:
    """``filter NAME chain { ... }``."""

    name: Word
    names: LiteralTable


@dataclass(slots=True)
class PkiStatement:
    """All ``pki NAME`` lines together."""

    name: Word
    cert: Word | None = None
    key: Word | None = None
    dhe: Word | None = None
    #: One of its lines could not be read, so that what is missing may have stood there.
    is_misread: bool = False


@dataclass(frozen=True, slots=True)
class EncryptionStatement:
    """``queue encryption ...``. ``key`` None means that it is asked for, or that only ``old`` keys are left."""

    key: Word | None
    old: tuple[Word, ...]


@dataclass(slots=True)
class Script:
    """Everything that was said. Grows while it is read; what is None was not said."""

    #: What was begun, as kind and name, whether or not it could be read to its end: to name it elsewhere is no mistake.
    begun: set[tuple[str, str]] = field(default_factory=set)
    #: Something could not be read, so that what is missing may have stood there.
    is_misread: bool = False
    listens: list[ListenStatement] = field(default_factory=list)
    tables: dict[str, TableStatement] = field(default_factory=dict)
    actions: dict[str, ActionStatement] = field(default_factory=dict)
    rules: list[RuleStatement] = field(default_factory=list)
    filters: dict[str, FilterStatement | ChainStatement] = field(default_factory=dict)
    pkis: dict[str, PkiStatement] = field(default_factory=dict)
    cas: dict[str, Word] = field(default_factory=dict)
    warn_intervals: Sequence[int] | None = None
    queue_ttl: int | None = None
    #: A word of `policy.grammar.vocabulary.COMPRESSIONS`.
    compression: str = ""
    encryption: EncryptionStatement | None = None
    max_message_size: int | None = None
    max_mails: int | None = None
    max_recipients: int | None = None
    smtp_processes: int = 1
    mta_processes: int = 1
    sub_addr_delim: str | None = None
    ciphers: Word | None = None
    limits: Limits = field(default_factory=Limits)
    #: Commands by the names of their ``mda wrapper`` lines.
    wrappers: dict[str, Word] = field(default_factory=dict)

    def names(self, kind: str) -> list[str]:
        """The names of all actions, tables, filters, pkis, cas or wrappers that were begun."""
        return sorted(name for begun, name in self.begun if begun == kind)
