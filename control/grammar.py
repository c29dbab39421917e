"""The words of ``smtpctl``: a table of forms, any word of which may be shortened while it stays unambiguous.

A form is a sequence of words; ``<name>`` stands for something that the operator fills in, ``<name...>`` at its end for one
or more of that. What is filled in is never shortened, and a literal word wins over it.

Failure: `CommandError`, which holds the forms that the words so far could have become.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Form(NamedTuple, Generic[T]):
    """One command: its words as the manual writes them, and what they mean."""

    text: str
    meaning: T

    @property
    def words(self) -> list[str]:
        """The words one by one."""
        return self.text.split()

    def word(self, place: int) -> str:
        """The word at that place, where there is one; the last may stand for all that follow."""
        words = self.words
        return words[-1] if place >= len(words) and words[-1].endswith("...>") else words[place]

    def reaches(self, place: int) -> bool:
        """Whether it has a word there."""
        return place < len(self.words) or self.words[-1].endswith("...>")


class Command(NamedTuple, Generic[T]):
    """What was typed: a form's meaning, and what was filled in, in order."""

    meaning: T
    arguments: tuple[str, ...]


class CommandError(Exception):
    """No form, or more than one, fits; ``possibilities`` are those that begin like this."""

    def __init__(self, possibilities: Sequence[str]) -> None:
        super().__init__("\n".join(["possibilities are:", *possibilities]))
        self.possibilities = tuple(possibilities)


def resolve(forms: Sequence[Form[T]], typed: Sequence[str]) -> Command[T]:
    """The one form that ``typed`` is."""
    fitting = list(forms)
    arguments: list[str] = []
    for place, word in enumerate(typed):
        longer = [form for form in fitting if form.reaches(place)]
        literal = _literal(longer, place, word, fitting)
        if literal is None:
            arguments.append(word)
        narrower = [form for form in longer if _fits(form.word(place), literal)]
        if not narrower:
            raise CommandError([form.text for form in longer or fitting])
        fitting = narrower
    whole = [form for form in fitting if len(form.words) <= len(typed)]
    if len(whole) != 1:
        raise CommandError([form.text for form in fitting])
    return Command(whole[0].meaning, tuple(arguments))


def _literal(longer: Sequence[Form[T]], place: int, word: str, fitting: Sequence[Form[T]]) -> str | None:
    """The literal word of the table that ``word`` means here, None when it is filled in."""
    literals = {form.word(place) for form in longer if not _is_gap(form.word(place))}
    if word in literals:
        return word
    beginnings = {literal for literal in literals if literal.startswith(word)}
    if len(beginnings) > 1:
        raise CommandError([form.text for form in longer if form.word(place) in beginnings])
    return beginnings.pop() if beginnings else None


def _fits(word: str, literal: str | None) -> bool:
    return _is_gap(word) if literal is None else word == literal


def _is_gap(word: str) -> bool:
    return word.startswith("<")
