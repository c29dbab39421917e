"""The system users that the roles become.

Failure: `AccountMissing` says which are not there, and how they are made.
"""

from __future__ import annotations

import enum
import grp
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


class Role(enum.Enum):
    """Each a process. The value is its name in the log."""

    QUEUE = "queue"
    HELPER = "helper"
    DELIVERY = "delivery"
    INGRESS = "ingress"


@dataclass(frozen=True, slots=True)
class Seat:
    """One of the processes that a role has."""

    role: Role
    #: From 1.
    number: int = 1

    @property
    def name(self) -> str:
        """In the log: the first one is called as if it were the only one."""
        return self.role.value if self.number == 1 else f"{self.role.value} {self.number}"


#: Who is what. The helper answers ingress, and knows no more than everybody on the machine may.
USERS: Final = {Role.QUEUE: "_smtpq", Role.HELPER: "_smtpd", Role.DELIVERY: "_smtpr", Role.INGRESS: "_smtpd"}


class AccountMissing(Exception):
    """A user of the system's is not there."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a process becomes; it has no other groups than this one."""

    name: str
    uid: int
    gid: int


def accounts() -> dict[Role, Account]:
    """All of them. Raises `AccountMissing`."""
    found = {role: _account(name) for role, name in USERS.items()}
    missing = sorted({USERS[role] for role, account in found.items() if account is None})
    if missing:
        raise AccountMissing(_complaint(missing))
    known = {role: account for role, account in found.items() if account is not None}
    _require_apart(dict.fromkeys(known.values()))
    return known


def _account(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


def _complaint(missing: list[str]) -> str:
    useradd = "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin"
    commands = "; ".join(f"{useradd} {name}" for name in missing)
    return (
        f"there is no user {' and no user '.join(missing)}. As root, smtpd becomes them, so that nothing a stranger sends "
        f"reaches root. Make them: {commands} (or start smtpd with --one-process, which has no such walls)"
    )


def _require_apart(known: Iterable[Account]) -> None:
    uids: dict[int, str] = {}
    for account in known:
        if account.uid == 0 or account.gid == 0 or account.uid in uids:
            other = "root" if account.uid == 0 else uids.get(account.uid, f"group {grp.getgrgid(account.gid).gr_name}")
            raise AccountMissing(f"the user {account.name} is the same as {other}: each role needs a user of its own")
        uids[account.uid] = account.name
