"""Why rules match, in words: each that is tried names its condition as written, and what was compared with it.

Guarantees: what is said is what `policy.ruleset` found; nothing is decided here.

Failure: none; a table that cannot be asked is the last trial's reason.
"""

from __future__ import annotations

import re
from typing import Final

from policy.config import AnyCondition, Condition, Config, Facts, For, From, Rule
from policy.errors import TableUnavailable
from policy.explain import Asked, Trial
from policy.quoting import quoted
from policy.ruleset import LOCAL_SOURCE, failing, source_key
from policy.tables.table import Shape, Table
from spool.address import Address

#: Elements of a table that is written in place which are shown; the line is the operator's own.
MAX_ELEMENTS: Final = 4

_WORD: Final = re.compile(r"[A-Za-z0-9_.@/+-]+")


def tried(config: Config, facts: Facts, address: Address) -> Asked:
    """Every rule up to the one that decides about ``address``."""
    return Asked(str(address), facts.is_internal, tuple(_trials(config, facts, address)))


def rule_words(config: Config, rule: Rule) -> str:
    """``match from any for domain <vdoms> action receive``."""
    end = "reject" if rule.rejects else f"action {_plain(rule.action)}"
    return " ".join(["match", *(condition_words(config, each) for each in _as_written(rule)), end])


def condition_words(config: Config, asked: AnyCondition) -> str:
    """``! from src <inside>``, ``tls``."""
    words = ["!"] if asked.negated else []
    words += [asked.what] if isinstance(asked, Condition) else [_PREPOSITIONS[type(asked)], asked.form]
    if asked.is_regex:
        words.append("regex")
    if asked.table is not None:
        words.append(_elements(config, asked.table))
    return " ".join(words)


def table_words(config: Config, table: Table) -> str:
    """``<vdoms>``; ``{ ... }`` for a table that is written in place."""
    return f"<{table.name}>" if table.name in config.tables else "{ ... }"


def _elements(config: Config, table: Table) -> str:
    """``<vdoms>``; the elements of a table that is written in place."""
    try:
        keys = [] if table.name in config.tables else _written_keys(table)
    except TableUnavailable:
        keys = []
    if not keys:
        return table_words(config, table)
    if len(keys) == 1:
        return _plain(keys[0])
    shown = [_plain(key) for key in keys[:MAX_ELEMENTS]]
    if len(keys) > MAX_ELEMENTS:
        shown.append(f"and {len(keys) - MAX_ELEMENTS} more")
    return f"{{ {', '.join(shown)} }}"


def _written_keys(table: Table) -> list[str]:
    keys = list(table.keys())
    # A list maps each key, which is lower-case, to what was written: "\S" is no "\s".
    return [table.lookup(key) or key for key in keys] if table.shape is Shape.LIST else keys


def _trials(config: Config, facts: Facts, address: Address) -> list[Trial]:
    trials: list[Trial] = []
    for rule in config.rules:
        try:
            against = failing(rule, config, facts, address)
        except TableUnavailable as error:
            trials.append(_trial(config, rule, f"{error}: nothing can be decided now"))
            break
        if against is None:
            compared = _Compared(config, facts, address, holds=True)
            reasons = [_reason(config, each, compared) for each in rule.asked if compared.words(each)]
            trials.append(_trial(config, rule, "; ".join(reasons) or "it is for everything", matched=True))
            break
        trials.append(_trial(config, rule, _reason(config, against, _Compared(config, facts, address, holds=False))))
    return trials


def _trial(config: Config, rule: Rule, reason: str, *, matched: bool = False) -> Trial:
    return Trial(rule.place, rule_words(config, rule), matched, reason)


def _reason(config: Config, asked: AnyCondition, compared: _Compared) -> str:
    words = compared.words(asked)
    return condition_words(config, asked) + (f": {words}" if words else "")


class _Compared:
    """What stands on the other side of a condition that holds, or does not."""

    def __init__(self, config: Config, facts: Facts, address: Address, *, holds: bool) -> None:
        self._config = config
        self._facts = facts
        self._address = address
        self._holds = holds

    def words(self, asked: AnyCondition) -> str:
        """A sentence about the value, or nothing where there is nothing to say."""
        is_so = self._holds is not asked.negated
        match asked:
            case From():
                return self._origin(asked, is_so)
            case For():
                return self._destination(asked, is_so)
            case Condition():
                return self._further(asked, is_so)

    def _origin(self, asked: From, is_so: bool) -> str:
        facts = self._facts
        match asked.form:
            case "any":
                return "" if self._holds else "nobody is left"
            case "auth":
                return self._login(asked, is_so)
            case "rdns":
                return self._rdns(asked, is_so)
            case "socket" if facts.is_internal:
                return "it came out of an alias, and not through the socket"
            case "socket":
                return f"the client is {self._client()}"
            case "local" if facts.is_internal:
                return "it came out of an alias"
            case "local":
                return f"{self._client()} is {_not(is_so)}of this machine"
            case _:
                return _listed(asked, self._client(), is_so)

    def _client(self) -> str:
        if self._facts.is_internal:
            return f"{quoted(LOCAL_SOURCE)}, as it came out of an alias,"
        return "the socket" if self._facts.source == LOCAL_SOURCE else source_key(self._facts)

    def _login(self, asked: From | Condition, is_so: bool) -> str:
        login = self._facts.login
        if login is None:
            return "the client is not logged in"
        if asked.table is None:
            return f"the client is logged in as {login}" if login else "the socket counts as logged in"
        return _listed(asked, quoted(login), is_so) if login else "the socket has no login"

    def _rdns(self, asked: From, is_so: bool) -> str:
        name = LOCAL_SOURCE if self._facts.is_internal else self._facts.rdns
        if not name:
            return "the client has no name in the reverse DNS"
        if asked.table is not None:
            return _listed(asked, quoted(name), is_so)
        if self._facts.is_internal:
            return "it came out of an alias, and has no client"
        return f"the client is {name}"

    def _destination(self, asked: For, is_so: bool) -> str:
        domain = quoted(self._address.domain)
        match asked.form:
            case "any":
                return "" if self._holds else "nobody is left"
            case "local":
                return f"{domain} is {'a' if is_so else 'no'} name of this machine"
            case "domain":
                return _listed(asked, domain, is_so)
            case _:
                return _listed(asked, quoted(str(self._address)), is_so)

    def _further(self, asked: Condition, is_so: bool) -> str:
        facts = self._facts
        match asked.what:
            case "auth":
                return self._login(asked, is_so)
            case "tls":
                return f"the session is {_not(facts.tls)}in TLS"
            case "tag":
                return _listed(asked, quoted(facts.tag), is_so) if facts.tag else "the listener has no tag"
            case "helo":
                return _listed(asked, quoted(facts.helo), is_so) if facts.helo else "the client gave no name"
            case "mail-from":
                return _listed(asked, f"<{facts.mail_from}>", is_so)
            case _:
                return _listed(asked, quoted(str(self._address)), is_so)


_PREPOSITIONS: Final = {From: "from", For: "for"}


def _as_written(rule: Rule) -> tuple[AnyCondition, ...]:
    return (rule.source, rule.destination, *rule.conditions)


def _listed(asked: AnyCondition, value: str, is_so: bool) -> str:
    if asked.is_regex:
        return f"{value} {'fits one' if is_so else 'fits none'} of its patterns"
    return f"{value} is {_not(is_so)}in it"


def _not(is_so: bool) -> str:
    return "" if is_so else "not "


def _plain(text: str) -> str:
    return text if _WORD.fullmatch(text) else quoted(text)
