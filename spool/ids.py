"""Names of messages and envelopes.

A message id is 48 bits of milliseconds and 48 random bits in lower-case base32hex: 20 characters that sort by time. Ingress
makes it at MAIL, before any database. Uniqueness rests on the random part and on a UNIQUE key, never on the clock.
An envelope id is the message id, a dot, and the envelope's ordinal in its message, from 1.

Failure: `IdSyntaxError` for text that is neither an id nor the beginning of one.
"""

from __future__ import annotations

import os
import re
from typing import Final, NewType

MessageId = NewType("MessageId", str)
EnvelopeId = NewType("EnvelopeId", str)

#: Characters of a whole message id.
MESSAGE_ID_LENGTH: Final = 20

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
#: Ten bits in base32hex: ten of them are a message id.
_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)
_ID = re.compile(r"([0-9a-v]{1,20})(?:\.([1-9][0-9]{0,8}))?")


class IdSyntaxError(ValueError):
    """Not a message id, an envelope id, or the beginning of one."""


def new_message_id(wall_ms: int) -> MessageId:
    """A fresh id; ``wall_ms`` (milliseconds since 1970) only makes ids sort by time."""
    # 96 bits in 20 digits of five: the last four bits are nobody's.
    bits = ((wall_ms % (1 << 48)) << 48 | int.from_bytes(os.urandom(6))) << 4
    return MessageId("".join([_PAIRS[bits >> shift & 1023] for shift in range(90, -1, -10)]))


def envelope_id(message: MessageId, ordinal: int) -> EnvelopeId:
    """The id of the ``ordinal``-th envelope (from 1) of ``message``."""
    return EnvelopeId(f"{message}.{ordinal}")


def split_id(text: str) -> tuple[str, int | None]:
    """The message id or its beginning, and the ordinal if one was typed."""
    match = _ID.fullmatch(text.lower())
    if match is None:
        raise IdSyntaxError(f"{text!r} is not a message or envelope id")
    ordinal = match.group(2)
    if ordinal is not None and len(match.group(1)) != MESSAGE_ID_LENGTH:
        raise IdSyntaxError(f"{text!r}: an envelope number needs the whole message id before it")
    return match.group(1), int(ordinal) if ordinal else None
