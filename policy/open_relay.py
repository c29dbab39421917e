"""Whether a configuration lets anybody send mail to anywhere: an open relay.

A stranger is imagined at each listener that strangers reach, with mail for a domain that nobody has; what the rules then do
is asked of them, in their order. What clients say about themselves (``helo``, ``mail-from``) and ``tls`` they can choose, so
that it keeps nobody out.

Guarantees: an open relay is spoken of only when nothing that can be seen here keeps strangers from it; a listener that
demands logins or certificates does, and so does a filter that refuses whoever is *not* something. Some are not found.

Failure: none; a table that cannot be asked is taken for one that lists nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policy.config import AnyCondition, Auth, Condition, Config, Facts, Listener, Relay, Rule
from policy.errors import TableUnavailable
from policy.filters import Deed, Filter
from policy.ruleset import holds
from policy.tables.services import ip_address
from spool.address import Address

#: Conditions that everybody can meet by saying or doing what they want.
_FREE: Final = frozenset({"helo", "mail-from", "tls"})
#: Addresses that are nobody's neighbours (RFC 5737, RFC 3849, RFC 9637): who lets in all of them lets in everybody.
_STRANGERS: Final = {4: ("192.0.2.201", "198.51.100.202", "203.0.113.203"), 6: ("2001:db8::201", "3fff::202")}
#: RFC 2606: it is nowhere, so no configuration can mean it but by meaning everywhere.
_ANYWHERE: Final = Address("somebody", "elsewhere.invalid")


@dataclass(frozen=True, slots=True)
class OpenRelay:
    """The rule by which it happens, and a listener at which."""

    rule: Rule
    listener: Listener

    def __str__(self) -> str:
        place = f"{self.listener.address} port {self.listener.port}"
        return f"an open relay: anybody who reaches {place} can send to everywhere"


def open_relay(config: Config) -> OpenRelay | None:
    """The first open relay that ``config`` makes of this machine, if any."""
    for listener in filter(_is_open, config.listeners):
        rule = _relaying_rule(config, listener)
        if rule is not None:
            return OpenRelay(rule, listener)
    return None


def _is_open(listener: Listener) -> bool:
    address = ip_address(listener.address)
    # Behind a loopback address there may be a proxy, and the world behind that.
    if address is None or (address.is_loopback and not listener.proxy_v2):
        return False
    if listener.auth is Auth.REQUIRED or listener.verify:
        return False
    return not any(map(_keeps_out, listener.filters))


def _keeps_out(each: Filter) -> bool:
    return each.question.negated and each.deed in (Deed.REJECT, Deed.DISCONNECT)


def _relaying_rule(config: Config, listener: Listener) -> Rule | None:
    address = ip_address(listener.address)
    sources = _STRANGERS[address.version if address else 4]
    strangers = [Facts(source, Address("somebody", "stranger.invalid"), tag=listener.tag) for source in sources]
    for rule in config.rules:
        if not all(_holds_for(rule, config, stranger) for stranger in strangers):
            continue
        action = config.actions.get(rule.action)
        # A backup gives mail to better servers of its domain alone.
        if isinstance(action, Relay) and not action.backup:
            return rule
        if not any(map(_is_free, rule.conditions)):
            return None
    return None


def _holds_for(rule: Rule, config: Config, stranger: Facts) -> bool:
    """Whether the rule holds for a stranger who says whatever suits him."""
    try:
        return all(_is_free(asked) or holds(asked, config, stranger, _ANYWHERE) for asked in rule.asked)
    except TableUnavailable:
        return False


def _is_free(asked: AnyCondition) -> bool:
    return isinstance(asked, Condition) and asked.what in _FREE
