"""A filter as SQL: which conditions it comes to, which tables these need, and statements made of both.

Guarantees: a statement looks at the envelopes between two places of the queue and at nothing else, so that its time is
bounded by whoever chooses these, however few pass the filter (`spool.selected`, `spool.listing` and `spool.tally` do).

Failure: `FilterError` for what is no address.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from spool.address import Address, AddressSyntaxError, parse_address
from spool.filter import ANY, Filter, FilterError, Trait
from spool.rows import KIND_CODE, STATE_CODE
from spool.statements import load

_PARTS: Final = load("filters.sql")
#: From an envelope to what is known beside it. A row that is missing there hides no envelope that is not asked about it.
_JOINS: Final = {
    "message": "LEFT JOIN message ON message.id = envelope.message",
    "lane": "LEFT JOIN lane ON lane.id = envelope.lane",
    "recipient": "LEFT JOIN recipient ON recipient.message = envelope.message AND recipient.number = envelope.recipient",
}
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
#: Between the values that a window of envelopes is counted by.
SEPARATOR: Final = "\x1f"


class _Window(NamedTuple):
    """Which envelopes are looked at, and by which way to them; SQLite is not to think of a longer one."""

    table: str
    text: str


_BY_ID: Final = _Window("envelope NOT INDEXED", "envelope.id > :after AND envelope.id <= :end")
_BY_ORDINAL: Final = _Window(
    "envelope INDEXED BY envelope_name",
    "envelope.message = :message AND envelope.ordinal > :after AND envelope.ordinal <= :end",
)
#: What `spool.selected.Chosen` begins with its place and goes on with.
_CHOSEN: Final = "envelope.id, envelope.message, envelope.lane, envelope.state, envelope.asked"


@dataclass(frozen=True, slots=True)
class Sieve:
    """A filter, ready to be put into statements; the times in it are fixed."""

    conditions: tuple[str, ...] = ()
    values: Mapping[str, object] | None = None

    @classmethod
    def of(cls, wanted: Filter, now: int) -> Self:
        """``wanted`` at spool time ``now``."""
        parts = dict(_conditions(wanted, now))
        return cls(tuple(_PARTS[name] for name in parts), {k: v for each in parts.values() for k, v in each.items()})

    def parameters(self, **more: object) -> dict[str, object]:
        """The named parameters of a statement: those of the conditions, and ``more``."""
        return {**(self.values or {}), **more}

    @property
    def chosen(self) -> str:
        """Of the envelopes with an id after ``:after`` and up to ``:end``, the first ``:limit`` that pass; see `Chosen`."""
        return self._statement(f"SELECT envelope.id, {_CHOSEN}", _BY_ID, "ORDER BY envelope.id LIMIT :limit")

    @property
    def chosen_of_message(self) -> str:
        """The same for one message, by ordinal."""
        rest = "ORDER BY envelope.ordinal LIMIT :limit"
        return self._statement(f"SELECT envelope.ordinal, {_CHOSEN}", _BY_ORDINAL, rest)

    @property
    def passing(self) -> str:
        """Those that pass of the envelopes whose ids are in ``:ids``."""
        listed = _Window("envelope NOT INDEXED", "envelope.id IN (SELECT value FROM json_each(:ids))")
        return self._statement("SELECT envelope.id", listed)

    def counted(self, trait: Trait | None, *, of_message: bool) -> str:
        """How many envelopes pass between ``:after`` and ``:end``, and what each of them is like, in one text.

        A million strings by one row of SQLite's each would take seconds of holding Python's lock and letting it go.
        """
        what = f"CAST(group_concat(coalesce({_PARTS[f'by_{trait.value}']}, ''), char(31)) AS BLOB)" if trait else "NULL"
        return self._statement(f"SELECT count(*), {what}", _BY_ORDINAL if of_message else _BY_ID)

    def _statement(self, select: str, window: _Window, rest: str = "") -> str:
        conditions = " AND ".join((window.text, *self.conditions))
        joins = [join for table, join in _JOINS.items() if f"{table}." in f"{select} {conditions}"]
        return " ".join([select, "FROM", window.table, *joins, "WHERE", conditions, rest])


def _conditions(wanted: Filter, now: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Names of parts, and the parameters of each."""
    for field in ("sender", "recipient"):
        if text := getattr(wanted, field):
            yield _whose(field, text)
    for field in ("user", "action", "client", "login"):
        if text := getattr(wanted, field):
            yield field, {field: text}
    for field in ("domain", "error"):
        if text := getattr(wanted, field):
            yield field, {field: _lower(text)}
    if wanted.state is not None:
        yield "state", {"state": STATE_CODE[wanted.state]}
    if wanted.kind is not None:
        yield "kind", {"kind": KIND_CODE[wanted.kind]}
    if wanted.uid is not None:
        yield "uid", {"uid": wanted.uid}
    for field in ("older", "newer"):
        if (age := getattr(wanted, field)) is not None:
            yield field, {field: now - age}


def _whose(field: str, text: str) -> tuple[str, dict[str, object]]:
    if text.startswith("@"):
        return f"{field}_anybody", {f"{field}_domain": _lower(text[1:])}
    try:
        address = Address("", "") if text == "<>" else parse_address(text)
    except AddressSyntaxError as error:
        raise FilterError(f"{field} {text!r}: {error}; expected an address, or @ and a domain") from error
    return field, {f"{field}_local": address.local, f"{field}_domain": _lower(address.domain)}


def _lower(text: str) -> str:
    """As SQLite's own lower() does it: letters of ASCII alone."""
    return text.translate(_LOWER)


#: Lets everything through.
OPEN: Final = Sieve.of(ANY, 0)
