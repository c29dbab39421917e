"""The expansion of one recipient as a tree, built while it happens.

Guarantees: what is told of one expansion makes one tree, whatever ends it. At most `MAX_ASKED` addresses keep the story of
their rules: the rest of a long list are in the tree alone.

Failure: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from policy.config import Config, Facts, LocalAction, Rule
from policy.errors import TableUnavailable
from policy.explain import Asked, Node
from policy.explain_rules import table_words, tried
from policy.forward import Forward, ForwardAnswer, parse_forward
from policy.quoting import quoted
from policy.tables.passwd import User
from policy.tables.table import Table
from policy.target import TargetSyntaxError
from policy.trail import FinalDestination, Refusal, Trail
from spool.address import Address, parse_address

#: Addresses whose rules are told: a page or two for a reader, and little memory for a list of thousands.
MAX_ASKED: Final = 100


@dataclass(slots=True)
class _Draft:
    """A node that is not finished."""

    kind: str
    text: str
    notes: list[str] = field(default_factory=list)
    #: Tables that do not know it.
    missing: list[str] = field(default_factory=list)
    envelope: int | None = None
    #: Whether it stands for something else, so that an end of its own is a leaf below it.
    is_expanded: bool = False
    children: list[_Draft] = field(default_factory=list)

    def done(self, is_refused: bool) -> Node:
        note = "; ".join(self.notes)
        if self.missing:
            missing = f"not in {' or '.join(dict.fromkeys(self.missing))}"
            note = f"{note} ({missing})" if note else missing
        children = tuple(child.done(is_refused) for child in self.children)
        return Node(self.kind, self.text, note, None if is_refused else self.envelope, children)


def _is_empty(forward: Forward) -> bool:
    """Whether it says nothing, and so counts as not there."""
    try:
        return not parse_forward(forward.content)
    except TargetSyntaxError:
        return False


class ExpansionTree:
    """A `policy.watch.Watch`; read `addresses` and `tree` when the expansion has ended."""

    def __init__(self, config: Config, facts: Facts) -> None:
        self._config = config
        self._facts = facts
        self._nodes: dict[tuple[str, ...], _Draft] = {}
        self._numbers: dict[tuple[str, ...], int] = {}
        self._addresses: list[Asked] = []
        # What was found before a refusal is not queued.
        self._is_refused = False
        actions = config.actions.values()
        self._userbases = [each.userbase for each in actions if isinstance(each, LocalAction) and each.userbase]

    @property
    def addresses(self) -> tuple[Asked, ...]:
        """The addresses that were put to the rules, in order."""
        return tuple(self._addresses)

    def tree(self) -> Node | None:
        """The recipient, and all that became of it; None when it did not come so far."""
        return next((draft.done(self._is_refused) for draft in self._nodes.values()), None)

    # -- what is told -------------------------------------------------------------------------------------------------

    def begins(self, recipient: Address) -> None:
        """See `Watch`."""
        self._nodes.clear()
        self._numbers.clear()
        self._addresses.clear()

    def address(self, trail: Trail, address: Address, rule: Rule | None) -> None:
        """See `Watch`."""
        node = self._added(trail, "address", str(address))
        self._ask(trail, address)
        if rule and not rule.rejects:
            node.notes.append(f"action {rule.action}")

    def name(self, trail: Trail, name: str) -> None:
        """See `Watch`."""
        self._added(trail, "name", name)

    def asked(self, trail: Trail, table: Table, key: str, answer: str | None) -> None:
        """See `Watch`."""
        node = self._nodes[trail.steps]
        words = table_words(self._config, table)
        if answer is None:
            node.missing.append(words)
            return
        if table in self._userbases:
            node.notes.append(f"in {words}")
            return
        node.missing.clear()
        node.is_expanded = True
        by = "" if key == node.text.lower() else f" by {quoted(key)}"
        node.notes.append(f"{words}{by}: {answer}")

    def forward(self, trail: Trail, user: User, answer: ForwardAnswer) -> None:
        """See `Watch`."""
        node = self._nodes[trail.steps]
        if not isinstance(answer, Forward):
            return
        is_empty = _is_empty(answer)
        node.is_expanded = node.is_expanded or not is_empty
        node.notes.append(f".forward of {user.name}{' is empty' if is_empty else ''}")

    def include(self, trail: Trail, path: str) -> None:
        """See `Watch`."""
        self._added(trail, "include", path)

    def repeated(self, trail: Trail, text: str) -> None:
        """See `Watch`."""
        self._leaf(trail, "repeated", text, "expanded above already")

    def found(self, trail: Trail, final: FinalDestination) -> None:
        """See `Watch`."""
        number = self._numbers.setdefault(final.key, len(self._numbers) + 1)
        destination = final.destination
        node = self._nodes[trail.steps]
        if destination.target:
            kind = "command" if destination.target.startswith("|") else "file"
            self._leaf(trail, kind, destination.target, "").envelope = number
        elif node.is_expanded:
            self._leaf(trail, "user", destination.user, "").envelope = number
        else:
            node.envelope = number
            if destination.user:
                node.notes.append(f"user {destination.user}")

    def passed_over(self, trail: Trail, text: str, why: str) -> None:
        """See `Watch`."""
        self._leaf(trail, "passed over", text, why)

    def refused(self, trail: Trail, refusal: Refusal) -> None:
        """See `Watch`."""
        self._is_refused = True
        self._leaf(trail, "error", "refused", str(refusal).partition(">: ")[2] or str(refusal))

    def unavailable(self, trail: Trail, error: TableUnavailable) -> None:
        """See `Watch`."""
        self._is_refused = True
        if trail.steps and trail.steps not in self._nodes:
            # A table of the rules themselves: nothing was told of the address yet.
            self._added(trail, "address", trail.steps[-1])
            self._ask(trail, parse_address(trail.steps[-1]))
        self._leaf(trail, "error", "temporary failure", str(error))

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _ask(self, trail: Trail, address: Address) -> None:
        if len(self._addresses) < MAX_ASKED:
            facts = self._facts if len(trail.steps) == 1 else replace(self._facts, is_internal=True)
            self._addresses.append(tried(self._config, facts, address))

    def _added(self, trail: Trail, kind: str, text: str) -> _Draft:
        draft = self._nodes[trail.steps] = _Draft(kind, text)
        above = self._nodes.get(trail.steps[:-1])
        if above is not None:
            above.children.append(draft)
        return draft

    def _leaf(self, trail: Trail, kind: str, text: str, note: str) -> _Draft:
        leaf = _Draft(kind, text, [note] if note else [])
        above = self._nodes.get(trail.steps)
        if above is None:
            self._nodes.setdefault((), leaf)
        else:
            above.children.append(leaf)
        return leaf
