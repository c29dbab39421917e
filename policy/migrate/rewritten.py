"""What becomes of one directive."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What stands in the place of a directive: its lines, and remarks on what has changed."""

    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    #: What is lost, as offset and message.
    troubles: tuple[tuple[int, str], ...] = ()
    #: The action that the lines declare or name.
    action: str = ""
