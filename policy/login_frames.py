"""What is said between those who ask for passwords and the process that asks PAM: one packet a question, one an answer.

Guarantees: a packet has at most `MAX_QUESTION` octets, and a question says what it means whatever is in it. Nothing that one
side writes can make the other do more than refuse.

Failure: `ValueError` from `Question.read`.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import Final

#: A user's name; Linux has 32, directories behind PAM have mail addresses.
MAX_LOGIN: Final = 256
#: What a table's passwords may have too.
MAX_PASSWORD: Final = 512
#: The address that the client came from.
MAX_ADDRESS: Final = 64
#: Tells answers apart; drawn by lot, because a new asker may find the answers to one that has died.
TICKET: Final = 16

_HEAD = struct.Struct(f"!{TICKET}sHHH")
_ANSWER = struct.Struct(f"!{TICKET}sB")

MAX_QUESTION: Final = _HEAD.size + MAX_LOGIN + MAX_PASSWORD + MAX_ADDRESS
MAX_ANSWER: Final = _ANSWER.size


class Verdict(enum.Enum):
    """What PAM says."""

    NO = 0
    YES = 1
    #: It could not be asked, or has not answered in time.
    TROUBLE = 2


@dataclass(frozen=True, slots=True)
class Question:
    """Whether this is the user's password."""

    ticket: bytes
    login: bytes
    password: bytearray | bytes = field(repr=False)
    address: bytes

    @property
    def is_sane(self) -> bool:
        """Whether PAM can be asked it at all: its texts end at a NUL."""
        fits = len(self.login) <= MAX_LOGIN and len(self.password) <= MAX_PASSWORD and len(self.address) <= MAX_ADDRESS
        return (
            fits and bool(self.login) and not any(b"\0" in text for text in (self.login, self.password, self.address))
        )

    def packet(self) -> bytearray:
        """It as a packet, which whoever sends it wipes."""
        head = _HEAD.pack(self.ticket, len(self.login), len(self.password), len(self.address))
        return bytearray(head) + self.login + self.password + self.address

    @classmethod
    def read(cls, packet: bytes | bytearray | memoryview) -> Question:
        """The question of a packet; its password can be wiped. Raises `ValueError`."""
        if len(packet) < _HEAD.size:
            raise ValueError("a packet that is too short")
        ticket, login, password, address = _HEAD.unpack_from(packet)
        if len(packet) != _HEAD.size + login + password + address:
            raise ValueError("a packet whose lengths are wrong")
        first, second = _HEAD.size + login, _HEAD.size + login + password
        question = cls(
            ticket, bytes(packet[_HEAD.size : first]), bytearray(packet[first:second]), bytes(packet[second:])
        )
        if not question.is_sane:
            raise ValueError("a question that cannot be asked")
        return question


def answer(ticket: bytes, verdict: Verdict) -> bytes:
    """The packet that answers."""
    return _ANSWER.pack(ticket, verdict.value)


def read_answer(packet: bytes) -> tuple[bytes, Verdict]:
    """Whose answer it is, and what it says. Raises `ValueError`."""
    try:
        ticket, verdict = _ANSWER.unpack(packet)
    except struct.error:
        raise ValueError("a packet that is no answer") from None
    return ticket, Verdict(verdict)
