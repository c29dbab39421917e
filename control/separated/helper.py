"""The helper: asks the name services of this machine what ingress wants to know, because ingress can connect to nobody.

It answers who a user is, and what the reverse DNS says of an address. It sees no mail.

Guarantees: at most so many questions are asked at a time as those who ask have threads for them.

Failure: `TableUnavailable` crosses to ingress; a helper that dies is started again, and who asks meanwhile is put off.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from control.journal import Journal
from control.separated.accounts import Role, Seat
from control.separated.bonds import FAULTS
from ingress.names import LOOKUPS as NAME_LOOKUPS
from ingress.names import UNCERTAIN, PeerName, ask_system
from policy.errors import TableUnavailable
from policy.tables.passwd import LOOKUPS as USER_LOOKUPS
from policy.tables.passwd import User
from policy.tables.passwd import ask_system as ask_for_user
from spool.channel import CallFailed, Channel, ChannelClosed, Descriptors, Method, Offer


class FoundUser(msgspec.Struct, frozen=True, array_like=True):
    """A user, or nobody."""

    user: User | None


FIND_USER: Final = Method("find-user", str, FoundUser)
FIND_NAME: Final = Method("find-name", str, PeerName)


class HelperProcess:
    """See the module; `control.separated.life.Child`."""

    def __init__(self, group: TaskGroup, _: Channel, __: Journal) -> None:
        self._group = group
        self._users = anyio.CapacityLimiter(USER_LOOKUPS)
        self._names = anyio.CapacityLimiter(NAME_LOOKUPS)
        self._over = anyio.Event()

    async def take(self, generation: Any, sockets: list[socket.socket], *, is_reload: bool) -> None:
        """See `Child`: no configuration concerns it."""

    async def talk(self, to: Seat, end: socket.socket) -> None:
        """See `Child`."""
        assert to.role is Role.INGRESS
        channel = Channel(end, [Offer(FIND_USER, self._find_user), Offer(FIND_NAME, self._find_name)], FAULTS)
        await self._group.start(channel.run)

    async def begin(self) -> None:
        """See `Child`."""

    def stop(self) -> None:
        """See `Child`: ingress may still ask."""

    def end(self) -> None:
        """See `Child`."""
        self._over.set()

    async def ended(self) -> None:
        """See `Child`."""
        await self._over.wait()

    async def _find_user(self, name: str, _: Descriptors) -> FoundUser:
        asked = anyio.to_thread.run_sync(ask_for_user, name, abandon_on_cancel=True, limiter=self._users)
        return FoundUser(await asked)

    async def _find_name(self, address: str, _: Descriptors) -> PeerName:
        return await anyio.to_thread.run_sync(ask_system, address, abandon_on_cancel=True, limiter=self._names)


class Helper:
    """The helper as ingress sees it; `attach` it whenever there is a new one."""

    def __init__(self) -> None:
        self._channel: Channel | None = None

    def attach(self, channel: Channel) -> None:
        """From here on, this one is asked."""
        self._channel = channel

    async def find_user(self, name: str) -> User | None:
        """See `policy.tables.passwd.Ask`."""
        try:
            found = await self._there().call(FIND_USER, name)
        except (ChannelClosed, CallFailed) as error:
            raise TableUnavailable(f"the system's users: the helper process does not answer: {error}") from error
        return found.user

    async def find_name(self, address: str) -> PeerName:
        """See `ingress.names.Ask`."""
        try:
            return await self._there().call(FIND_NAME, address)
        except (ChannelClosed, CallFailed):
            return UNCERTAIN

    def _there(self) -> Channel:
        if self._channel is None:
            raise ChannelClosed("it is not there yet")
        return self._channel
