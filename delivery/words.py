"""Argument vectors of commands, out of the operator's or the user's text and what its format specifiers stand for.

Guarantees: each word is expanded by itself, so that nothing in an address can begin a new word, and none becomes an option
where no option was written.

Failure: `SpecifierError` for what was written, `UnfitValue` for what an address would have made of it.
"""

from __future__ import annotations

from itertools import chain

from delivery.specifiers import SpecifierError, Values, expand
from policy.command_line import IN_HOME, WRAPPED, CommandLineError, command_words, wrapper_words


def arguments(command: str, values: Values, wrapper: str = "") -> tuple[str, ...]:
    """The argument vector for ``command``, within that of ``wrapper`` if there is one."""
    try:
        words = command_words(command)
        around = wrapper_words(wrapper) if wrapper else (WRAPPED,)
    except CommandLineError as error:
        raise SpecifierError(str(error)) from error
    inner = _at_home(command, [_argument(word, values) for word in words], values.home)
    parts = [inner if word == WRAPPED else [_argument(word, values)] for word in around]
    return tuple(_at_home(wrapper, list(chain.from_iterable(parts)), values.home))


def _at_home(text: str, words: list[str], home: str) -> list[str]:
    if not (text.startswith(IN_HOME) and words[0].startswith(IN_HOME)):
        return words
    return [home.rstrip("/") + words[0][1:], *words[1:]]


def _argument(word: str, values: Values) -> str:
    argument = expand(word, values)
    # An address must not become an option of the program.
    if argument.startswith("-") and not word.startswith("-") and ":raw" not in word:
        return f":{argument[1:]}"
    return argument
