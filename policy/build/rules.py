"""``match`` lines."""

from __future__ import annotations

from typing import Final

from policy.build.workbench import Workbench
from policy.config import Condition, For, From, Rule
from policy.grammar.syntax import Given, RuleStatement
from policy.suggestion import did_you_mean
from policy.tables.service import DOMAIN, MAILADDR, NETADDR, REGEX, STRING
from policy.tables.table import Shape, Table

#: What the table of a condition must be; those that are not named here take both.
_WANTED: Final = {
    "tag": Shape.LIST,
    "helo": Shape.LIST,
    "src": Shape.LIST,
    "rdns": Shape.LIST,
    "domain": Shape.LIST,
    "from auth": Shape.LIST,
}

#: How the key of a condition is compared.
_SERVICES: Final = {
    "tag": STRING,
    "helo": DOMAIN,
    "src": NETADDR,
    "rdns": DOMAIN,
    "domain": DOMAIN,
    "auth": MAILADDR,
    "mail-from": MAILADDR,
    "rcpt-to": MAILADDR,
}


def build_rule(bench: Workbench, statement: RuleStatement) -> Rule:
    """The rule, with what could be understood of it. What is not written is ``from local`` and ``for local``."""
    return Rule(
        _from(bench, statement.source),
        _for(bench, statement.destination),
        tuple(_condition(bench, given) for given in statement.conditions),
        _action(bench, statement),
        str(statement.place),
    )


def _action(bench: Workbench, statement: RuleStatement) -> str:
    if statement.action is None:
        return ""
    name = statement.action.text
    if ("action", name) not in bench.script.begun:
        known = did_you_mean(name, bench.script.names("action"), "declared are")
        bench.complain(statement.action.place, f'no action "{name}" is declared{known}')
    return name


def _from(bench: Workbench, given: Given | None) -> From:
    if given is None:
        return From("local")
    table = _table(bench, given, f"from {given.word}")
    return From(given.word, table, given.negated, given.is_regex)


def _for(bench: Workbench, given: Given | None) -> For:
    if given is None:
        return For("local")
    return For(given.word, _table(bench, given, f"for {given.word}"), given.negated, given.is_regex)


def _condition(bench: Workbench, given: Given) -> Condition:
    return Condition(given.word, _table(bench, given, given.word), given.negated, given.is_regex)


def _table(bench: Workbench, given: Given, where: str) -> Table | None:
    if given.argument is None:
        return None
    wanted = Shape.LIST if given.is_regex else _WANTED.get(where, _WANTED.get(given.word, Shape.EITHER))
    service = REGEX if given.is_regex else _SERVICES[given.word]
    return bench.shelf.use(given.table(), wanted, f'"{where}"', service)
