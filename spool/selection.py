"""Which envelopes an operator's command means: all, those of one message, or one; of these, what a filter lets through.

Failure: `spool.ids.IdSyntaxError` for text that is no id. Whether the id is known is for the spool to say
(`spool.errors.UnknownEnvelope`), and `spool.filter.FilterError` comes from there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spool.filter import ANY, Filter
from spool.ids import split_id


@dataclass(frozen=True, slots=True)
class Selection:
    """``message`` is a message id or an unambiguous beginning of one, empty for every message.

    ``ordinal`` narrows a whole message id to one envelope.
    """

    message: str = ""
    ordinal: int | None = None
    filter: Filter = ANY


#: Every envelope that is queued when the command is given.
EVERYTHING: Final = Selection()


def select(text: str, wanted: Filter = ANY) -> Selection:
    """Read ``all``, a message id or its beginning, or an envelope id."""
    message, ordinal = ("", None) if text == "all" else split_id(text)
    return Selection(message, ordinal, wanted)
