"""Secrets: what a label stands for when we authenticate to a smarthost."""

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
