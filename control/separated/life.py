"""The life of a process with one role: it becomes its user, hears from the supervisor what there is to do, and does it.

Guarantees: before it reads a word from anybody it has its user's rights and no way back. When the supervisor has gone it
ends: nobody could start it again, or stop it.

Failure: an unforeseen exception is logged and ends the process with 70; the supervisor starts another.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pickle
import pkgutil
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskGroup

from control.journal import Journal, open_journal
from control.separated.accounts import Account, Role, Seat
from control.separated.bonds import (
    BEGIN,
    END,
    FAULTS,
    LOG_SOCKET,
    SPEAK,
    STANDS,
    STOP,
    TAKE,
    TALK,
    Stands,
    Take,
    Talk,
    Voice,
)
from control.separated.grounds import Grounds, wall_of
from control.walls.raising import Standing, raise_walls
from spool.channel import CallFailed, Channel, ChannelClosed, Descriptors, Offer
from spool.migrations import read_climb
from spool.opening import database_path

_log: Final = logging.getLogger("control.daemon")


class Child(Protocol):
    """A role in a process of its own."""

    async def take(self, generation: Any, sockets: list[socket.socket], *, is_reload: bool) -> None:
        """Go by this configuration from now on."""

    async def talk(self, to: Seat, end: socket.socket) -> None:
        """Here is another process to talk to, in place of the one in that seat before."""

    async def begin(self) -> None:
        """Do what the role does."""

    def stop(self) -> None:
        """Take nothing new."""

    def end(self) -> None:
        """Nobody needs it any more."""

    async def ended(self) -> None:
        """Return when it has ended by itself, and let go of everything."""


#: What is read once, for all. Code of these is loaded where it is needed first, which may be too late.
_PACKAGES: Final = ("spool", "policy", "scheduler", "delivery", "control.roles", "dns.rdtypes", "passlib.handlers")
#: Of these, what reads a configuration that somebody wrote: the supervisor does that for all. 2 MB in each process.
_NEVER: Final = ("policy.build", "policy.check", "policy.grammar", "policy.migrate", "policy.parser", "policy.text")
_LATE: Final = (
    "anyio._backends._asyncio",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "dns.asyncresolver",
    "dns.nameserver",
    "encodings.idna",
    "passlib.context",
    "re2",
    "uvloop",
    "zstandard",
)

#: Seconds between two looks whether lines of the log are lost.
LOG_PAUSE: Final = 1.0

#: Makes one, which calls the supervisor through the channel and has its tasks in the group.
Make = Callable[[TaskGroup, Channel, Journal], Child]


def _children() -> dict[Role, Make]:
    from control.separated.delivery import DeliveryProcess
    from control.separated.helper import HelperProcess
    from control.separated.ingress import IngressProcess
    from control.separated.queue import QueueProcess

    return {
        Role.DELIVERY: DeliveryProcess,
        Role.HELPER: HelperProcess,
        Role.INGRESS: IngressProcess,
        Role.QUEUE: QueueProcess,
    }


def prepare() -> None:
    """Read the code of all roles: they have it in common then, and as other users they may not be able to read it."""
    _children()
    for package in _PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith("__main__") and not module.name.startswith(_NEVER):
                importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)


def live(role: Role, account: Account, grounds: Grounds, bond: socket.socket, *, to_syslog: bool) -> int:
    """Be that role; the exit status."""
    os.setsid()
    os.chdir("/")
    # What ps and top call it.
    Path("/proc/self/comm").write_text(f"smtpd: {role.value}")
    if to_syslog:
        _close_standard_descriptors()
    if role is Role.QUEUE:
        read_climb(database_path(grounds.spool_dir))
    # Behind the walls there may be no way to the log daemon.
    journal = open_journal(to_syslog)
    try:
        standing = raise_walls(wall_of(role, grounds), account)
        _log.log(logging.INFO if standing.is_whole else logging.WARNING, "%s", standing.describe())
        main = partial(_live, _children()[role], bond, journal, standing)
        anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})
    except Exception:
        _log.exception("the %s process ends by a fault of its own", role.value)
        return os.EX_SOFTWARE
    return os.EX_OK


def _close_standard_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)


async def _live(make: Make, bond: socket.socket, journal: Journal, standing: Standing) -> None:
    async with anyio.create_task_group() as group:
        life = _Life(journal)
        channel = Channel(bond, life.offers(), FAULTS)
        life.child = make(group, channel, journal)
        await group.start(channel.run)
        channel.tell(STANDS, Stands(standing.fence.version, standing.refused))
        group.start_soon(_end_without, channel, group)
        group.start_soon(_keep_log, channel, journal)
        await life.child.ended()
        group.cancel_scope.cancel()
    gc.collect()


async def _keep_log(channel: Channel, journal: Journal) -> None:
    """Have the supervisor connect to a log daemon that was started anew, where the walls keep us from it."""
    while not channel.is_closed:
        await anyio.sleep(LOG_PAUSE)
        if journal.is_cut_off:
            with suppress(ChannelClosed, CallFailed):
                _, came = await channel.fetch(LOG_SOCKET, None)
                if len(came):
                    journal.reconnect(socket.socket(fileno=came.take()))


async def _end_without(channel: Channel, group: TaskGroup) -> None:
    await channel.wait_closed()
    _log.error("the supervisor has gone: ending")
    group.cancel_scope.cancel()


class _Life:
    """Serves the supervisor."""

    child: Child

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def offers(self) -> list[Offer]:
        return [
            Offer(TAKE, self._take),
            Offer(TALK, self._talk),
            Offer(BEGIN, self._begin),
            Offer(SPEAK, self._speak),
            Offer(STOP, self._stop),
            Offer(END, self._end),
        ]

    async def _take(self, frame: Take, came: Descriptors) -> None:
        # The octets are root's own, written for this process.
        generation = pickle.loads(frame.octets)  # noqa: S301
        sockets = [socket.socket(fileno=came.take()) for _ in range(len(came))]
        await self.child.take(generation, sockets, is_reload=frame.is_reload)

    async def _talk(self, frame: Talk, came: Descriptors) -> None:
        await self.child.talk(Seat(Role(frame.to), frame.number), socket.socket(fileno=came.take()))

    async def _begin(self, _: None, __: Descriptors) -> None:
        await self.child.begin()

    async def _speak(self, frame: Voice, _: Descriptors) -> None:
        self._journal.speak(frame.verbose, frame.traced)

    async def _stop(self, _: None, __: Descriptors) -> None:
        self.child.stop()

    async def _end(self, _: None, __: Descriptors) -> None:
        self.child.end()
