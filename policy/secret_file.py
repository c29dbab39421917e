"""Files with passwords, or hashes of them, in tables and configurations: known by name, looked at whenever somebody asks.

Guarantees: nothing of such a file is read here, and only its name, owner and mode are told.

Failure: none; what cannot be looked at from here cannot be read by strangers either.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file, and what of it nobody else should read."""

    path: str
    what: str

    def exposures(self) -> Iterator[str]:
        """Who can read or exchange it, and what to type."""
        try:
            status = os.stat(self.path)
        except OSError:
            return
        owner, mode = _name_of(status.st_uid), stat.S_IMODE(status.st_mode)
        if mode & stat.S_IRWXO:
            kept = f'mode {mode:04o}, it belongs to {owner}): "chmod o= {self.path}"'
            yield f"others can read the {self.what} in {self.path} ({kept}"
        if status.st_uid not in (0, os.geteuid()):
            yield f'{owner}, whose file {self.path} is, can exchange the {self.what} in it: "chown root {self.path}"'


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
