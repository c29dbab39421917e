"""Tables: the lists and mappings that rules, aliases and credentials are kept in.

A lookup answers found, not found (None), or raises `policy.errors.TableUnavailable`, which is always temporary. It never
waits for more than a file of ordinary size: a table whose content takes longer says that it `is stale <Table.is_stale>`,
and whoever is about to ask it lets `policy.tables.freshness.freshen` read it in a thread first.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

from policy.tables.patterns import Patterns


class Shape(enum.Enum):
    """What the entries of a table are."""

    #: Keys only.
    LIST = "a list"
    #: Keys with values.
    MAPPING = "a mapping"
    #: There is no entry yet, or it depends on the question: it may be used as either.
    EITHER = "empty"

    def serves(self, wanted: Shape) -> bool:
        """Whether a table of this shape can be used where ``wanted`` is."""
        return self is wanted or Shape.EITHER in (self, wanted)


class Content:
    """The entries of a table at one moment; never changed. Keys are lower-case; a list maps each key to itself as written.

    ``texts`` are the keys of a list as they are written, those that differ in case alone too.
    """

    def __init__(self, entries: Mapping[str, str], shape: Shape, texts: Sequence[str] = ()) -> None:
        self.entries = entries
        self.shape = shape
        self.texts = texts

    def __reduce__(self) -> tuple[type[Content], tuple[object, ...]]:
        # The patterns are made anew where they are asked for.
        return Content, (self.entries, self.shape, self.texts)

    @cached_property
    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""
        return Patterns(lambda: self.entries, lambda: self.texts)


class Table(Protocol):
    """What every kind of table can do. Keys are compared without regard to case."""

    @property
    def name(self) -> str:
        """The name by which the configuration calls it."""

    @property
    def written(self) -> str:
        """What stands behind ``table NAME`` in smtpd.conf: ``"file:/path"``, or the elements in braces."""

    @property
    def shape(self) -> Shape:
        """What its entries are."""

    @property
    def is_stale(self) -> bool:
        """Whether `refresh` should run in a thread before the next lookup, which would wait or answer from old content."""

    @property
    def trouble(self) -> str:
        """What was wrong when the content was looked for last, as a sentence; empty when nothing was."""

    def refresh(self) -> None:
        """Take new content, which may take seconds; trouble with it is for the lookup to report."""

    def lookup(self, key: str) -> str | None:
        """The value of ``key`` (of a list: the key as it is written), None when it is not there."""

    def keys(self) -> Iterable[str]:
        """All keys, in the order they are written."""

    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""
