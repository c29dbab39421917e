"""How keys are compared: each use of a table (a *service*) has its own rule.

Guarantees: domains, mail addresses, networks and strings are compared without regard to case. A ``*`` in a domain stands
for any text, dots included.

Failure: `TableUnavailable`, from the table.

table(5) of OpenSMTPD.
"""

from __future__ import annotations

import ipaddress

from policy.tables.inline import InlineTable
from policy.tables.table import Table
from spool.address import Address, is_domain


def has_string(table: Table, text: str) -> bool:
    """A tag or a login."""
    return table.lookup(text) is not None


def has_domain(table: Table, domain: str) -> bool:
    """A host name or address literal, by patterns with ``*``: ``*.x`` means every depth below x, and not x itself."""
    return table.lookup(domain) is not None or any(
        glob_matches(pattern, domain.lower()) for pattern in table.patterns().wildcards
    )


def has_source(table: Table, source: str) -> bool:
    """An IP address, or ``local`` for the socket, by addresses and networks."""
    if table.lookup(source) is not None:
        return True
    address = ip_address(source)
    return address is not None and any(
        network.version == address.version and address in network for network in table.patterns().networks
    )


def has_address(table: Table, address: Address, delimiter: str) -> bool:
    """A mail address, by ``user``, ``user@domain``, ``@domain`` (``*`` in the domain) or ``@``, which is everything.

    A user in the table without ``delimiter`` means the user with any tag.
    """
    user, domain = address.local.lower(), address.domain.lower()
    plain, _tag = split_tag(user, delimiter)
    users = ("", user) if plain == user else ("", user, plain)
    keys = ["@", ""]
    if not address.is_null:
        keys += [name for name in users if name] + [f"{name}@{domain}" for name in users]
    if any(table.lookup(key) is not None for key in keys):
        return True
    return any(_mailbox_matches(pattern, users, domain) for pattern in table.patterns().wildcards)


def may_send_as(table: Table, login: str, sender: Address, delimiter: str) -> bool:
    """Whether ``table`` (login to patterns with commas between them, as `has_address` has them) allows the sender."""
    written = table.lookup(login)
    if written is None:
        return False
    patterns = InlineTable.of_list(login, [pattern.strip() for pattern in written.split(",")])
    return has_address(patterns, sender, delimiter)


def host_name_of(table: Table, address: str) -> str:
    """The name that ``table`` (IP addresses to host names) gives our own address; empty when it has none."""
    found = table.lookup(address)
    if found is None and ":" in address:
        found = table.lookup(f"[{address}]")
    return found if found is not None and is_domain(found) else ""


def split_tag(user: str, delimiter: str) -> tuple[str, str]:
    """``user+tag`` as user and tag; the tag is empty when there is none, or nothing stands before it."""
    plain, found, tag = user.partition(delimiter)
    return (plain, tag) if found and plain else (user, "")


def glob_matches(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern``, where each ``*`` stands for any text; in time linear in both for each ``*``."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


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
