"""Landlock: what a process may still reach of files, TCP ports, abstract sockets and other processes.

Landlock can only forbid: the rights of the user hold beside it. It takes effect for the thread that asks, and for the
threads and processes that this one starts from then on; descriptors that are open stay usable.

Guarantees: what is not in the `Reach` is out of reach, as far as the kernel can see to that; `Fence` says how far. A path
whose folder is reachable may be replaced; one that is named itself is lost when another file takes its name.

Failure: `OSError`. Paths to read that do not exist are left out and reported, and are out of reach when they appear; one to
write has to exist. A kernel without Landlock raises nothing and is reported.

landlock(7), landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from control.walls.kernel import syscall

_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_RULE_NET_PORT: Final = 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG = 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

#: All rights to files that there are, by the version of Landlock that they came with.
_FILES: Final = {1: (1 << 13) - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
#: The first one forbids every rename from one folder to another, which the spool lives by: it counts as none.
_USABLE_SINCE: Final = 2
_READ: Final = _READ_FILE | _READ_DIR
#: Files and folders, no other kind of thing; not to start them.
_WRITE: Final = (
    _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)  # fmt: skip
#: What a rule may give for something that is no folder.
_OF_A_FILE: Final = _WRITE_FILE | _READ_FILE | _TRUNCATE

_BIND_TCP, _CONNECT_TCP = 1, 2
_NETWORK_SINCE: Final = 4
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2
_SCOPES_SINCE: Final = 6

#: Rules can only tell paths apart that are there.
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})

#: bind(2) to it lets the kernel choose, as for a connection that leaves from a certain address.
ANY_FREE_PORT: Final = 0


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached; paths mean what is below them too."""

    read: tuple[str, ...] = ()
    #: Read as well.
    write: tuple[str, ...] = ()
    #: TCP ports, or None for all.
    connect: tuple[int, ...] | None = ()
    #: TCP ports.
    bind: tuple[int, ...] = ()
    #: Whether signals and abstract sockets reach processes that have other walls.
    others: bool = False


@dataclass(frozen=True, slots=True)
class Fence:
    """How far the kernel sees to a `Reach`."""

    #: 0: not at all.
    version: int
    #: Paths that do not exist.
    missing: tuple[str, ...] = ()

    @property
    def gaps(self) -> tuple[str, ...]:
        """What this kernel's Landlock does not hold back."""
        kinds = ((_USABLE_SINCE, "files"), (3, "truncating files"), (_NETWORK_SINCE, "TCP"), (_SCOPES_SINCE, "signals"))
        return tuple(name for since, name in kinds if self.version < since)


def landlock_version() -> int:
    """The version that the kernel has; 0 when it has none that is of use, or is told not to use it.

    A container that does not know the call refuses it; what is missing is told all the same.
    """
    try:
        version = syscall("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
            return 0
        raise
    return version if version >= _USABLE_SINCE else 0


class Ruleset:
    """A `Reach` that the kernel has taken note of. Made while its paths can be opened, enforced when that is over."""

    def __init__(self, reach: Reach, version: int | None = None) -> None:
        """``version`` is for tests of an older kernel's. Raises `OSError`."""
        self._version = landlock_version() if version is None else version
        self._missing: list[str] = []
        self._descriptor = -1
        if not self._version:
            return
        self._files = sum(rights for since, rights in _FILES.items() if since <= self._version)
        self._descriptor = self._create(reach)
        try:
            self._fill(reach)
        except BaseException:
            os.close(self._descriptor)
            raise

    def enforce(self) -> Fence:
        """Hold to it from now on; needs PR_SET_NO_NEW_PRIVS. Raises `OSError`."""
        if self._version:
            try:
                syscall("landlock_restrict_self", self._descriptor, 0)
            finally:
                os.close(self._descriptor)
        return Fence(self._version, tuple(self._missing))

    def _create(self, reach: Reach) -> int:
        network = _BIND_TCP | (0 if reach.connect is None else _CONNECT_TCP)
        scopes = 0 if reach.others else _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS
        words = [self._files]
        if self._version >= _NETWORK_SINCE:
            words.append(network)
        if self._version >= _SCOPES_SINCE:
            words.append(scopes)
        attribute = struct.pack(f"={len(words)}Q", *words)
        return syscall(
            "landlock_create_ruleset", ctypes.create_string_buffer(attribute, len(attribute)), len(attribute), 0
        )

    def _fill(self, reach: Reach) -> None:
        for path in _once(reach.read):
            try:
                self._allow(path, _READ)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                self._missing.append(path)
        for path in _once(reach.write):
            self._allow(path, _WRITE)
        if self._version >= _NETWORK_SINCE:
            for port in reach.connect or ():
                self._add(_RULE_NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port))
            for port in reach.bind:
                self._add(_RULE_NET_PORT, struct.pack("=QQ", _BIND_TCP, port))

    def _allow(self, path: str, rights: int) -> None:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _OF_A_FILE
            self._add(_RULE_PATH_BENEATH, struct.pack("=Qi", rights & self._files, descriptor))
        finally:
            os.close(descriptor)

    def _add(self, kind: int, rule: bytes) -> None:
        syscall("landlock_add_rule", self._descriptor, kind, ctypes.create_string_buffer(rule, len(rule)), 0)


def _once(paths: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(paths)
