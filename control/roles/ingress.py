"""Ingress: the SMTP listeners and the reader of the drop, the only role that strangers reach.

Guarantees: a message that a client was told is taken is in the spool. A stop ends no session in the middle of a message that
ends within `ingress.limits.Limits.grace`.

Failure: `IngressRole.serve` raises what its rooms raise; a spool that cannot be reached is a temporary failure for clients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import anyio
from anyio.abc import TaskStatus

from ingress.drop import DropReader
from ingress.dropdoor import DropDoor
from ingress.limits import MAX_MEMORY, Limits
from ingress.listener import Ingress
from ingress.memory import Memory
from ingress.names import Names
from ingress.openings import Opening, Place
from ingress.transaction import House
from policy.admit import admit
from policy.authenticator import Authenticator
from policy.config import Config
from policy.forward import Forwards
from policy.tables.passwd import Users
from spool.door import Intake

_log: Final = logging.getLogger("control.switches")


class Front(Protocol):
    """Ingress as the queue sees it. `IngressRole` is one."""

    @property
    def running(self) -> bool:
        """Whether mail is taken."""

    async def set_running(self, running: bool) -> bool:
        """Take no more mail, or take it again; False when it was so before."""

    @property
    def sessions(self) -> int:
        """How many clients are there."""

    @property
    def set_aside(self) -> int:
        """How many files of the drop could not be mail."""

    @property
    def trouble(self) -> str:
        """What an operator should know of the clients, or nothing."""


@dataclass(frozen=True, slots=True)
class People:
    """Whom mail may be for, and who may send it."""

    users: Users
    forwards: Forwards
    #: Knows the passwords of the system's users.
    logins: Authenticator
    #: Knows the names of clients' addresses.
    names: Names


class IngressRole:
    """See the module. While it is paused clients are told to come again, and what is in the drop stays there."""

    def __init__(
        self, door: DropDoor | None, config: Callable[[], Config], intake: Intake, people: People, processes: int = 1
    ) -> None:
        """One of so many ``processes``; the drop is read by the one that has its ``door``."""
        memory = Memory(MAX_MEMORY // processes)
        house = House(config, partial(admit, users=people.users, forwards=people.forwards), intake, memory)
        self._ingress = Ingress(house, Limits().share(processes), people.names, people.logins)
        self._drop = None if door is None else DropReader(door, house)

    @property
    def running(self) -> bool:
        """See `Front`."""
        return not self._ingress.is_paused

    async def set_running(self, running: bool) -> bool:
        """See `Front`."""
        if self.running is running:
            return False
        self._ingress.is_paused = not running
        if self._drop is not None:
            self._drop.paused = not running
        _log.info("info: smtp %s", "resumed" if running else "paused")
        return True

    @property
    def sessions(self) -> int:
        """See `Front`."""
        return self._ingress.sessions

    @property
    def set_aside(self) -> int:
        """See `Front`."""
        return 0 if self._drop is None else self._drop.set_aside

    @property
    def trouble(self) -> str:
        """See `Front`."""
        return self._ingress.trouble

    @property
    def listening(self) -> frozenset[Place]:
        """The listeners that are open."""
        return self._ingress.listening

    async def reopen(self, openings: Iterable[Opening]) -> None:
        """Let these be the listeners from now on; see `Ingress.reopen`."""
        await self._ingress.reopen(openings)

    async def serve(
        self, openings: Iterable[Opening], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Until `stop`, and until what is under way has ended or its grace is over."""
        async with anyio.create_task_group() as work:
            await work.start(self._ingress.serve, openings)
            if self._drop is not None:
                work.start_soon(self._drop.run)
            task_status.started()

    def stop(self) -> None:
        """Let nobody in any more, and come to an end."""
        self._ingress.stop()
        if self._drop is not None:
            self._drop.stop()
