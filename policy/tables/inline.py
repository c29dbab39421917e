"""Tables that are written into the configuration itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policy.quoting import quoted_list, quoted_mapping
from policy.tables.patterns import Patterns
from policy.tables.table import Content, Shape


class InlineTable:
    """``{ a, b }`` or ``{ a = b }``. Always available."""

    def __init__(self, name: str, content: Content) -> None:
        self.name = name
        self._content = content

    @classmethod
    def of_list(cls, name: str, keys: Iterable[str]) -> InlineTable:
        """A list."""
        texts = tuple(keys)
        return cls(name, Content({key.lower(): key for key in texts}, Shape.LIST, texts))

    @classmethod
    def of_mapping(cls, name: str, entries: Mapping[str, str]) -> InlineTable:
        """A mapping."""
        return cls(name, Content({key.lower(): value for key, value in entries.items()}, Shape.MAPPING))

    def __repr__(self) -> str:
        return f"<InlineTable {self.name}>"

    @property
    def written(self) -> str:
        """Its elements in braces."""
        entries = self._content.entries
        return quoted_mapping(entries) if self.shape is Shape.MAPPING else quoted_list(self._content.texts)

    @property
    def shape(self) -> Shape:
        """What its entries are."""
        return self._content.shape

    @property
    def is_stale(self) -> bool:
        """Never."""
        return False

    @property
    def trouble(self) -> str:
        """None."""
        return ""

    def refresh(self) -> None:
        """What is written in place never changes."""

    def lookup(self, key: str) -> str | None:
        """The value of ``key``, or None."""
        return self._content.entries.get(key.lower())

    def keys(self) -> Iterable[str]:
        """All keys."""
        return self._content.entries.keys()

    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""
        return self._content.patterns
