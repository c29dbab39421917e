"""Users of this machine.

Guarantees: a user who exists is never reported as missing because the user database could not be asked.

Failure: `TableUnavailable` when it could not.

getpwnam_r(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
from dataclasses import dataclass
from typing import Final, Protocol

from policy.errors import TableUnavailable

#: What getpwnam_r(3) may return for "no such user"; everything else is trouble.
_NOT_FOUND: Final = frozenset({0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM})
#: Room for a passwd entry's strings, and for the structure that points to them (48 octets on Linux).
_STRINGS_OCTETS: Final = 1 << 16
_STRUCT_OCTETS: Final = 1 << 8


@dataclass(frozen=True, slots=True)
class User:
    """A user to whom mail can be delivered."""

    name: str
    uid: int
    gid: int
    home: str


class Users(Protocol):
    """Who exists."""

    def find(self, name: str) -> User | None:
        """The user ``name``, or None. Raises `TableUnavailable`."""


class SystemUsers:
    """The users that the system's name service knows. A lookup takes as long as that does."""

    def find(self, name: str) -> User | None:
        """The user ``name``, or None."""
        if not name or "\0" in name:
            return None
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            # The module says the same whether there is no such user or /etc/passwd could not be opened.
            self._ask_for_trouble(name)
            return None
        return User(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)

    def _ask_for_trouble(self, name: str) -> None:
        result = ctypes.c_void_p()
        status = ctypes.CDLL(None).getpwnam_r(
            name.encode(errors="surrogateescape"),
            ctypes.create_string_buffer(_STRUCT_OCTETS),
            ctypes.create_string_buffer(_STRINGS_OCTETS),
            ctypes.c_size_t(_STRINGS_OCTETS),
            ctypes.byref(result),
        )
        if status not in _NOT_FOUND:
            raise TableUnavailable(f"the system's users: {os.strerror(status)}")
