"""Errors of policy: what the operator wrote is wrong, or what it points to cannot be asked now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

#: So much of a line is shown with a caret: what fits a wide terminal.
MAX_SHOWN: Final = 160


class Place(NamedTuple):
    """Where something stands in a configuration. Lines and columns count from 1; line 0 means the file as a whole."""

    path: str
    line: int = 0
    column: int = 0
    #: The source line; empty when there is none.
    source: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (or doubtful) in a configuration, with its place."""

    path: str
    line: int
    column: int
    message: str
    #: The source line, for the caret; empty when there is none.
    source: str = ""
    is_warning: bool = False

    @classmethod
    def at(cls, place: Place, message: str, *, is_warning: bool = False) -> Finding:
        """A finding about what stands at ``place``."""
        return cls(place.path, place.line, place.column, message, place.source, is_warning)

    @property
    def headline(self) -> str:
        """Place and message, without the source line: for a log, which says itself how grave it is."""
        return f"{self._where}: {self.message}"

    @property
    def _where(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path

    def __str__(self) -> str:
        text = f"{self._where}: {'warning: ' if self.is_warning else ''}{self.message}"
        if not self.source:
            return text
        start = max(0, self.column - MAX_SHOWN // 2) if len(self.source) > MAX_SHOWN else 0
        shown = self.source[start : start + MAX_SHOWN]
        indent = "".join("\t" if char == "\t" else " " for char in shown[: self.column - 1 - start])
        return f"{text}\n{shown}\n{indent}^"


class PolicyError(Exception):
    """Something is wrong with what the operator wrote."""


class ConfigError(PolicyError):
    """A configuration cannot be used; every finding is in it, in the order of the file."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


class TableUnavailable(PolicyError):
    """A table cannot be asked now: missing, unreadable, broken. Always a temporary failure."""
