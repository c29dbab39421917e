"""What is allowed in a configuration and yet probably not meant.

Guarantees: warnings only. A configuration that draws none of them is not thereby right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from policy.build.assembly import Assembled
from policy.build.workbench import Workbench
from policy.check_circles import check_circles
from policy.check_relay import check_relays
from policy.config import AnyCondition, Auth, Condition, Config, For, From, LocalAction, Relay, Rule
from policy.errors import Place, TableUnavailable
from policy.grammar.syntax import ChainStatement, FilterStatement, Given, LiteralTable, NamedTable, Script, Word
from policy.server_name import ServerName, mailname_path
from policy.suggestion import did_you_mean
from policy.tables.inline import InlineTable
from policy.tables.passwd import ask_system
from policy.tables.services import ip_address
from policy.tables.table import Table

#: What a ``from`` or ``for`` says, to be compared.
_Key: TypeAlias = tuple[str, tuple[str, ...], bool, bool]
_EVERYBODY: Final[_Key] = ("any", (), False, False)


def check(bench: Workbench, assembled: Assembled, name: ServerName) -> None:
    """Note every doubt among the bench's findings."""
    _check_name(bench, name)
    _check_rules(bench, assembled.config)
    _check_domains(bench, assembled.config)
    _check_actions(bench, assembled.config)
    _check_retries(bench, assembled.config)
    _check_users(bench, assembled.config)
    _check_tables(bench)
    _check_filters(bench)
    _check_secrets(bench, assembled)
    _check_labels(bench, assembled.config)
    _check_logins(bench, assembled)
    _check_proxies(bench, assembled)
    check_relays(bench, assembled.config)
    check_circles(bench, assembled.config)


def _check_name(bench: Workbench, name: ServerName) -> None:
    if name.trouble:
        bench.warn(Place(bench.shelf.path), f"{name.trouble}; {name.origin} is used instead")
    if not name.is_qualified:
        path = mailname_path(bench.layout)
        bench.warn(
            Place(bench.shelf.path),
            f'the server name "{name.name}" ({name.origin}) is not fully qualified, and other servers may refuse it: '
            f"write the full name into {path}",
        )


def _check_rules(bench: Workbench, config: Config) -> None:
    earlier: dict[_Key, list[Rule]] = defaultdict(list)
    for rule, statement in zip(config.rules, bench.script.rules, strict=True):
        if _is_for_nobody(rule):
            bench.warn(statement.place, 'this rule can never match: "any" leaves nothing to "!"')
        # Only a rule for the same destinations, or for all, can leave this one nothing.
        candidates = (*earlier[_key(rule.destination)], *earlier[_EVERYBODY])
        covering = next((each for each in candidates if _covers(each, rule)), None)
        if covering:
            message = f"this rule can never match: everything it says is matched at {covering.place} already"
            bench.warn(statement.place, message)
        earlier[_key(rule.destination)].append(rule)


def _check_domains(bench: Workbench, config: Config) -> None:
    for rule, statement in zip(config.rules, bench.script.rules, strict=True):
        given = statement.destination
        if rule.destination.form != "domain" or rule.destination.is_regex or given is None:
            continue
        if not isinstance(given.argument, LiteralTable):
            continue
        for word in given.argument.keys:
            if "@" in word.text:
                local, _, domain = word.text.rpartition("@")
                meant = f'for rcpt-to "{word.text}"' if local else f'for domain "{domain}"'
                bench.warn(word.place, f'"{word.text}" is no domain, so it never matches; did you mean: {meant}?')


def _is_for_nobody(rule: Rule) -> bool:
    return any(part.form == "any" and part.negated for part in (rule.source, rule.destination))


def _covers(first: Rule, later: Rule) -> bool:
    if not _from_covers(first.source, later.source):
        return False
    conditions = {_condition_key(each) for each in later.conditions}
    return all(_condition_key(each) in conditions for each in first.conditions)


def _from_covers(first: From, later: From) -> bool:
    if first.form == "local" and later.form == "socket" and not (first.negated or later.negated):
        return True
    return _key(first) in (_EVERYBODY, _key(later))


def _key(part: From | For) -> _Key:
    return part.form, _table_key(part), part.negated, part.is_regex


def _condition_key(condition: Condition) -> _Key:
    return condition.what, _table_key(condition), condition.negated, condition.is_regex


def _table_key(asked: AnyCondition) -> tuple[str, ...]:
    table = asked.table
    if table is None:
        return ()
    if not isinstance(table, InlineTable):
        return (table.name,)
    if not asked.is_regex:
        return tuple(sorted(table.keys()))
    # Keys are lower-case, in which "\S" would be "\s"; what a list maps them to is as it was written.
    return tuple(sorted(filter(None, map(table.lookup, table.keys()))))


def _check_actions(bench: Workbench, config: Config) -> None:
    used = {rule.action for rule in config.rules}
    for name, statement in bench.script.actions.items():
        if name not in used:
            bench.warn(statement.name.place, f'no rule uses action "{name}"')


def _check_retries(bench: Workbench, config: Config) -> None:
    for name, statement in bench.script.actions.items():
        action, given = config.actions.get(name), statement.options.find("retry")
        if action and given and action.retry and action.retry.first >= config.ttl_of(name):
            bench.warn(given.place, f'mail of action "{name}" is tried once more only: its ttl ends before that retry')


def _check_users(bench: Workbench, config: Config) -> None:
    for name, statement in bench.script.actions.items():
        action, given = config.actions.get(name), statement.options.find("user")
        if not given or not isinstance(action, LocalAction) or action.userbase is not None:
            # A userbase has users of its own.
            continue
        if _is_missing(action.user):
            bench.warn(given.place, f'there is no user "{action.user}": mail of action "{name}" waits until there is')


def _is_missing(user: str) -> bool:
    try:
        return ask_system(user) is None
    except TableUnavailable:
        # The name service rests; those who deliver will say so.
        return False


def _check_filters(bench: Workbench) -> None:
    used = {word.text for words in _filter_names(bench.script) for word in words}
    for name, statement in bench.script.filters.items():
        if name not in used:
            bench.warn(statement.name.place, f'nothing uses filter "{name}"')


def _filter_names(script: Script) -> Iterator[tuple[Word, ...]]:
    for statement in script.filters.values():
        if isinstance(statement, ChainStatement):
            yield statement.names.keys
    for given in (given for each in script.listens for given in each.options.all("filter")):
        yield given.argument.keys if isinstance(given.argument, LiteralTable) else (given.string(),)


def _check_tables(bench: Workbench) -> None:
    used = set(_named_tables(bench.script))
    for name, statement in bench.script.tables.items():
        if name not in used:
            bench.warn(statement.name.place, f'nothing uses table "{name}"')


def _named_tables(script: Script) -> Iterator[str]:
    for options in (*(each.options for each in script.listens), *(each.options for each in script.actions.values())):
        yield from _named(options.given)
    for rule in script.rules:
        yield from _named([each for each in (rule.source, rule.destination, *rule.conditions) if each])
    yield from _named([each.question for each in script.filters.values() if isinstance(each, FilterStatement)])


def _named(given: Iterable[Given]) -> Iterator[str]:
    return (each.argument.name for each in given if isinstance(each.argument, NamedTable))


def _check_secrets(bench: Workbench, assembled: Assembled) -> None:
    for file, place in assembled.secret_files.items():
        for exposure in file.exposures():
            bench.warn(place, exposure)


def _check_labels(bench: Workbench, config: Config) -> None:
    for name, action in config.actions.items():
        given = bench.script.actions[name].options.find("auth")
        if not isinstance(action, Relay) or action.auth is None or given is None:
            continue
        for host in action.hosts:
            if host.label and not _has_label(action.auth, host.label):
                known = did_you_mean(host.label, action.auth.keys(), "it has")
                bench.warn(given.place, f'label "{host.label}" is not in table "{action.auth.name}"{known}')


def _has_label(table: Table, label: str) -> bool:
    try:
        return table.lookup(label) is not None
    except TableUnavailable:
        return True


def _check_logins(bench: Workbench, assembled: Assembled) -> None:
    if any(_serves_logins(rule) for rule in assembled.config.rules):
        return
    relay = next((name for name, action in assembled.config.actions.items() if isinstance(action, Relay)), "NAME")
    lines = {each.place for each in assembled.listeners if _takes_strangers(each.listener.address, each.listener.auth)}
    for place in sorted(lines, key=lambda place: (place.path, place.line))[:1]:
        bench.warn(
            place,
            "whoever logs in here can send to our own domains alone, for no rule accepts more from them; "
            f'the missing line is: match auth from any for any action "{relay}"',
        )


def _check_proxies(bench: Workbench, assembled: Assembled) -> None:
    for each in assembled.listeners:
        address = ip_address(each.listener.address)
        if each.listener.proxy_v2 and each.listener.proxies is None and address and not address.is_loopback:
            bench.warn(
                each.place,
                f"at {each.listener.address} only proxies on this machine itself are believed; "
                'others are named behind the word: proxy-v2 "192.0.2.1"',
            )


def _takes_strangers(address: str, auth: Auth) -> bool:
    parsed = ip_address(address)
    return auth is not Auth.NONE and parsed is not None and not parsed.is_loopback


def _serves_logins(rule: Rule) -> bool:
    comes_from_afar = rule.source.form not in ("local", "socket") or rule.source.negated
    goes_anywhere = rule.destination.form == "any" or rule.destination.negated
    refuses_logins = any(each.what == "auth" and each.negated for each in rule.conditions)
    return not rule.rejects and comes_from_afar and goes_anywhere and not refuses_logins
