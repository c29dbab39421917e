"""Who looks on while a recipient is expanded: every question and every answer, with the trail that leads there.

An expansion is a tree, told depth first in the order of its tables. A node is known by its trail's ``steps``, which end
with the node itself: what is told of a trail belongs below what was told of the trail that is one step shorter. What comes
out of a .forward stands below its user's node, the entries of an included list below the list.

Guarantees: `Watch` only hears. Nothing it does changes what is decided, and an expansion that nobody watches costs nothing
more than calls of empty methods.

Failure: an exception of a watch ends the expansion; a watch raises none.
"""

from __future__ import annotations

from typing import Final, Protocol

from policy.config import Rule
from policy.errors import TableUnavailable
from policy.forward import ForwardAnswer
from policy.tables.passwd import User
from policy.tables.table import Table
from policy.trail import FinalDestination, Refusal, Trail
from spool.address import Address


class Watch(Protocol):
    """What is heard of one expansion, which ends when `policy.expand.expand` returns or raises."""

    def begins(self, recipient: Address) -> None:
        """From the top: what was heard before is void. (An expansion that lacks a .forward begins again with it.)"""

    def address(self, trail: Trail, address: Address, rule: Rule | None) -> None:
        """``trail`` ends with ``address``, about which ``rule`` decides; None when no rule does."""

    def name(self, trail: Trail, name: str) -> None:
        """``trail`` ends with ``name``, which is looked for among aliases, then among users."""

    def asked(self, trail: Trail, table: Table, key: str, answer: str | None) -> None:
        """To find out about the end of ``trail`` a table was asked: its value, or None when the key is not there."""

    def forward(self, trail: Trail, user: User, answer: ForwardAnswer) -> None:
        """``trail`` ends with the name of ``user``, whose .forward says, or lacks, this."""

    def include(self, trail: Trail, path: str) -> None:
        """``trail`` ends with a list in a file, ``path`` as it is opened; what follows below it are its entries."""

    def repeated(self, trail: Trail, text: str) -> None:
        """``text`` would follow ``trail``, but was reached on another trail already: one copy is enough."""

    def found(self, trail: Trail, final: FinalDestination) -> None:
        """``trail`` leads to this destination, which may have been found before."""

    def passed_over(self, trail: Trail, text: str, why: str) -> None:
        """``text`` would follow ``trail``, but counts for nothing."""

    def refused(self, trail: Trail, refusal: Refusal) -> None:
        """The branch that ``trail`` leads to is refused, and with it the recipient: this is the last that is heard."""

    def unavailable(self, trail: Trail, error: TableUnavailable) -> None:
        """Something could not be asked for the end of ``trail``: this is the last that is heard."""


class _Unwatched:
    """Nobody looks on."""

    def begins(self, recipient: Address) -> None:
        pass

    def address(self, trail: Trail, address: Address, rule: Rule | None) -> None:
        pass

    def name(self, trail: Trail, name: str) -> None:
        pass

    def asked(self, trail: Trail, table: Table, key: str, answer: str | None) -> None:
        pass

    def forward(self, trail: Trail, user: User, answer: ForwardAnswer) -> None:
        pass

    def include(self, trail: Trail, path: str) -> None:
        pass

    def repeated(self, trail: Trail, text: str) -> None:
        pass

    def found(self, trail: Trail, final: FinalDestination) -> None:
        pass

    def passed_over(self, trail: Trail, text: str, why: str) -> None:
        pass

    def refused(self, trail: Trail, refusal: Refusal) -> None:
        pass

    def unavailable(self, trail: Trail, error: TableUnavailable) -> None:
        pass


#: The watch of an expansion that nobody watches.
UNWATCHED: Final[Watch] = _Unwatched()
