"""Rules: the first whose conditions all hold decides what happens to an address.

Guarantees: rules are asked in the order of the file, and no table behind the deciding rule is asked at all.

Failure: `TableUnavailable` as soon as a table that has to be asked cannot answer; nothing may be decided then.

smtpd.conf(5) of OpenSMTPD, "match".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from policy.config import Condition, Config, Facts, For, From, Rule
from policy.tables.services import has_address, has_domain, has_source, has_string, ip_address
from policy.tables.table import Table
from spool.address import Address, AddressSyntaxError, parse_address

#: How the submission socket is written where an IP address could stand.
LOCAL_SOURCE: Final = "local"

_log = logging.getLogger("policy.ruleset")


def match(config: Config, facts: Facts, address: Address) -> Rule | None:
    """The rule that decides about ``address``; None when none does, which is a refusal."""
    found = next((rule for rule in config.rules if _holds(rule, config, facts, address)), None)
    _log.debug("<%s>: %s", address, f"the rule at {found.place} matched" if found else "no rule matched")
    return found


def _holds(rule: Rule, config: Config, facts: Facts, address: Address) -> bool:
    # The cheap questions first: a rule for another listener's tag asks no table of domains.
    return (
        _from_holds(rule.source, config, facts)
        and _for_holds(rule.destination, config, address)
        and all(_condition_holds(condition, config, facts, address) for condition in rule.conditions)
    )


def _from_holds(source: From, config: Config, facts: Facts) -> bool:
    return _from_form_holds(source, config, facts) is not source.negated


def _from_form_holds(source: From, config: Config, facts: Facts) -> bool:
    if source.form == "any":
        return True
    if source.form == "auth":
        return _login_holds(source.table, config, facts)
    if source.form == "socket":
        return facts.source == LOCAL_SOURCE and not facts.is_internal
    key = _source_key(facts)
    if source.form == "local":
        return key == LOCAL_SOURCE or key in config.local_addresses
    assert source.form == "src"
    assert source.table is not None
    return has_source(source.table, key)


def _source_key(facts: Facts) -> str:
    if facts.is_internal or facts.source == LOCAL_SOURCE:
        return LOCAL_SOURCE
    address = ip_address(facts.source)
    return facts.source if address is None else str(address)


def _for_holds(destination: For, config: Config, address: Address) -> bool:
    return _for_form_holds(destination, config, address) is not destination.negated


def _for_form_holds(destination: For, config: Config, address: Address) -> bool:
    if destination.form == "any":
        return True
    if destination.form == "local":
        return _is_local_name(config, address.domain.lower())
    assert destination.table is not None
    if destination.form == "domain":
        return has_domain(destination.table, address.domain)
    assert destination.form == "rcpt-to"
    return has_address(destination.table, address, config.sub_addr_delim)


def _is_local_name(config: Config, domain: str) -> bool:
    if domain.startswith("["):
        literal = ip_address(domain.removeprefix("[ipv6:").strip("[]"))
        return str(literal) in config.local_names
    return domain in config.local_names


def _condition_holds(condition: Condition, config: Config, facts: Facts, address: Address) -> bool:
    return _CONDITIONS[condition.what](condition.table, config, facts, address) is not condition.negated


def _tag_holds(table: Table | None, _config: Config, facts: Facts, _address: Address) -> bool:
    assert table is not None
    return bool(facts.tag) and has_string(table, facts.tag)


def _helo_holds(table: Table | None, _config: Config, facts: Facts, _address: Address) -> bool:
    assert table is not None
    return bool(facts.helo) and has_domain(table, facts.helo)


def _login_holds(table: Table | None, config: Config, facts: Facts) -> bool:
    if facts.login is None or table is None:
        return facts.login is not None
    if "@" not in facts.login:
        return bool(facts.login) and has_string(table, facts.login)
    try:
        return has_address(table, parse_address(facts.login), config.sub_addr_delim)
    except AddressSyntaxError:
        return False


_CONDITIONS: Final[Mapping[str, Callable[[Table | None, Config, Facts, Address], bool]]] = {
    "tag": _tag_holds,
    "helo": _helo_holds,
    "auth": lambda table, config, facts, _address: _login_holds(table, config, facts),
    "tls": lambda _table, _config, facts, _address: facts.tls,
    "mail-from": lambda table, config, facts, _address: (
        table is not None and has_address(table, facts.mail_from, config.sub_addr_delim)
    ),
    "rcpt-to": lambda table, config, _facts, address: (
        table is not None and has_address(table, address, config.sub_addr_delim)
    ),
}
