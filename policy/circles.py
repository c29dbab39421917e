"""Aliases that lead back to themselves, found before any mail comes for them.

An expansion refuses such a recipient; here the same steps are walked for every entry of the tables that actions use.

Guarantees: what is found is a circle for mail of this machine. The walk is a list, not a recursion, and looks at no more
than `MAX_ENTRIES` of each table and `MAX_NODES` in all, so a circle may stay unseen: in a larger table, in an included
list, behind a rule that asks for the sender, or through a user's .forward.

Failure: `TableUnavailable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Final, NamedTuple

from policy.config import REPORT_FACTS, AnyAction, AnyLocalAction, Config, Relay
from policy.lookup_order import alias_keys, virtual_keys, virtual_name_keys
from policy.ruleset import match
from policy.tables.table import Table
from policy.target import ErrorTarget, MailboxTarget, Target, TargetSyntaxError, UserTarget, parse_targets
from spool.address import Address, AddressSyntaxError, parse_address

#: Entries of one table: so many take 0.2 s, and 0.7 s where most lead on to others. It is done at every start.
MAX_ENTRIES: Final = 25_000
#: Names and addresses in all, whatever long lists they stand in.
MAX_NODES: Final = 100_000

_INTERNAL: Final = replace(REPORT_FACTS, is_internal=True)


class Node(NamedTuple):
    """What is expanded: a name, for which an action's table is asked, or an address, for which the rules are."""

    #: Empty for an address.
    action: str
    what: str | Address

    def __str__(self) -> str:
        return str(self.what)


@dataclass(frozen=True, slots=True)
class Circle:
    """Nodes, each of which leads to the next and the last to the first."""

    nodes: tuple[Node, ...]
    #: Where the first of them is written.
    table: Table
    key: str

    def __str__(self) -> str:
        return " -> ".join(map(str, (*self.nodes, self.nodes[0])))


def find_circles(config: Config, action: AnyLocalAction) -> Iterator[Circle]:
    """The circles among the aliases or virtual addresses of ``action``."""
    table = table_of(action)
    if table is not None:
        yield from _Walk(config).circles(action, table)


def table_of(action: AnyLocalAction) -> Table | None:
    """Where ``action`` looks for names."""
    return action.alias if action.virtual is None else action.virtual


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a table of ``action`` says about a node."""

    action: AnyLocalAction
    table: Table
    key: str
    value: str


@dataclass(slots=True)
class _Walk:
    config: Config
    done: set[Node] = field(default_factory=set)
    #: The action that rules choose for a domain. Asking them for every address of a large table would take long.
    by_domain: dict[str, AnyLocalAction | None] = field(default_factory=dict)

    def circles(self, action: AnyLocalAction, table: Table) -> Iterator[Circle]:
        """Every circle that is met from the entries of ``table``, once."""
        for start in self._starts(action, table):
            if start not in self.done and len(self.done) < MAX_NODES:
                yield from filter(None, map(self._circle, self._walk(start)))

    def _starts(self, action: AnyLocalAction, table: Table) -> Iterator[Node]:
        for key in islice(table.keys(), MAX_ENTRIES):
            value = table.lookup(key)
            if value is None or self._is_an_end(value, action, table):
                continue
            if key.startswith("@"):
                # It stands for more addresses than can be tried; what it leads to can.
                yield from (node for node in self._targets(value, action, "") if not node.action)
            elif "@" not in key.rstrip("@"):
                yield Node(action.name, key.rstrip("@"))
            else:
                yield from _addresses(key)

    def _is_an_end(self, value: str, action: AnyLocalAction, table: Table) -> bool:
        """Whether it is seen at a glance that ``value`` leads to nothing else: nearly all of a large table does."""
        if not value.isalnum():
            return False
        return table.lookup(value) is None and (action.virtual is None or table.lookup(f"{value}@") is None)

    def _walk(self, start: Node) -> Iterator[tuple[Node, ...]]:
        path = {start: self._following(start)}
        while path:
            node, following = next(reversed(path.items()))
            target = next(following, None)
            if target is None:
                path.popitem()
                self.done.add(node)
            elif target in path:
                nodes = tuple(path)
                yield nodes[nodes.index(target) :]
            elif target not in self.done:
                path[target] = self._following(target)

    def _following(self, node: Node) -> Iterator[Node]:
        entry = self._entry(node)
        if entry is not None:
            yield from self._targets(entry.value, entry.action, str(node))
        elif isinstance(node.what, Address):
            action = self._action_for(node.what)
            if action is not None and action.virtual is None:
                yield Node(action.name, node.what.local.lower())

    def _targets(self, value: str, action: AnyLocalAction, name: str) -> Iterator[Node]:
        for target in _parsed(value):
            if isinstance(target, MailboxTarget):
                address = Address(target.address.local, target.address.domain.lower())
                if not self._is_own(address, name):
                    yield Node("", address)
            elif isinstance(target, UserTarget) and target.name != name:
                yield Node(action.name, target.name)

    def _is_own(self, address: Address, name: str) -> bool:
        """Whether ``address`` means the user ``name``, because it stands on the right of that very name."""
        action = self._action_for(address) if address.local.lower() == name else None
        return action is not None and action.virtual is None

    def _entry(self, node: Node) -> _Entry | None:
        delimiter = self.config.sub_addr_delim
        if isinstance(node.what, Address):
            action = self._action_for(node.what)
            if action is None or action.virtual is None:
                return None
            return _first(action, action.virtual, virtual_keys(node.what, delimiter))
        action = _local(self.config.actions[node.action])
        if action is not None and action.virtual is not None:
            return _first(action, action.virtual, virtual_name_keys(node.what, delimiter))
        if action is not None and action.alias is not None:
            return _first(action, action.alias, alias_keys(node.what, delimiter))
        return None

    def _action_for(self, address: Address) -> AnyLocalAction | None:
        if address.domain not in self.by_domain:
            self.by_domain[address.domain] = self._action_by_rules(address)
        return self.by_domain[address.domain]

    def _action_by_rules(self, address: Address) -> AnyLocalAction | None:
        rule = match(self.config, _INTERNAL, address)
        return None if rule is None or rule.rejects else _local(self.config.actions[rule.action])

    def _circle(self, nodes: tuple[Node, ...]) -> Circle | None:
        """The circle of ``nodes``, if it is one: a name that only leads back to itself is the user of that name."""
        if len({node.what for node in nodes if node.action}) == 1:
            return None
        addresses = (node.what for node in nodes if isinstance(node.what, Address))
        if any(self._action_by_rules(address) is not self._action_for(address) for address in addresses):
            return None
        first = next(place for place, node in enumerate(nodes) if self._entry(node) is not None)
        entry = self._entry(nodes[first])
        assert entry is not None
        return Circle(nodes[first:] + nodes[:first], entry.table, entry.key)


def _local(action: AnyAction) -> AnyLocalAction | None:
    return None if isinstance(action, Relay) else action


def _first(action: AnyLocalAction, table: Table, keys: Iterable[str]) -> _Entry | None:
    found = ((key, table.lookup(key)) for key in keys)
    return next((_Entry(action, table, key, value) for key, value in found if value is not None), None)


def _parsed(value: str) -> tuple[Target, ...]:
    try:
        targets = parse_targets(value)
    except TargetSyntaxError:
        return ()
    # An expansion comes no further than to a refusal with words of its own.
    return tuple(takewhile(lambda target: not isinstance(target, ErrorTarget), targets))


def _addresses(text: str) -> Iterator[Node]:
    with suppress(AddressSyntaxError):
        yield Node("", parse_address(text))
