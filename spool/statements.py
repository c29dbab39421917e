"""Statements of SQL out of a file beside this one, each with its name and what it is for.

A statement begins at a line ``-- name: NAME`` and ends at the next one; comments stay with it, for whoever reads a trace.
The text of a statement is always the same object, so that SQLite prepares it once.

Failure: `KeyError` for a name that the file does not have, when the module that wants it is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


def load(file_name: str) -> Mapping[str, str]:
    """The statements of that file by name, in its order."""
    text = Path(__file__).with_name(file_name).read_text(encoding="utf-8")
    names_and_bodies = _NAME.split(text)[1:]
    statements = {
        name: _COMMENT.sub("", body).strip().rstrip(";")
        for name, body in zip(names_and_bodies[::2], names_and_bodies[1::2], strict=True)
    }
    if len(statements) != len(names_and_bodies) // 2:
        raise ValueError(f"{file_name}: a name is used twice")
    return MappingProxyType(statements)
