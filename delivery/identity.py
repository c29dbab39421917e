"""Users as local delivery needs them, of the system or out of a table: who to become, and where their home is.

Failure: `NoSuchUser`; `TableUnavailable` from a table. A name service that is down looks the same as a user who is gone,
so neither is ever a reason to bounce.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, replace

from policy.tables.passwd import User
from policy.tables.services import find_userinfo
from policy.tables.table import Table


class NoSuchUser(LookupError):
    """The system does not know this user, at least not now."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A system user; ``groups`` are the supplementary ones, the primary one among them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    def with_group(self, gid: int) -> Identity:
        """The same user, a member of one more group."""
        return self if gid in self.groups else replace(self, groups=(*self.groups, gid))


def identity_of(name: str) -> Identity:
    """Ask the system; may block for as long as its name services do."""
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:
        raise NoSuchUser(f'no user "{name}" on this system') from error
    groups = tuple(sorted(set(os.getgrouplist(name, found.pw_gid))))
    return Identity(found.pw_name, found.pw_uid, found.pw_gid, groups, found.pw_dir)


def identity_in(userbase: Table, name: str) -> Identity:
    """Ask a table, which knows of no groups beside the primary one."""
    found = find_userinfo(userbase, name)
    if found is None:
        raise NoSuchUser(f'no user "{name}" in table {userbase.name}')
    if found.uid == 0:
        # Whoever writes the table need not be root, and must not become it by a line of it.
        raise NoSuchUser(f'"{name}" has uid 0 in table {userbase.name}, and nothing is delivered as root by a table')
    return Identity(found.name, found.uid, found.gid, (found.gid,), found.home)


def identity_for(user: User) -> Identity:
    """Whom to become for ``user``, with the groups that the system gives the very same user; may block."""
    try:
        found = identity_of(user.name)
    except NoSuchUser:
        found = None
    if found is not None and (found.uid, found.gid, found.home) == (user.uid, user.gid, user.home):
        return found
    return Identity(user.name, user.uid, user.gid, (user.gid,), user.home)
