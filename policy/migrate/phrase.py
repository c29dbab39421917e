"""A position in the words of one old directive.

Failure: `Untranslatable`, with the word at which it went wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from policy.migrate.words import OLD_KEYWORDS, Sort, Word, argument, spelt


class Untranslatable(Exception):
    """A directive, or a part of it, has no counterpart, or cannot be read. ``offset`` is where."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


class Phrase:
    """Looks one word ahead."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = words
        self._next = 0

    @property
    def word(self) -> Word | None:
        """The next word, or None at the end."""
        return self._words[self._next] if self._next < len(self._words) else None

    @property
    def offset(self) -> int:
        """Where the next word stands; at the end, the last one."""
        return self._words[min(self._next, len(self._words) - 1)].offset

    def take(self) -> Word:
        """The next word, whatever it is."""
        word = self.word
        if word is None:
            self.fail("the line ends too early")
        self._next += 1
        return word

    def at(self, *texts: str) -> bool:
        """Whether the next word is one of these, unquoted."""
        word = self.word
        return word is not None and word.sort in (Sort.WORD, Sort.MARK) and word.text in texts

    def accept(self, *texts: str) -> Word | None:
        """Take one of these if it is next."""
        return self.take() if self.at(*texts) else None

    def expect(self, text: str) -> None:
        """Take this word, which must be next."""
        if not self.accept(text):
            self.fail(f'expected "{text}"')

    @property
    def at_table(self) -> bool:
        """Whether a table or a string is next."""
        return self.at("<", "{") or self._at_string

    def string(self) -> Word:
        """A string."""
        if not self._at_string:
            self.fail("expected a string")
        return self.take()

    def argument(self) -> str:
        """A string, as it is written now."""
        return argument(self.string())

    def table(self) -> str:
        """A table, as it is written now: ``<name>``, ``{ ... }`` or a string."""
        return spelt(self.table_words())

    def table_words(self) -> tuple[Word, ...]:
        """A table's words, its strings respelt."""
        start = self._next
        if self.accept("<"):
            self.string()
            self.expect(">")
        elif self.accept("{"):
            while not self.accept("}"):
                if self.word is None:
                    raise Untranslatable(self._words[start].offset, 'this "{" is not closed')
                self.take()
        else:
            self.string()
        return tuple(word.respelt(argument(word)) for word in self._words[start : self._next])

    @property
    def _at_string(self) -> bool:
        word = self.word
        return word is not None and word.is_string and not (word.sort is Sort.WORD and word.text in OLD_KEYWORDS)

    def fail(self, message: str) -> NoReturn:
        """Give the directive up."""
        word = self.word
        if word is not None and word.sort is Sort.BROKEN:
            message = f"{word.text[:40]} cannot stand here" if word.text[0] not in "\"'" else "this quote is not closed"
        elif message.startswith("expected"):
            message += f', found "{word.text or word.spelling}"' if word else ", found the end of the line"
        raise Untranslatable(self.offset, message)
