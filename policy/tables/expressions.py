"""Regular expressions of a table: POSIX extended ones, found anywhere in a key, without regard to case.

The engine is RE2, so a key takes time in proportion to its length, whatever the expression: a stranger's HELO cannot
stop the daemon.

Guarantees: an expression either compiles or is an error when its table is read. The text of an expression is never changed
to lower case: ``\\S`` stays what it is.

Failure: `ExpressionError`.

re_format(7), regex(7); back references are the part of these that RE2 has not. docs/decisions/0001-dependencies.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from policy.errors import PolicyError

#: Memory that one expression may take, compiled; RE2's own measure.
MAX_COMPILED_OCTETS: Final = 8 << 20

#: How regex(7) of GNU and BSD write the beginning and the end of a word, which RE2 writes one way; and what must be
#: skipped to find them: other escapes.
_WORD_EDGES: Final = re.compile(r"\\[<>]|\[\[:[<>]:\]\]|\\.", re.DOTALL)


class _Compiled(Protocol):
    """The part of RE2 that is used here; it brings no annotations of its own."""

    def search(self, text: bytes) -> object | None: ...


class ExpressionError(PolicyError):
    """An expression that is none; the text says why, and quotes it."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """The compiled expressions of one content."""

    compiled: tuple[_Compiled, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Expressions:
        """Compile ``texts``."""
        return cls(tuple(map(_compile, texts)))

    def match(self, key: str) -> bool:
        """Whether one of them is found in ``key``."""
        octets = key.encode(errors="replace")
        return any(each.search(octets) is not None for each in self.compiled)


def expression_fault(text: str) -> str | None:
    """Why ``text`` is no regular expression; None when it is one."""
    try:
        _compile(text)
    except ExpressionError as error:
        return str(error)
    return None


def _compile(text: str) -> _Compiled:
    # Loading the library takes 10 ms, and most configurations have no regular expression.
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MAX_COMPILED_OCTETS
    try:
        compiled: _Compiled = re2.compile(_WORD_EDGES.sub(_word_edge, text), options)
    except (re2.error, UnicodeEncodeError) as error:
        raise ExpressionError(f'"{text}" is no regular expression: {_reason(error)}') from None
    return compiled


def _word_edge(found: re.Match[str]) -> str:
    return r"\b" if found.group()[1:2] in "<>" or found.group().startswith("[[") else found.group()


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it is not UTF-8"
    reason = error.args[0]
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
