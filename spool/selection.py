"""Which envelopes an operator's command means: all, those of one message, or one.

Failure: `spool.ids.IdSyntaxError` for text that is no id. Whether the id is known is for the spool to say
(`spool.errors.UnknownEnvelope`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spool.ids import split_id


@dataclass(frozen=True, slots=True)
class Selection:
    """``message`` is a message id or an unambiguous beginning of one, empty for every message.

    ``ordinal`` narrows a whole message id to one envelope.
    """

    message: str = ""
    ordinal: int | None = None


#: Every envelope that is queued when the command is given.
EVERYTHING: Final = Selection()


def select(text: str) -> Selection:
    """Read ``all``, a message id or its beginning, or an envelope id."""
    return EVERYTHING if text == "all" else Selection(*split_id(text))
