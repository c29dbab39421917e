"""The uses of a table: what an entry must look like for each, and by which name a database knows it.

table(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policy.smarthost import SmarthostSyntaxError, parse_smarthost
from policy.tables.expressions import expression_fault
from policy.tables.format import EntryFault, any_entry
from policy.tables.services import ip_address, is_source, userinfo_of
from spool.address import is_domain


@dataclass(frozen=True, slots=True)
class Service:
    """One use. ``fault`` looks through entries when a table is loaded for it."""

    name: str
    fault: EntryFault = any_entry
    #: By which name a database is asked for it, when that is another.
    called: str = ""

    @property
    def asked(self) -> str:
        """The word in a database's queries."""
        return self.called or self.name


def _regex_fault(_key: str, value: str) -> str | None:
    return expression_fault(value)


def _netaddr_fault(key: str, _value: str) -> str | None:
    return None if is_source(key) else f'"{key}" is no IP address, network or "local"'


def _source_fault(key: str, _value: str) -> str | None:
    return None if ip_address(key) else f'"{key}" is no IP address to connect from'


def _userinfo_fault(key: str, value: str) -> str | None:
    return None if userinfo_of(key, value) else f'the value of "{key}" is not uid:gid:home'


def _addrname_fault(key: str, value: str) -> str | None:
    address = ip_address(key)
    if address is None and ip_address(f"{key}:{value.partition(' ')[0]}"):
        return f'an IPv6 address that is a key stands in brackets: expected "[{key}:..."'
    if address is None:
        return f'"{key}" is no IP address: expected ADDRESS = NAME'
    text = f"[{address}]" if ":" in str(address) else str(address)
    if key.lower() not in (text, str(address)):
        return f'"{key}" is never asked for: expected "{text}"'
    return None if is_domain(value) else f'the value of "{key}" is no host name'


def _relayhost_fault(key: str, value: str) -> str | None:
    try:
        parse_smarthost(value)
    except SmarthostSyntaxError as error:
        subject = f'"{value}"' if key == value else f'the value of "{key}"'
        return f"{subject} is no relay URL: {error}"
    return None


ALIAS: Final = Service("alias")
#: Logins and hashes of passwords, of those who come to us.
CREDENTIALS: Final = Service("credentials")
#: Labels and passwords, of those to whom we go.
SECRETS: Final = Service("secrets", called="credentials")
STRING: Final = Service("string")
DOMAIN: Final = Service("domain")
MAILADDR: Final = Service("mailaddr")
MAILADDRMAP: Final = Service("mailaddrmap")
SOURCE: Final = Service("source", _source_fault)
RELAYHOST: Final = Service("relayhost", _relayhost_fault)
REGEX: Final = Service("regex", _regex_fault)
NETADDR: Final = Service("netaddr", _netaddr_fault)
USERINFO: Final = Service("userinfo", _userinfo_fault)
ADDRNAME: Final = Service("addrname", _addrname_fault)

#: When nobody says what a table is for.
ANY: Final = Service("")

SERVICES: Final = (
    ALIAS,
    CREDENTIALS,
    SECRETS,
    STRING,
    DOMAIN,
    MAILADDR,
    MAILADDRMAP,
    SOURCE,
    RELAYHOST,
    REGEX,
    NETADDR,
    USERINFO,
    ADDRNAME,
)
