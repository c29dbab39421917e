"""From the address at RCPT to its final destinations: rules, aliases, virtual addresses, users, their .forward files.

Every address that comes out of an alias is put to the rules again, as one of our own. A name that stands on the right of
its own alias, or in the .forward of its own user, means the user of that name.

Guarantees: it ends, whatever the tables hold: no chain is longer than `MAX_DEPTH`, nothing is expanded within itself, and
one recipient becomes at most `MAX_DESTINATIONS`. A destination that is reached twice is one destination. If any branch
fails, the whole recipient is refused: nobody is told "yes" for a list of which a part is lost. It never waits: what it
would have to wait for it names, all at once.

Failure: `Refusal` with the reply; `TableUnavailable`; `Pending` when users or their .forward have to be fetched first.

smtpd.conf(5), aliases(5), forward(5) of OpenSMTPD.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from policy.config import AnyAction, AnyLocalAction, Config, ExpandOnly, Facts, ForwardOnly, Relay, Rule
from policy.errors import TableUnavailable
from policy.forward import (
    NO_FORWARDS,
    Forward,
    ForwardDeferred,
    ForwardRefused,
    Forwards,
    NoForward,
    Pending,
    parse_forward,
)
from policy.included import read_list
from policy.lookup_order import alias_keys, virtual_keys, virtual_name_keys
from policy.ruleset import match
from policy.tables.passwd import Found, User, Users
from policy.tables.services import find_userinfo, split_tag
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
from policy.trail import FinalDestination, Refusal, Trail
from policy.watch import UNWATCHED, Watch
from spool.address import Address
from spool.message import Destination
from spool.reply import Reply

#: Steps from the recipient to a destination, as in OpenSMTPD: deeper is a mistake, not an organisation.
MAX_DEPTH: Final = 10
#: A list longer than this wants a list server.
MAX_DESTINATIONS: Final = 10_000

_UNKNOWN: Final = Reply(550, "5.1.1", "Invalid recipient")
_NOT_ALLOWED: Final = Reply(550, "5.7.1", "Invalid recipient")
_LIST_PROBLEM: Final = Reply(550, "5.2.4", "Mailing list expansion problem")
_LIST_PROBLEM_NOW: Final = Reply(451, "4.2.4", "Mailing list expansion problem")

_log = logging.getLogger("policy.expand")
_log_lookup = logging.getLogger("policy.tables.lookup")


#: What the owner of a .forward may write for the own name.
_ME: Final = "me"


@dataclass(frozen=True, slots=True)
class _Context:
    """What a name is looked up by: the action that a rule chose for ``address``."""

    address: Address
    action: AnyLocalAction
    #: In whose .forward this stands; None when it stands in a table.
    owner: User | None = None


def expand(
    config: Config,
    facts: Facts,
    users: Users,
    recipient: Address,
    forwards: Forwards = NO_FORWARDS,
    watch: Watch = UNWATCHED,
) -> tuple[FinalDestination, ...]:
    """The destinations of ``recipient``, at least one, in the order they are written."""
    expansion = _Expansion(config, facts, users, recipient, forwards, watch)
    watch.begins(recipient)
    try:
        expansion.address(recipient, Trail())
    except TableUnavailable as error:
        watch.unavailable(expansion.at, error)
        raise
    if expansion.lacking or expansion.unasked:
        raise Pending(tuple(expansion.lacking), tuple(expansion.unasked))
    if not expansion.found:
        raise expansion.refusal(_LIST_PROBLEM, expansion.at, "it expands to nothing")
    return tuple(expansion.found.values())


@dataclass(slots=True)
class _Expansion:
    config: Config
    facts: Facts
    users: Users
    recipient: Address
    forwards: Forwards
    watch: Watch
    found: dict[tuple[str, ...], FinalDestination] = field(default_factory=dict)
    seen: set[tuple[str, ...]] = field(default_factory=set)
    #: Users whose .forward is not known yet, in order.
    lacking: dict[User, None] = field(default_factory=dict)
    #: Names of which it is not known yet whose they are, in order.
    unasked: dict[str, None] = field(default_factory=dict)
    #: Where it is at the moment.
    at: Trail = field(default_factory=Trail)

    def address(self, address: Address, trail: Trail) -> None:
        facts = replace(self.facts, is_internal=True) if trail.steps else self.facts
        # The address of the user whose alias this is may come again: it means the user then.
        kind = "own address" if trail.user and trail.user == address.local.lower() else "address"
        key = (kind, address.local, address.domain.lower(), str(facts.is_internal))
        if not self._is_new(key, str(address), trail):
            return
        trail = self.at = trail.stepped(str(address), key)
        action = self.config.actions[self._rule(facts, address, trail).action]
        if isinstance(action, Relay):
            self._add(action, Destination(address), trail)
        elif action.virtual is None:
            name = address.local.lower()
            self._check_depth(name, trail)
            self._name(name, _Context(address, action), trail)
        else:
            self._virtual(action.virtual, _Context(address, action), trail)

    def refusal(self, reply: Reply, trail: Trail, reason: str) -> Refusal:
        reply = reply.saying(f"{reply.text}: <{self.recipient}>")
        refusal = Refusal(reply, f"<{self.recipient}>: {reason}")
        self.watch.refused(trail, refusal)
        return refusal

    def _rule(self, facts: Facts, address: Address, trail: Trail) -> Rule:
        rule = match(self.config, facts, address)
        self.watch.address(trail, address, rule)
        if rule is None:
            raise self.refusal(_NOT_ALLOWED, trail, f"no rule accepts <{address}>")
        if rule.rejects:
            raise self.refusal(_NOT_ALLOWED, trail, f"the rule at {rule.place} rejects <{address}>")
        return rule

    def _virtual(self, table: Table, context: _Context, trail: Trail) -> None:
        value = self._first(table, virtual_keys(context.address, self.config.sub_addr_delim), trail)
        if value is None:
            raise self.refusal(_UNKNOWN, trail, f"<{context.address}> is not in table {table.name}")
        self._targets(value, context, trail)

    def _name(self, name: str, context: _Context, trail: Trail) -> None:
        plain, tag = split_tag(name, self.config.sub_addr_delim)
        if name != trail.user and not (trail.forwarded and plain == trail.user):
            key = ("name", name, context.action.name)
            if not self._is_new(key, name, trail):
                return
            trail = self.at = trail.named(name, key)
            self.watch.name(trail, name)
            value = self._alias(name, context.action, trail)
            if value is not None:
                self._targets(value, _Context(context.address, context.action), trail)
                return
        self._user(plain, tag or trail.tag, context, trail)

    def _alias(self, name: str, action: AnyLocalAction, trail: Trail) -> str | None:
        delimiter = self.config.sub_addr_delim
        if action.virtual is not None:
            return self._first(action.virtual, virtual_name_keys(name, delimiter), trail)
        return None if action.alias is None else self._first(action.alias, alias_keys(name, delimiter), trail)

    def _user(self, name: str, tag: str, context: _Context, trail: Trail) -> None:
        user = self._find(name, context.action.userbase, trail)
        if user is None:
            self.unasked[name] = None
            self._check_size(trail)
            return
        # Mail that another user receives for all is not this one's to forward.
        if trail.forwarded or context.action.user not in ("", name):
            targets: tuple[Target, ...] | None = ()
        else:
            targets = self._forward(user, trail)
        if targets:
            _log.debug("<%s>: %s: the .forward of %s counts", self.recipient, trail, name)
            trail = trail.through_forward_of(name, tag)
            self._each(targets, _Context(context.address, context.action, user), trail)
        elif targets is not None:
            self._deliver(Destination(context.address, name, tag), context, trail)

    def _find(self, name: str, userbase: Table | None, trail: Trail) -> User | None:
        """None when it is not known yet."""
        found = self.users.known(name) if userbase is None else Found(find_userinfo(userbase, name))
        if found is None:
            return None
        user = found.user
        if userbase is not None:
            home = None if user is None else f"{user.uid}:{user.gid}:{user.home}"
            self._hear(userbase, name, home, trail)
        if user is None:
            where = f" in table {userbase.name}" if userbase else ""
            raise self.refusal(_UNKNOWN, trail, f'there is no user "{name}"{where}')
        return user

    def _deliver(self, destination: Destination, context: _Context, trail: Trail) -> None:
        """One envelope for this machine, where the action has one to give."""
        action = context.action
        if isinstance(action, ForwardOnly):
            raise self.refusal(_LIST_PROBLEM_NOW, trail, f'action "{action.name}" forwards only: {_text(destination)}')
        if isinstance(action, ExpandOnly) and not destination.target:
            raise self.refusal(_LIST_PROBLEM, trail, f'action "{action.name}" expands only: {_text(destination)}')
        self._add(action, destination, trail)

    def _forward(self, user: User, trail: Trail) -> tuple[Target, ...] | None:
        """What stands in the .forward of ``user``, none of it when mail stays; None when that is not known yet."""
        answer = self.forwards.known(user)
        if answer is None:
            self.lacking[user] = None
            self._check_size(trail)
            return None
        self.watch.forward(trail, user, answer)
        match answer:
            case NoForward():
                return ()
            case Forward():
                try:
                    return parse_forward(answer.content)
                except TargetSyntaxError as error:
                    reason = f"the .forward of {user.name}: {error}"
                    raise self.refusal(_LIST_PROBLEM_NOW, trail, reason) from error
            case ForwardRefused():
                raise self.refusal(_LIST_PROBLEM, trail, f"the .forward of {user.name}: {answer.reason}")
            case ForwardDeferred():
                raise self.refusal(_LIST_PROBLEM_NOW, trail, f"the .forward of {user.name}: {answer.reason}")

    def _targets(self, value: str, context: _Context, trail: Trail) -> None:
        try:
            targets = parse_targets(value)
        except TargetSyntaxError as error:
            raise self.refusal(_LIST_PROBLEM_NOW, trail, f"{trail}: {error}") from error
        self._each(targets, context, trail)

    def _each(self, targets: Iterable[Target], context: _Context, trail: Trail) -> None:
        for target in targets:
            self._check_depth(str(target), trail)
            self._target(target, context, trail)

    def _target(self, target: Target, context: _Context, trail: Trail) -> None:
        match target:
            case MailboxTarget():
                self.address(target.address, trail)
            case UserTarget():
                is_owner = context.owner is not None and target.name == _ME
                self._name(trail.user if is_owner else target.name, context, trail)
            case DirectTarget():
                self._direct(target, context, trail)
            case IncludeTarget():
                self._include(target, context, trail)
            case ErrorTarget():
                raise self.refusal(self._error(target, context), trail, f"{trail} -> {target}")

    @staticmethod
    def _error(target: ErrorTarget, context: _Context) -> Reply:
        return _LIST_PROBLEM_NOW if isinstance(context.action, ForwardOnly) else target.reply

    def _direct(self, target: DirectTarget, context: _Context, trail: Trail) -> None:
        text = self.config.root + target.text if target.text.startswith("/") else target.text
        owner = context.owner
        if owner is None:
            self._deliver(Destination(context.address, target=text), context, trail)
        elif owner.uid:
            self._deliver(Destination(context.address, trail.user, trail.tag, text), context, trail)
        else:
            reason = f"{owner.name} may not use commands and files in a .forward: {target}"
            raise self.refusal(_LIST_PROBLEM_NOW, trail, reason)

    def _include(self, target: IncludeTarget, context: _Context, trail: Trail) -> None:
        if context.owner is not None:
            _log.warning("the .forward of %s: %s is passed over", context.owner.name, target)
            self.watch.passed_over(trail, str(target), "a .forward includes nothing")
            return
        key = ("include", target.path)
        if self._is_new(key, str(target), trail):
            trail = self.at = trail.stepped(str(target), key)
            path = self.config.root + target.path
            self.watch.include(trail, path)
            self._each(read_list(path), context, trail)

    def _check_depth(self, text: str, trail: Trail) -> None:
        if len(trail.steps) >= MAX_DEPTH:
            raise self.refusal(_LIST_PROBLEM, trail, f"more than {MAX_DEPTH} steps: {trail} -> {text}")

    def _is_new(self, key: tuple[str, ...], text: str, trail: Trail) -> bool:
        if key in trail.open:
            raise self.refusal(_LIST_PROBLEM, trail, f"this alias leads back to itself: {trail} -> {text}")
        if key in self.seen:
            self.watch.repeated(trail, text)
            return False
        self.seen.add(key)
        return True

    def _add(self, action: AnyAction, destination: Destination, trail: Trail) -> None:
        _log.debug("<%s>: %s -> action %s", self.recipient, trail, action.name)
        final = FinalDestination(action, destination)
        self.watch.found(trail, final)
        self.found.setdefault(final.key, final)
        self._check_size(trail)

    def _check_size(self, trail: Trail) -> None:
        if len(self.found) + len(self.lacking) > MAX_DESTINATIONS:
            raise self.refusal(_LIST_PROBLEM, trail, f"more than {MAX_DESTINATIONS} destinations")

    def _first(self, table: Table, keys: Iterable[str], trail: Trail) -> str | None:
        for key in keys:
            value = table.lookup(key)
            self._hear(table, key, value, trail)
            if value is not None:
                return value
        return None

    def _hear(self, table: Table, key: str, value: str | None, trail: Trail) -> None:
        _log_lookup.debug('table %s: "%s" -> %s', table.name, key, value)
        self.watch.asked(trail, table, key, value)


def _text(destination: Destination) -> str:
    return f"{destination.target} is no address" if destination.target else f"{destination.user} is a user"
