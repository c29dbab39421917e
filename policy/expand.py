"""From the address at RCPT to its final destinations: rules, aliases, virtual addresses, users.

Every address that comes out of an alias is put to the rules again, as one of our own. A name that stands on the right of
its own alias means the user of that name.

Guarantees: it ends, whatever the tables hold: no chain is longer than `MAX_DEPTH`, nothing is expanded within itself, and
one recipient becomes at most `MAX_DESTINATIONS`. A destination that is reached twice is one destination. If any branch
fails, the whole recipient is refused: nobody is told "yes" for a list of which a part is lost.

Failure: `Refusal` with the reply; `TableUnavailable`.

smtpd.conf(5), aliases(5) of OpenSMTPD.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from policy.config import AnyAction, AnyLocalAction, Config, Facts, Relay, Rule
from policy.errors import PolicyError, TableUnavailable
from policy.ruleset import match
from policy.tables.passwd import Users
from policy.tables.services import split_tag
from policy.tables.table import Table
from policy.target import (
    DirectTarget,
    ErrorTarget,
    IncludeTarget,
    MailboxTarget,
    Target,
    TargetSyntaxError,
    UserTarget,
    parse_targets,
)
from spool.address import Address
from spool.message import Destination
from spool.reply import Reply

#: Steps from the recipient to a destination, as in OpenSMTPD: deeper is a mistake, not an organisation.
MAX_DEPTH: Final = 10
#: A list longer than this wants a list server.
MAX_DESTINATIONS: Final = 10_000
#: Octets of one included list.
MAX_INCLUDE_OCTETS: Final = 1 << 20

_UNKNOWN: Final = Reply(550, "5.1.1", "Invalid recipient")
_NOT_ALLOWED: Final = Reply(550, "5.7.1", "Invalid recipient")
_LIST_PROBLEM: Final = Reply(550, "5.2.4", "Mailing list expansion problem")
_LIST_PROBLEM_NOW: Final = Reply(451, "4.2.4", "Mailing list expansion problem")

_log = logging.getLogger("policy.expand")
_log_lookup = logging.getLogger("policy.tables.lookup")


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


@dataclass(frozen=True, slots=True)
class _Trail:
    """How an address or name was reached."""

    #: What was expanded on the way, the recipient first.
    steps: tuple[str, ...] = ()
    #: Those of the steps that may not come again, with the action in whose tables they stood.
    open: frozenset[tuple[str, ...]] = frozenset()
    #: The nearest name on the way.
    user: str = ""

    def __str__(self) -> str:
        return " -> ".join(self.steps)

    def stepped(self, text: str, key: tuple[str, ...]) -> _Trail:
        return replace(self, steps=(*self.steps, text), open=self.open | {key})


@dataclass(frozen=True, slots=True)
class _Context:
    """What a name is looked up by: the action that a rule chose for ``address``."""

    address: Address
    action: AnyLocalAction


def expand(config: Config, facts: Facts, users: Users, recipient: Address) -> tuple[FinalDestination, ...]:
    """The destinations of ``recipient``, at least one, in the order they are written."""
    expansion = _Expansion(config, facts, users, recipient)
    expansion.address(recipient, _Trail())
    if not expansion.found:
        raise expansion.refusal(_LIST_PROBLEM, "it expands to nothing")
    return tuple(expansion.found.values())


@dataclass(slots=True)
class _Expansion:
    config: Config
    facts: Facts
    users: Users
    recipient: Address
    found: dict[tuple[str, ...], FinalDestination] = field(default_factory=dict)
    seen: set[tuple[str, ...]] = field(default_factory=set)

    def address(self, address: Address, trail: _Trail) -> None:
        facts = replace(self.facts, is_internal=True) if trail.steps else self.facts
        key = ("address", address.local, address.domain.lower(), str(facts.is_internal))
        if not self._is_new(key, str(address), trail):
            return
        action = self._action(self._rule(facts, address))
        trail = trail.stepped(str(address), key)
        if isinstance(action, Relay):
            self._add(action, Destination(address), trail)
        elif action.virtual is None:
            self._name(address.local.lower(), _Context(address, action), trail)
        else:
            self._virtual(action.virtual, _Context(address, action), trail)

    def refusal(self, reply: Reply, reason: str) -> Refusal:
        return Refusal(reply.saying(f"{reply.text}: <{self.recipient}>"), f"<{self.recipient}>: {reason}")

    def _rule(self, facts: Facts, address: Address) -> Rule:
        rule = match(self.config, facts, address)
        if rule is None:
            raise self.refusal(_NOT_ALLOWED, f"no rule accepts <{address}>")
        if rule.rejects:
            raise self.refusal(_NOT_ALLOWED, f"the rule at {rule.place} rejects <{address}>")
        return rule

    def _action(self, rule: Rule) -> AnyAction:
        return self.config.actions[rule.action]

    def _virtual(self, table: Table, context: _Context, trail: _Trail) -> None:
        keys = _virtual_keys(context.address, self.config.sub_addr_delim)
        value = _first(table, keys)
        if value is None:
            raise self.refusal(_UNKNOWN, f"<{context.address}> is not in table {table.name}")
        self._targets(value, context, trail)

    def _name(self, name: str, context: _Context, trail: _Trail) -> None:
        if name != trail.user:
            key = ("name", name, context.action.name)
            if not self._is_new(key, name, trail):
                return
            value = self._alias(name, context.action)
            trail = replace(trail.stepped(name, key), user=name)
            if value is not None:
                self._targets(value, context, trail)
                return
        plain, tag = split_tag(name, self.config.sub_addr_delim)
        if self.users.find(plain) is None:
            raise self.refusal(_UNKNOWN, f'there is no user "{plain}"')
        self._add(context.action, Destination(context.address, plain, tag), trail)

    def _alias(self, name: str, action: AnyLocalAction) -> str | None:
        plain, tag = split_tag(name, self.config.sub_addr_delim)
        names = (name, plain) if tag else (name,)
        if action.virtual is not None:
            return _first(action.virtual, (*(f"{each}@" for each in names), *names))
        return None if action.alias is None else _first(action.alias, names)

    def _targets(self, value: str, context: _Context, trail: _Trail) -> None:
        try:
            targets = parse_targets(value)
        except TargetSyntaxError as error:
            raise self.refusal(_LIST_PROBLEM_NOW, f"{trail}: {error}") from error
        for target in targets:
            self._target(target, context, trail)

    def _target(self, target: Target, context: _Context, trail: _Trail) -> None:
        if len(trail.steps) >= MAX_DEPTH:
            raise self.refusal(_LIST_PROBLEM, f"more than {MAX_DEPTH} steps: {trail} -> {target}")
        match target:
            case MailboxTarget():
                self.address(target.address, trail)
            case UserTarget():
                self._name(target.name, context, trail)
            case DirectTarget():
                self._add(context.action, Destination(context.address, target=self._placed(target.text)), trail)
            case IncludeTarget():
                self._include(target, context, trail)
            case ErrorTarget():
                raise self.refusal(target.reply, f"{trail} -> {target}")

    def _include(self, target: IncludeTarget, context: _Context, trail: _Trail) -> None:
        key = ("include", target.path)
        if self._is_new(key, str(target), trail):
            trail = trail.stepped(str(target), key)
            for included in _read_list(self.config.root + target.path):
                self._target(included, context, trail)

    def _placed(self, direct: str) -> str:
        return self.config.root + direct if direct.startswith("/") else direct

    def _is_new(self, key: tuple[str, ...], text: str, trail: _Trail) -> bool:
        if key in trail.open:
            raise self.refusal(_LIST_PROBLEM, f"this alias leads back to itself: {trail} -> {text}")
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    def _add(self, action: AnyAction, destination: Destination, trail: _Trail) -> None:
        address = destination.address
        end = (destination.user, destination.extension, destination.target)
        key = (action.name, *(end if any(end) else (address.local, address.domain.lower())))
        _log.debug("<%s>: %s -> action %s", self.recipient, trail, action.name)
        self.found.setdefault(key, FinalDestination(action, destination))
        if len(self.found) > MAX_DESTINATIONS:
            raise self.refusal(_LIST_PROBLEM, f"more than {MAX_DESTINATIONS} destinations")


def _virtual_keys(address: Address, delimiter: str) -> Iterator[str]:
    user, domain = address.local.lower(), address.domain.lower()
    plain, tag = split_tag(user, delimiter)
    users = (user, plain) if tag else (user,)
    yield from (f"{each}@{domain}" for each in users)
    yield from users
    yield f"@{domain}"
    yield "@"


def _first(table: Table, keys: Iterator[str] | tuple[str, ...]) -> str | None:
    for key in keys:
        value = table.lookup(key)
        _log_lookup.debug('table %s: "%s" -> %s', table.name, key, value)
        if value is not None:
            return value
    return None


def _read_list(path: str) -> Iterator[Target]:
    for number, raw in enumerate(_read_text(path).split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            yield from parse_targets(line)
        except TargetSyntaxError as error:
            _log.warning("%s:%d: %s; the line is ignored", path, number, error)


def _read_text(path: str) -> str:
    try:
        # Without O_NONBLOCK a FIFO in the list's place would stop us for ever.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TableUnavailable(f"{path} is not a regular file")
            data = file.read(MAX_INCLUDE_OCTETS + 1)
    except OSError as error:
        raise TableUnavailable(f"{path}: {error.strerror}") from error
    if len(data) > MAX_INCLUDE_OCTETS:
        raise TableUnavailable(f"{path} is larger than {MAX_INCLUDE_OCTETS} octets")
    return data.decode(errors="surrogateescape")
