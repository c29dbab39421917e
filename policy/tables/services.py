"""How keys are compared: each use of a table (a *service*) has its own rule.

Guarantees: domains, mail addresses, networks and strings are compared without regard to case. A ``*`` in a domain stands
for any text, dots included.

Failure: `TableUnavailable`, from the table.

table(5) of OpenSMTPD.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from policy.config import Smarthost
from policy.errors import TableUnavailable
from policy.smarthost import SmarthostSyntaxError, parse_smarthost
from policy.tables.expressions import ExpressionError
from policy.tables.passwd import User
from policy.tables.patterns import glob_matches, network_of
from policy.tables.table import Table
from spool.address import Address, is_domain

#: The largest number of a user or group; the one above means "none" (chown(2)).
MAX_ID: Final = 2**32 - 2


def has_string(table: Table, text: str) -> bool:
    """A tag or a login."""
    return table.lookup(text) is not None


def has_regex(table: Table, key: str) -> bool:
    """Any key, by regular expressions that are found anywhere in it; the null sender's key is ``@``."""
    try:
        return table.patterns().expressions.match(key)
    except ExpressionError as error:
        raise TableUnavailable(f"table {table.name}: {error}") from error


def has_domain(table: Table, domain: str) -> bool:
    """A host name or address literal, by patterns with ``*``: ``*.x`` means every depth below x, and not x itself."""
    return table.lookup(domain) is not None or table.patterns().wildcards.match(domain.lower())


def has_source(table: Table, source: str) -> bool:
    """An IP address, or ``local`` for the socket, by addresses and networks."""
    if table.lookup(source) is not None:
        return True
    address = ip_address(source)
    return address is not None and (table.lookup(str(address)) is not None or address in table.patterns().networks)


def is_source(text: str) -> bool:
    """Whether `has_source` can find a key that is written so."""
    return text.lower() == "local" or network_of(text) is not None


def has_address(table: Table, address: Address, delimiter: str) -> bool:
    """A mail address, by ``user``, ``user@domain``, ``@domain`` (``*`` in the domain) or ``@``, which is everything.

    A user in the table without ``delimiter`` means the user with any tag.
    """
    if any(table.lookup(key) is not None for key in _mailbox_keys(address, delimiter)):
        return True
    users, domain = _users(address, delimiter), address.domain.lower()
    return any(_mailbox_matches(pattern, users, domain) for pattern in table.patterns().wildcards.all)


def has_mailaddr_for(table: Table, login: str, address: Address, delimiter: str = "+") -> bool:
    """Whether the value of ``login``, a comma list of what `has_address` compares with, has ``address``."""
    value = table.lookup(login)
    if value is None:
        return False
    patterns = [pattern.strip().lower() for pattern in value.split(",")]
    keys, users, domain = _mailbox_keys(address, delimiter), _users(address, delimiter), address.domain.lower()
    # An empty element is a slip, and means nobody.
    return any(pattern and (pattern in keys or _mailbox_matches(pattern, users, domain)) for pattern in patterns)


def hostname_for(table: Table, source: str) -> str | None:
    """The host name that stands for an IP address, None when there is none; IPv6 keys are written in brackets."""
    address = ip_address(source)
    keys = (source, f"[{source}]") if address is None else (str(address), f"[{address}]")
    value = next((found for key in keys if (found := table.lookup(key)) is not None), None)
    return value if value is not None and is_domain(value) else None


def find_userinfo(table: Table, name: str) -> User | None:
    """The user ``name`` out of ``uid:gid:home``, None when the table does not know it."""
    value = table.lookup(name)
    if value is None:
        return None
    user = userinfo_of(name, value)
    if user is None:
        raise TableUnavailable(f'table {table.name}: the value of "{name}" is not uid:gid:home')
    return user


def smarthost_for(table: Table, domain: str) -> Smarthost | None:
    """The relay URL that stands for exactly this domain, None when there is none."""
    value = table.lookup(domain)
    if value is None:
        return None
    try:
        return parse_smarthost(value)
    except SmarthostSyntaxError as error:
        raise TableUnavailable(f'table {table.name}: the value of "{domain}" is no relay URL: {error}') from error


def smarthosts_in(table: Table) -> tuple[Smarthost, ...]:
    """The relay URLs of a list, in order."""
    try:
        return tuple(parse_smarthost(table.lookup(key) or key) for key in tuple(table.keys()))
    except SmarthostSyntaxError as error:
        raise TableUnavailable(f"table {table.name} has a line that is no relay URL: {error}") from error


def split_tag(user: str, delimiter: str) -> tuple[str, str]:
    """``user+tag`` as user and tag; the tag is empty when there is none, or nothing stands before it."""
    plain, found, tag = user.partition(delimiter)
    return (plain, tag) if found and plain else (user, "")


def user_key(user: str) -> str:
    """How a table writes a user: in quotes when it holds an at-sign, or else it would be taken for an address.

    A stranger may name any text as the user of his own domain: ``"boss@bank.example"@stranger.example``.
    """
    return f'"{user}"' if "@" in user else user


def ip_address(source: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that ``source`` writes, without scope, an IPv4-mapped one as IPv4; None for other text."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0].removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _mailbox_matches(pattern: str, users: tuple[str, ...], domain: str) -> bool:
    user, at, domain_pattern = pattern.rpartition("@")
    return bool(at) and bool(domain) and user in users and glob_matches(domain_pattern, domain)


def _users(address: Address, delimiter: str) -> tuple[str, ...]:
    """How a table may write the user of ``address``: not at all, with the tag, and without."""
    user = address.local.lower()
    plain, _tag = split_tag(user, delimiter)
    return ("", user_key(user)) if plain == user else ("", user_key(user), user_key(plain))


def _mailbox_keys(address: Address, delimiter: str) -> list[str]:
    users, domain = _users(address, delimiter), address.domain.lower()
    keys = ["@", ""]
    if not address.is_null:
        keys += [name for name in users if name] + [f"{name}@{domain}" for name in users]
    return keys


def userinfo_of(name: str, value: str) -> User | None:
    """The user that ``uid:gid:home`` describes; None when the text is not that."""
    parts = value.split(":", 2)
    if len(parts) != 3 or not parts[2].startswith("/"):
        return None
    uid, gid = (int(part) if part.isascii() and part.isdigit() else MAX_ID + 1 for part in parts[:2])
    return User(name, uid, gid, parts[2]) if max(uid, gid) <= MAX_ID else None
