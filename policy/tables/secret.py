"""Secrets: what a label stands for when we authenticate to a smarthost.

A table maps labels to ``user:password``. A source whose content is a single line without a blank (what a password manager
prints, what a container's variable holds) is one secret instead, for whatever label is asked: ``user:password``, or the
password of the user who is called like the label.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from policy.errors import TableUnavailable
from policy.tables.table import Table


@dataclass(frozen=True, slots=True)
class Secret:
    """A user and a password. The password is in no text that is made of this value."""

    user: str
    password: str = field(repr=False)


def secret_of(table: Table, label: str) -> Secret | None:
    """The secret of ``label``, None when the table does not know it.

    Raises `TableUnavailable` when the table cannot be asked or the value is not ``user:password``.
    """
    value = table.lookup(label)
    if value is None:
        return None
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise TableUnavailable(f'table {table.name}: the value of "{label}" is not user:password')
    return Secret(user, password)


@dataclass(frozen=True, slots=True)
class LoneSecret:
    """The content of a source that is one secret and nothing else."""

    text: str = field(repr=False)

    def value_for(self, label: str) -> str:
        """``user:password``."""
        return self.text if ":" in self.text else f"{label}:{self.text}"


def lone_secret(text: str) -> LoneSecret | None:
    """The secret that ``text`` is; None when it is more than one line, or has a blank, and so is a table."""
    line = text.removesuffix("\n").removesuffix("\r")
    is_word = bool(line) and line.isprintable() and not any(character.isspace() for character in line)
    return LoneSecret(line) if is_word else None
