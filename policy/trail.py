"""Values of an expansion: how something was reached, where it ends, why it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from policy.config import AnyAction
from policy.errors import PolicyError
from spool.message import Destination
from spool.reply import Reply


class Refusal(PolicyError):
    """The recipient is refused with ``reply``; the exception's text is the reason, for our own log."""

    def __init__(self, reply: Reply, reason: str) -> None:
        super().__init__(reason)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class FinalDestination:
    """One envelope to be: the action by which it goes, and where."""

    action: AnyAction
    destination: Destination

    @property
    def key(self) -> tuple[str, ...]:
        """What tells one destination from another: a user, command or file of an action, or an address to relay to."""
        address, end = self.destination.address, self.destination
        local = (end.user, end.extension, end.target)
        return (self.action.name, *(local if any(local) else (address.local, address.domain.lower())))


@dataclass(frozen=True, slots=True)
class Trail:
    """How an address or name was reached. Its ``steps`` are a node's place in the tree of one expansion."""

    #: What was expanded on the way, the recipient first, as text.
    steps: tuple[str, ...] = ()
    #: Those of the steps that may not come again, with the action in whose tables they stood.
    open: frozenset[tuple[str, ...]] = frozenset()
    #: The nearest name on the way.
    user: str = ""
    #: Whether that user's .forward has been gone through.
    forwarded: bool = False
    #: The tag by which mail came to that user.
    tag: str = ""

    def __str__(self) -> str:
        return " -> ".join(self.steps)

    def stepped(self, text: str, key: tuple[str, ...]) -> Trail:
        """The trail that goes on to ``text``."""
        return Trail((*self.steps, text), self.open | {key}, self.user, self.forwarded, self.tag)

    def named(self, name: str, key: tuple[str, ...]) -> Trail:
        """The trail that goes on to the name ``name``."""
        return Trail((*self.steps, name), self.open | {key}, name)

    def through_forward_of(self, user: str, tag: str) -> Trail:
        """The trail of what stands in the .forward of ``user``, whose own name means the user from here on."""
        return Trail(self.steps, self.open, user, True, tag)
