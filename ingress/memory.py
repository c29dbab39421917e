"""What the messages that are under way take in our memory, all of them together, counted before it is taken.

One message is bounded by the limits on its recipients and its header; thousands at once are bounded here. What Python adds
to the octets of an address is estimated, on the safe side, and a test measures that it is.

Guarantees: `Share.give_back` may be called any number of times; what a share holds is counted once.

Failure: none; `Share.take` answers no.
"""

from __future__ import annotations

from typing import Final

from ingress.limits import MAX_MEMORY
from spool.message import NewEnvelope, Recipient

#: Octets of the objects for a recipient, and for an envelope, beside their text.
RECIPIENT: Final = 600
ENVELOPE: Final = 1000


class Memory:
    """The memory for messages under way."""

    def __init__(self, most: int = MAX_MEMORY) -> None:
        self.most = most
        #: Octets that are taken.
        self.held = 0


class Share:
    """What one message holds of it."""

    __slots__ = ("_held", "_memory")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._held = 0

    @property
    def most(self) -> int:
        """What there is for everybody."""
        return self._memory.most

    def take(self, octets: int) -> bool:
        """Count so many octets more; False, and nothing is counted, when that is too much."""
        if self._memory.held + octets > self._memory.most:
            return False
        self._memory.held += octets
        self._held += octets
        return True

    def give_back(self) -> None:
        """Nothing is held any more."""
        self._memory.held -= self._held
        self._held = 0


def cost(recipient: Recipient, envelopes: tuple[NewEnvelope, ...]) -> int:
    """What a recipient with its envelopes takes. Text is shared where it is the same."""
    address = recipient.address
    text = len(address.local) + len(address.domain) + len(recipient.orcpt)
    others = sum(len(each.destination.target) + len(each.destination.address.local) for each in envelopes)
    # UTF-8 beyond ASCII may take four octets a character.
    wide = 1 if address.is_ascii and recipient.orcpt.isascii() else 4
    return RECIPIENT + wide * text + ENVELOPE * len(envelopes) + others
