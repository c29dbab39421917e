"""A TCP connection to the first address of a host that answers, IPv6 and IPv4 taken in turn.

An address gets a head start; then the next is tried as well, and whichever answers first wins (RFC 8305). So a host whose
IPv6 leads nowhere costs a quarter of a second, not half a minute.

Failure: `Unreachable`, naming every address and what became of it.

RFC 8305 4 and 5 (order and stagger), RFC 5321 5.1 (all addresses are tried).
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Final

import anyio

from delivery.hop import Hop, Unreachable, unconnected
from delivery.timeouts import Timeouts

#: Addresses of one host that are tried at most; a hostile DNS can name any number.
MAX_ADDRESSES: Final = 12


def in_turn(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 addresses alternating, IPv6 first, each kind in its own order."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    pairs = chain.from_iterable(zip_longest(six, four))
    return [address for address in pairs if address is not None][:MAX_ADDRESSES]


class Race:
    """One try to reach a host at several addresses; afterwards `untried` has those that neither won nor failed."""

    def __init__(
        self, hop: Hop, addresses: Sequence[str], timeouts: Timeouts, sources: Mapping[str, str] | None = None
    ) -> None:
        """``sources`` has the local address for each of ``addresses`` where that was chosen already."""
        self._hop = hop
        self._timeouts = timeouts
        self._sources = sources or {}
        self.untried = list(addresses)
        self._failures: dict[str, str] = {}
        self._won: tuple[socket.socket, str] | None = None

    async def run(self) -> tuple[socket.socket, str]:
        """A connected socket, and the address. Raises `Unreachable`."""
        try:
            await self._start_all()
        except BaseException:
            if self._won:
                self._won[0].close()
            raise
        if self._won:
            return self._won
        raise self._nobody_answered()

    async def _start_all(self) -> None:
        async with anyio.create_task_group() as group:
            for address in list(self.untried):
                done = anyio.Event()
                group.start_soon(self._try, address, done, group.cancel_scope)
                with anyio.move_on_after(self._timeouts.stagger):
                    await done.wait()
                if self._won:
                    break

    async def _try(self, address: str, done: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            with anyio.fail_after(self._timeouts.connect):
                connection = await _connect(address, self._hop, self._sources.get(address, ""))
        except TimeoutError:
            self._failures[address] = f"no answer within {self._timeouts.connect:g} s"
        except OSError as error:
            self._failures[address] = os.strerror(error.errno) if error.errno else str(error)
        else:
            if self._won:
                connection.close()
            else:
                self._won = connection, address
                scope.cancel()
        finally:
            done.set()
        self.untried.remove(address)

    def _nobody_answered(self) -> Unreachable:
        port = self._hop.port
        tries = "; ".join(f"{_bracketed(address)}:{port}: {why}" for address, why in self._failures.items())
        return unconnected(tries or "there is no address to connect to", self._hop.host)


async def _connect(address: str, hop: Hop, source: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hop.sources:
            connection.bind((source or _any_source(hop.sources, family), 0))
        await asyncio.get_running_loop().sock_connect(connection, (address, hop.port))
    except BaseException:
        connection.close()
        raise
    return connection


def fitting_sources(sources: Sequence[str], address: str) -> list[str]:
    """Those from which ``address`` can be reached, in random order."""
    fitting = [source for source in sources if (":" in source) == (":" in address)]
    return random.sample(fitting, len(fitting))


def _any_source(sources: Sequence[str], family: socket.AddressFamily) -> str:
    wanted = "::" if family is socket.AF_INET6 else "0.0.0.0"  # noqa: S104  (only its kind counts)
    fitting = fitting_sources(sources, wanted)
    if not fitting:
        raise OSError(f"none of the source addresses is {'IPv6' if family is socket.AF_INET6 else 'IPv4'}")
    return fitting[0]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
