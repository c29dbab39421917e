"""What the coverage-guided fuzzers have in common: a target is octets in, and a complaint or nothing out.

A target is a module of `tests.fuzz.targets` with a function ``make`` that returns a `Target`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

TARGETS: Final = ("address", "agent", "channel", "control", "drop", "header", "relay", "report", "smtp")
CORPUS: Final = Path(__file__).parent / "corpus"


class Finding(AssertionError):
    """What a target must never do was done; the text says what."""


class Target(Protocol):
    """A part of the system that reads what strangers send."""

    def seeds(self) -> Iterable[bytes]:
        """Inputs to begin with."""

    def attempt(self, octets: bytes) -> None:
        """Give it these octets. Raises `Finding`, or whatever the part did not catch."""

    def close(self) -> None:
        """Give back what is held, and look whether everything is there. Raises `Finding`."""


def load(name: str) -> Target:
    """The target of this name."""
    made: Target = importlib.import_module(f"tests.fuzz.targets.{name}").make()
    return made


def corpus(name: str) -> list[tuple[str, bytes]]:
    """The inputs that are kept for the target of this name, each with the name of its file."""
    return [(path.name, path.read_bytes()) for path in sorted((CORPUS / name).glob("*"))]


def require(holds: object, complaint: str) -> None:
    """Raise `Finding` unless it holds."""
    if not holds:
        raise Finding(complaint)
