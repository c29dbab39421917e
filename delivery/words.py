"""Command lines: the operator's text as an argument vector.

The text is split by the quoting rules of a shell, and then each word is expanded by itself, so that nothing in an address
can begin a new word. Text that is shell syntax (a pipe, ``&&``, a variable, ``exec``) goes to ``/bin/sh -c`` as it stands;
no address is ever expanded in it, nor in the text behind the ``-c`` of a shell that the operator calls by name.

Failure: `SpecifierError` for what the operator wrote, `UnfitValue` for what an address would have made of it.
"""

from __future__ import annotations

import os.path
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from delivery.specifiers import SpecifierError, expand, has_specifiers, without_specifiers

SHELL: Final = "/bin/sh"

_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.""", re.DOTALL)
_SYNTAX = re.compile(r"[|&;<>()$`\n]|(?:^|\s)[#~]|^\s*\w+=")
#: Programs that read the argument behind ``-c`` as commands.
_SHELLS: Final = frozenset({"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"})
_SCRIPT_OPTION = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
#: First words that no program of that name stands for.
_BUILTINS: Final = frozenset({".", ":", "!", "cd", "eval", "exec", "exit", "export", "if", "set", "ulimit", "umask"})


def arguments(command: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """The argument vector for a command and what the specifiers stand for."""
    if _is_shell_syntax(command):
        _refuse_specifiers(command, command)
        return (SHELL, "-c", expand(command, {}))
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SpecifierError(f"{error}: {command}") from error
    if not words:
        raise SpecifierError("an empty command")
    _refuse_specifiers(_script(words), command)
    return tuple(_argument(word, values) for word in words)


def _refuse_specifiers(text: str, command: str) -> None:
    if has_specifiers(text):
        raise SpecifierError(
            "a format specifier cannot stand in shell syntax; write sh -c '...$1...' sh %{...}: " + command
        )


def _script(words: Sequence[str]) -> str:
    """What a shell among the words would read as commands; empty when there is none."""
    shells = [number for number, word in enumerate(words) if os.path.basename(word) in _SHELLS]
    behind = words[shells[0] + 1 :] if shells else ()
    return next((text for option, text in pairwise(behind) if _SCRIPT_OPTION.fullmatch(option)), "")


def _argument(word: str, values: Mapping[str, str]) -> str:
    argument = expand(word, values)
    # An address must not become an option of the program.
    if argument.startswith("-") and not word.startswith("-") and ":raw" not in word:
        return f":{argument[1:]}"
    return argument


def _is_shell_syntax(command: str) -> bool:
    words = command.split(maxsplit=1)
    if words and words[0] in _BUILTINS:
        return True
    return bool(_SYNTAX.search(_QUOTED.sub(_unquoted, without_specifiers(command))))


def _unquoted(quoted: re.Match[str]) -> str:
    """What a quoted part means to the shell: a word, unless double quotes hold a variable or a command."""
    text = quoted.group()
    return "$" if text.startswith('"') and re.search(r"[$`]", text) else "word"
