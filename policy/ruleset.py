"""Rules: the first whose conditions all hold decides what happens to an address.

Guarantees: rules are asked in the order of the file, and no table behind the deciding rule is asked at all.

Failure: `TableUnavailable` as soon as a table that has to be asked cannot answer; nothing may be decided then.

Unlike OpenSMTPD 7.8, ``tls`` is what its manual says, names in the reverse DNS are compared as domains, and ``! from rdns``
without a table means the clients that have no name.

smtpd.conf(5) of OpenSMTPD, "match".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from policy.config import AnyCondition, Condition, Config, Facts, For, From, Rule
from policy.errors import TableUnavailable
from policy.tables.services import has_address, has_domain, has_regex, has_source, has_string, ip_address
from policy.tables.table import Table
from spool.address import Address, AddressSyntaxError, parse_address

#: How the submission socket is written where an IP address could stand.
LOCAL_SOURCE: Final = "local"
#: What regular expressions see of the null sender.
NO_ADDRESS: Final = "@"

_log = logging.getLogger("policy.ruleset")


def match(config: Config, facts: Facts, address: Address) -> Rule | None:
    """The rule that decides about ``address``; None when none does, which is a refusal."""
    found = next((rule for rule in config.rules if failing(rule, config, facts, address) is None), None)
    _log.debug("<%s>: %s", address, f"the rule at {found.place} matched" if found else "no rule matched")
    return found


def failing(rule: Rule, config: Config, facts: Facts, address: Address) -> AnyCondition | None:
    """The first condition of ``rule`` that does not hold, behind which nothing is asked; None when all hold."""
    for asked in rule.asked:
        if not holds(asked, config, facts, address):
            return asked
    return None


def holds(asked: AnyCondition, config: Config, facts: Facts, address: Address) -> bool:
    """Whether one condition of a rule holds."""
    return _HOLDS[type(asked)](asked, config, facts, address)


def source_key(facts: Facts) -> str:
    """What a client's address is compared by: addresses out of aliases are ours, wherever the client is."""
    if facts.is_internal or facts.source == LOCAL_SOURCE:
        return LOCAL_SOURCE
    address = ip_address(facts.source)
    return facts.source if address is None else str(address)


def _from_holds(source: From, config: Config, facts: Facts, _address: Address) -> bool:
    if source.form == "any":
        return not source.negated
    if source.form == "socket":
        # An address out of an alias came neither through the socket nor past it.
        return not facts.is_internal and (facts.source == LOCAL_SOURCE) is not source.negated
    if source.form == "rdns":
        return _rdns_holds(source, facts)
    if source.form == "auth":
        return _login_holds(source, config, facts) is not source.negated
    return _place_holds(source, config, source_key(facts)) is not source.negated


def _place_holds(source: From, config: Config, key: str) -> bool:
    if source.form == "local":
        return key == LOCAL_SOURCE or key in config.local_addresses
    assert source.form == "src"
    return _is_listed(source, has_source, key)


def _rdns_holds(source: From, facts: Facts) -> bool:
    if not (facts.rdns or facts.is_rdns_known or facts.is_internal):
        raise TableUnavailable(f"the name of {facts.source} cannot be looked up now")
    if source.table is None:
        return not facts.is_internal and bool(facts.rdns) is not source.negated
    name = LOCAL_SOURCE if facts.is_internal else facts.rdns
    # Whoever has no name is not somebody of another name.
    return bool(name) and _is_listed(source, has_domain, name) is not source.negated


def _for_holds(destination: For, config: Config, _facts: Facts, address: Address) -> bool:
    return _meets(destination, config, address) is not destination.negated


def _meets(destination: For, config: Config, address: Address) -> bool:
    match destination.form:
        case "any":
            return True
        case "local":
            return _is_local_name(config, address.domain.lower())
        case "domain":
            return _is_listed(destination, has_domain, address.domain)
        case _:
            return _is_listed_address(destination, config, address)


def _is_local_name(config: Config, domain: str) -> bool:
    if domain.startswith("["):
        literal = ip_address(domain.removeprefix("[ipv6:").strip("[]"))
        return str(literal) in config.local_names
    return domain in config.local_names


def _condition_holds(condition: Condition, config: Config, facts: Facts, address: Address) -> bool:
    return _is_so(condition, config, facts, address) is not condition.negated


def _is_so(condition: Condition, config: Config, facts: Facts, address: Address) -> bool:
    match condition.what:
        case "tag":
            return bool(facts.tag) and _is_listed(condition, has_string, facts.tag)
        case "helo":
            return bool(facts.helo) and _is_listed(condition, has_domain, facts.helo)
        case "auth":
            return _login_holds(condition, config, facts)
        case "tls":
            return facts.tls
        case "mail-from":
            return _is_listed_address(condition, config, facts.mail_from)
        case _:
            return _is_listed_address(condition, config, address)


def _login_holds(asked: From | Condition, config: Config, facts: Facts) -> bool:
    if facts.login is None or asked.table is None:
        return facts.login is not None
    if "@" not in facts.login:
        return bool(facts.login) and _is_listed(asked, has_string, facts.login)
    try:
        return _is_listed_address(asked, config, parse_address(facts.login))
    except AddressSyntaxError:
        return False


def _is_listed(asked: AnyCondition, has: Callable[[Table, str], bool], key: str) -> bool:
    assert asked.table is not None
    return has_regex(asked.table, key) if asked.is_regex else has(asked.table, key)


def _is_listed_address(asked: AnyCondition, config: Config, address: Address) -> bool:
    assert asked.table is not None
    if asked.is_regex:
        return has_regex(asked.table, str(address) or NO_ADDRESS)
    return has_address(asked.table, address, config.sub_addr_delim)


_HOLDS: Final[Mapping[type, Callable[..., bool]]] = {
    From: _from_holds,
    For: _for_holds,
    Condition: _condition_holds,
}
