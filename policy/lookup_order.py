"""Under which keys an alias or a virtual address is looked for, the first that is there counting.

aliases(5) of OpenSMTPD.
"""

from __future__ import annotations

from collections.abc import Iterator

from policy.tables.services import split_tag, user_key
from spool.address import Address


def alias_keys(name: str, delimiter: str) -> tuple[str, ...]:
    """``user+tag``, ``user``."""
    plain, tag = split_tag(name, delimiter)
    return (user_key(name), user_key(plain)) if tag else (user_key(name),)


def virtual_keys(address: Address, delimiter: str) -> Iterator[str]:
    """``user+tag@domain``, ``user@domain``, ``user+tag``, ``user``, ``@domain``, ``@``."""
    users, domain = alias_keys(address.local.lower(), delimiter), address.domain.lower()
    yield from (f"{user}@{domain}" for user in users)
    yield from users
    yield f"@{domain}"
    yield "@"


def virtual_name_keys(name: str, delimiter: str) -> tuple[str, ...]:
    """``user+tag@``, ``user@``, ``user+tag``, ``user``: for a name on the right of a virtual address."""
    users = alias_keys(name, delimiter)
    return (*(f"{user}@" for user in users), *users)
