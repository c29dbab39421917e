"""How many envelopes there are, by what they are like.

Guarantees: nothing is kept for this while mail comes and goes, so it costs the way of mail nothing; it is counted when it is
asked, in windows, each a short look of its own. Memory is bounded, however many values there are.

Failure: as `spool.listing`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from spool.filter import Trait
from spool.rows import KINDS, STATES
from spool.selected import Range, window_end
from spool.sieve import SEPARATOR

#: Envelopes that are counted in one look: about 10 ms.
WINDOW: Final = 10_000
#: Values that are counted apart: some 20 MiB of them.
MAX_VALUES: Final = 200_000
_CODED: Final = {
    Trait.STATE: {str(code): state.value for code, state in STATES.items()},
    Trait.KIND: {str(code): kind.value for code, kind in KINDS.items()},
}


@dataclass(slots=True)
class Tally:
    """What was counted so far."""

    total: int = 0
    #: Envelopes by value; empty when they are not counted by anything.
    by_value: Counter[str] = field(default_factory=Counter)
    #: Those with values that there was no room for.
    others: int = 0

    def take(self, count: int, values: bytes | None) -> None:
        """The envelopes of one look."""
        self.total += count
        if values is None:
            return
        found = values.decode(errors="backslashreplace").split(SEPARATOR)
        if len(self.by_value) < MAX_VALUES:
            self.by_value.update(found)
            return
        for value in found:
            if value in self.by_value:
                self.by_value[value] += 1
            else:
                self.others += 1

    def named(self, trait: Trait) -> list[tuple[str, int]]:
        """Values as people call them, the most frequent first."""
        names = _CODED.get(trait, {})
        return [(names.get(value, value), count) for value, count in self.by_value.most_common()]


def count_window(connection: sqlite3.Connection, rest: Range, trait: Trait | None, tally: Tally) -> Range | None:
    """Count the next envelopes of ``rest``; what is left to count."""
    end = window_end(connection, rest, WINDOW)
    statement = rest.sieve.counted(trait, of_message=rest.message is not None)
    place = {"after": rest.after, "end": end, "message": rest.message}
    tally.take(*connection.execute(statement, rest.sieve.parameters(**place)).fetchone())
    return None if end >= rest.last else replace(rest, after=end)
