"""An old rule as an action and the rules that lead to it.

Before 6.4 a client that had logged in was taken for a local one, whatever its address: ``from local`` and
``from any`` held for it, and ``from source`` did not unless the table named ``local``. Here a rule becomes as many as it
takes to say the same.

Failure: `Untranslatable`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policy.migrate.deliveries import Delivery, delivery
from policy.migrate.oldrule import OldCondition, OldRule, Side, read_rule
from policy.migrate.phrase import Untranslatable
from policy.migrate.rewritten import Rewritten
from policy.migrate.surroundings import Surroundings
from policy.migrate.words import Word, spelt
from policy.quoting import quoted

_LOGINS: Final = (
    'clients that log in do not count as local any longer: rules for "from local" are followed by one with '
    '"auth from any", which is for them'
)
_NO_LOGINS: Final = (
    'clients that log in counted as local, wherever they are: "! auth" keeps them out of rules about addresses'
)
_NEGATED_LOGINS: Final = (
    'clients that log in counted as local, wherever they are: rules for "! from src" are followed by one with '
    '"auth from any", which is for them'
)


@dataclass(slots=True)
class Actions:
    """The actions that were made so far: one for each way of delivery."""

    names: dict[Delivery, str] = field(default_factory=dict)
    #: How many were called so, or nearly so.
    taken: dict[str, int] = field(default_factory=dict)

    def name(self, wanted: Delivery) -> tuple[str, bool]:
        """The name of an action that does this, and whether it is new."""
        if wanted in self.names:
            return self.names[wanted], False
        name = next((each for each in wanted.names if each not in self.taken), wanted.names[-1])
        while name in self.taken:
            self.taken[wanted.names[-1]] += 1
            name = f"{wanted.names[-1]}_{self.taken[wanted.names[-1]]}"
        self.taken[name] = 1
        self.names[wanted] = name
        return name, True


def rewrite_rule(words: tuple[Word, ...], surroundings: Surroundings, actions: Actions) -> Rewritten:
    """The action, if it is the first of its kind, and the rules."""
    rule = read_rule(words)
    variants, notes = _variants(rule, surroundings)
    if not variants:
        raise Untranslatable(
            words[0].offset, 'no client could ever match this rule: who had logged in counted as "local"'
        )
    if rule.rejects:
        return Rewritten(tuple(_match(rule, variant, "reject") for variant in variants), tuple(notes))
    wanted, remarks = delivery(rule, words[0].offset)
    name, is_new = actions.name(wanted)
    lines = [f"action {quoted(name)} {wanted.text}"] if is_new else []
    lines += [_match(rule, variant, f"action {quoted(name)}") for variant in variants]
    return Rewritten(tuple(lines), (*remarks, *notes), action=name)


@dataclass(frozen=True, slots=True)
class _Variant:
    """Who matches: whether logged in, and from where. ``source`` None says nothing, which means local."""

    auth: str
    source: Side | None


def _variants(rule: OldRule, surroundings: Surroundings) -> tuple[list[_Variant], list[str]]:
    side = rule.source
    known = Side("local") if side is None else side
    strangers = known if side else None
    logged_in = _matches_logged_in(known, surroundings)
    if rule.authenticated is True:
        return ([_Variant("auth", Side("any"))] if logged_in else []), []
    if known.form == "any":
        return [_Variant("! auth" if rule.authenticated is False else "", strangers)], []
    if rule.authenticated is False:
        return [_Variant("! auth", strangers)], []
    if not surroundings.takes_logins:
        return [_Variant("", strangers)], []
    if not logged_in:
        return [_Variant("! auth", strangers)], [_NO_LOGINS]
    note = _LOGINS if known.form == "local" else _NEGATED_LOGINS
    return [_Variant("", strangers), _Variant("auth", Side("any"))], [note]


def _matches_logged_in(side: Side, surroundings: Surroundings) -> bool:
    is_within = side.form != "source" or surroundings.has_local(side.table)
    return is_within is not side.negated


def _match(rule: OldRule, variant: _Variant, end: str) -> str:
    parts = ["match", variant.auth]
    if variant.source:
        parts.append(_side("from", variant.source, "src"))
    if rule.destination:
        parts.append(_side("for", rule.destination, "domain"))
    parts += [_condition(each) for each in rule.conditions]
    return " ".join(part for part in (*parts, end) if part)


def _side(word: str, side: Side, form: str) -> str:
    negation = "! " if side.negated else ""
    return f"{negation}{word} {form} {spelt(side.table)}" if side.table else f"{negation}{word} {side.form}"


def _condition(condition: OldCondition) -> str:
    return f"{'! ' if condition.negated else ''}{condition.word} {condition.argument}"
