"""Becoming a user without any way back, and keeping of root's rights only those that are needed.

Guarantees: after `forget_privileges` the process is that user alone, has no capability and can get none by any program
that it starts, leaves no core dump and cannot be looked into by others of the same user; all of it is looked up afterwards,
not believed. What the process makes from then on nobody else can read (umask 077).

Failure: `PermissionError` when one thing of it is not so; the process must end then.

capabilities(7), credentials(7), PR_SET_NO_NEW_PRIVS(2const), PR_SET_DUMPABLE(2const).
"""

from __future__ import annotations

import enum
import os
import resource
from collections.abc import Collection
from typing import Final, Protocol

from control.walls.kernel import capset, prctl

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_NO_NEW_PRIVS: Final = 39
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

#: More than any kernel has; the first that it does not know ends the list.
_MAX_CAPABILITY: Final = 63
#: NOROOT (uid 0 gives no capability), no KEEP_CAPS and NO_CAP_AMBIENT_RAISE, each locked.
_SECUREBITS: Final = 1 | 2 | 32 | 64 | 128

_NOBODY_ELSE: Final = 0o077


class Capability(enum.IntEnum):
    """Those that processes of root's have a use for; capabilities(7)."""

    #: Mailboxes and the spool's folder are handed to their users.
    CHOWN = 0
    #: The drop, and the mail directory, belong to others.
    DAC_OVERRIDE = 1
    #: Keys and secrets that belong to others are read.
    DAC_READ_SEARCH = 2
    #: Modes of what belongs to others are set.
    FOWNER = 3
    #: Roles and agents that do not end are ended.
    KILL = 5
    #: Children become users.
    SETGID = 6
    #: Children become users.
    SETUID = 7
    #: Children give up what programs could get.
    SETPCAP = 8
    #: Port 25.
    NET_BIND_SERVICE = 10


#: What the supervisor does with files, sockets and processes.
OF_SUPERVISOR: Final = frozenset(Capability) - {Capability.SETPCAP}
#: To fork a role, whose walls are raised while it is root.
OF_CRADLE: Final = frozenset({Capability.SETUID, Capability.SETGID, Capability.SETPCAP, Capability.DAC_READ_SEARCH})


class Person(Protocol):
    """Whom a process becomes; `control.separated.accounts.Account` is one."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def uid(self) -> int:
        """Not 0."""

    @property
    def gid(self) -> int:
        """The only group."""


def forget_privileges(person: Person | None) -> None:
    """Be that user for good, or stay who this is, and have no right that an ordinary user has not.

    See the module. Root alone can become somebody. Raises `PermissionError`.
    """
    if person is not None and not (person.uid and person.gid):
        raise PermissionError(f"{person.name} has the rights of root: this process is for somebody else")
    os.umask(_NOBODY_ELSE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _forget_capabilities_of_programs()
    if person is not None:
        os.setgroups([])
        os.setresgid(person.gid, person.gid, person.gid)
        os.setresuid(person.uid, person.uid, person.uid)
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    capset(0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_DUMPABLE, 0)
    _verify(person)


def keep_capabilities(kept: Collection[Capability]) -> None:
    """For the supervisor, as root: have these rights of root's and no other, as far as they are there; leave no core dump.

    The bounding set stays what it is. It would go to the nursery, from there to the agents, and to the setuid programs that
    users' commands start: ``sudo`` and ``procmail`` fail in strange ways when they lack what they expect. So a program that
    the supervisor starts as root has all rights again; it starts none but its own interpreter. This holds for one thread
    and those that it starts from then on. Raises `OSError`.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl(_PR_SET_DUMPABLE, 0)
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    capset(sum(1 << one for one in kept) & effective_set())


def bounding_set() -> frozenset[int]:
    """The capabilities that a program started by this process might get."""
    return frozenset(number for number in range(_MAX_CAPABILITY + 1) if _is_bounding(number))


def effective_set() -> int:
    """The capabilities that this process has, as bits."""
    return _status("CapEff", 16)


def _forget_capabilities_of_programs() -> None:
    """Who may not do that has none to forget; that no program gains any is the part of PR_SET_NO_NEW_PRIVS then."""
    if not effective_set() & 1 << Capability.SETPCAP:
        return
    prctl(_PR_SET_SECUREBITS, _SECUREBITS)
    for number in bounding_set():
        prctl(_PR_CAPBSET_DROP, number)


def _is_bounding(number: int) -> bool:
    try:
        return prctl(_PR_CAPBSET_READ, number) == 1
    except OSError:
        return False


def _verify(person: Person | None) -> None:
    if person is not None and (
        os.getresuid() != (person.uid,) * 3 or os.getresgid() != (person.gid,) * 3 or os.getgroups()
    ):
        raise PermissionError(f"this process could not become {person.name}")
    if _status("CapPrm", 16) or _status("CapEff", 16) or _status("CapInh", 16):
        raise PermissionError("this process could not give up its capabilities")
    if prctl(_PR_GET_NO_NEW_PRIVS) != 1 or prctl(_PR_GET_DUMPABLE) != 0:
        raise PermissionError("programs that this process starts could gain rights, or its memory could be read")
    if person is not None and _can_return():
        raise PermissionError(f"this process could become root again after {person.name}")


def _can_return() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True


def _status(field: str, base: int) -> int:
    """proc(5): a number of this process's status."""
    with open("/proc/self/status", "rb") as lines:
        for line in lines:
            name, _, value = line.partition(b":")
            if name.decode() == field:
                return int(value, base)
    raise PermissionError(f"/proc/self/status does not tell {field}")
