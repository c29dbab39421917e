"""A user of the machine who is there for a test alone."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Another program may hold the machine's list of users for a moment.
TRIES = 20


@dataclass(frozen=True)
class Account:
    """Its name and password."""

    name: str
    password: str = "tr0ub4dor & 3: ünï"

    def change(self, *arguments: str) -> None:
        """What usermod(8) does."""
        _patiently("usermod", *arguments, self.name)


@contextmanager
def throw_away_account() -> Iterator[Account]:
    """Make one, with a password; it is gone at the end."""
    account = Account(f"t{secrets.token_hex(5)}")
    _patiently("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", account.name)
    try:
        _patiently("chpasswd", said=f"{account.name}:{account.password}\n")
        yield account
    finally:
        _patiently("userdel", account.name)


def _patiently(program: str, *arguments: str, said: str = "") -> None:
    for attempt in range(TRIES):
        done = subprocess.run(
            [f"/usr/sbin/{program}", *arguments], input=said.encode(), capture_output=True, check=False
        )
        if done.returncode == 0:
            return
        assert attempt + 1 < TRIES, done.stderr.decode()
        time.sleep(0.2)
