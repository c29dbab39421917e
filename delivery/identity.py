"""System users as local delivery needs them: who to become, and where their home is.

Failure: `NoSuchUser`. A name service that is down looks the same as a user who is gone, so it is never a reason to bounce.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, replace


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
