"""Command lines of the operator and of users, as words that are expanded each by itself.

A text is split by the quoting rules of a shell. Text that is shell syntax (a pipe, ``&&``, a variable, ``exec``) becomes
the words of ``/bin/sh -c``, as it stands.

A home at the beginning, as in ``~/bin/sort``, is none of its syntax: whoever runs the words knows it.

Guarantees: no format specifier stands where a shell reads commands, neither in shell syntax nor in the text behind the
``-c`` of a shell that is called by name; so nothing in an address can become a word, let alone a command. In a wrapper
``%{mda}`` is a word of its own: the words of the command that it stands for are put there, and stay what they are.

Failure: `CommandLineError`.

smtpd.conf(5), ``mda`` and ``mda wrapper``; sh(1), quoting.
"""

from __future__ import annotations

import os.path
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

SHELL: Final = "/bin/sh"
#: How the path of a program in the user's home begins.
IN_HOME: Final = "~/"
#: What stands in a wrapper for the command that it wraps.
WRAPPED: Final = "%{mda}"

_SPECIFIER = re.compile(r"%(?:%|\{[^{}]*\}|\{)")
_WRAPPED = re.compile(re.escape(WRAPPED), re.IGNORECASE)
_WRAPPED_WORD = re.compile(rf"(?<![^\s;&|()]){re.escape(WRAPPED)}(?![^\s;&|()])", re.IGNORECASE)
_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.""", re.DOTALL)
#: Before a program alone, what a shell does is what we do.
_EXEC = re.compile(r"^\s*exec\s+(?=[^-~\s])")
_SYNTAX = re.compile(r"[|&;<>()$`\n]|^[#~]|\s[#~]|^\s*\w+=")
#: Programs that read the argument behind ``-c`` as commands.
_SHELLS: Final = frozenset({"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"})
_SCRIPT_OPTION = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
#: First words that no program of that name stands for.
_BUILTINS: Final = frozenset({".", ":", "!", "cd", "eval", "exec", "exit", "export", "if", "set", "ulimit", "umask"})


class CommandLineError(ValueError):
    """This cannot be run, or not safely, whatever the specifiers stand for."""


def command_words(text: str) -> tuple[str, ...]:
    """The words of a command, with their specifiers."""
    program = _EXEC.sub("", text)
    if not _is_shell_syntax(program):
        return _words(program)
    return (SHELL, "-c", _without_specifiers(text, text))


def wrapper_words(text: str) -> tuple[str, ...]:
    """The words of a wrapper; one that is `WRAPPED` stands for all words of the command."""
    if len(_WRAPPED.findall(text)) != len(_WRAPPED_WORD.findall(_QUOTED.sub("''", text))):
        raise CommandLineError(
            f"{WRAPPED} must be a word of its own, without quotes; write sh -c '... \"$@\"' sh {WRAPPED}"
        )
    program = _EXEC.sub("", text)
    if not _is_shell_syntax(program):
        return tuple(_WRAPPED.sub(WRAPPED, word) for word in _words(program))
    script = _without_specifiers(_WRAPPED.sub('"$@"', text), text)
    return (SHELL, "-c", script, "sh", WRAPPED)


def _words(text: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandLineError(f"a quote or a backslash has no end: {text}") from error
    if not words:
        raise CommandLineError("an empty command")
    _without_specifiers(_script(words), text)
    return tuple(words)


def _without_specifiers(script: str, text: str) -> str:
    if any(match.group() != "%%" for match in _SPECIFIER.finditer(script)):
        raise CommandLineError(
            "a format specifier cannot stand in shell syntax; write sh -c '...$1...' sh %{...}: " + text
        )
    return script


def _script(words: Sequence[str]) -> str:
    """What a shell among the words would read as commands; empty when there is none."""
    shells = [number for number, word in enumerate(words) if os.path.basename(word) in _SHELLS]
    behind = words[shells[0] + 1 :] if shells else ()
    return next((text for option, text in pairwise(behind) if _SCRIPT_OPTION.fullmatch(option)), "")


def _is_shell_syntax(text: str) -> bool:
    words = text.split(maxsplit=1)
    if words and words[0] in _BUILTINS:
        return True
    return bool(_SYNTAX.search(_QUOTED.sub(_unquoted, _SPECIFIER.sub("", text.removeprefix(IN_HOME)))))


def _unquoted(quoted: re.Match[str]) -> str:
    """What a quoted part means to the shell: a word, unless double quotes hold a variable or a command."""
    text = quoted.group()
    return "$" if text.startswith('"') and re.search(r"[$`]", text) else "word"
