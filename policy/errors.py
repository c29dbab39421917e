"""Errors of policy: what the operator wrote is wrong, or what it points to cannot be asked now."""

from __future__ import annotations

from dataclasses import dataclass


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

    def __str__(self) -> str:
        word = "warning: " if self.is_warning else ""
        text = f"{self.path}:{self.line}:{self.column}: {word}{self.message}"
        if not self.source:
            return text
        indent = "".join("\t" if char == "\t" else " " for char in self.source[: self.column - 1])
        return f"{text}\n{self.source}\n{indent}^"


class PolicyError(Exception):
    """Something is wrong with what the operator wrote."""


class ConfigError(PolicyError):
    """A configuration cannot be used; every finding is in it, in the order of the file."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


class TableUnavailable(PolicyError):
    """A table cannot be asked now: missing, unreadable, broken. Always a temporary failure."""
