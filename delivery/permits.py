"""How many connections there may be, and how soon one may follow another, by the operator's ``mta limit``.

Every connection is counted under six names: its host (an address), its source, both together (a route), its relay, relay
and source together (a connector), and its domain. Each name may have a limit of its own, and a delay from one connection
to the next. What the operator does not limit is counted all the same, because other mail may have limits there.

Guarantees: nothing is granted beyond a limit of the mail that asks, whoever holds the others. A connection counts until it
is closed, also while it waits for more mail.

Failure: none; who is refused learns how long to wait.

smtpd.conf(5), ``mta limit``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

import anyio

from delivery.hop import Purpose

#: Names whose past is remembered; of those without a connection, the ones used longest ago are forgotten beyond that.
REMEMBERED: Final = 20_000
#: So many of them are looked at for that each time: more than one, because some have connections.
LOOKED_AT: Final = 4

Name: TypeAlias = tuple[str, ...]
"""What connections are counted under: a kind, and what it takes to tell one of this kind from another."""


@dataclass(frozen=True, slots=True)
class Way:
    """From one of our addresses to one of a host's."""

    address: str
    #: Empty: the system chooses.
    source: str = ""


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to have one connection."""

    way: Way
    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Not now."""

    #: Under these names there are as many as there may be.
    full: tuple[Name, ...]
    #: Seconds after which it may be otherwise; infinite when a connection must end before.
    pause: float


@dataclass(frozen=True, slots=True)
class _Rule:
    name: Name
    most: int | None
    #: Seconds between two beginnings, and from an end to the next beginning.
    delay: int | None
    rest: int | None = None


@dataclass(slots=True)
class _Tally:
    open: int = 0
    begun: float = -math.inf
    ended: float = -math.inf


class Permits:
    """See the module. ``now`` is in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: The name used longest ago first.
        self._tallies: dict[Name, _Tally] = {}
        #: What those who wait now wait for.
        self._change: anyio.Event | None = None

    def ask(self, way: Way, purpose: Purpose) -> Permit | Refusal:
        """Whether a connection may be opened now; if so, it counts from now on, until it is given back."""
        rules, now = tuple(_rules(way, purpose)), self._now()
        tallies = [self._tallies.get(rule.name, _Tally()) for rule in rules]
        full = tuple(rule.name for rule, tally in zip(rules, tallies, strict=True) if tally.open >= _most(rule))
        if full:
            return Refusal(full, math.inf)
        free_at = max(_free_at(rule, tally) for rule, tally in zip(rules, tallies, strict=True))
        if free_at > now:
            return Refusal((), free_at - now)
        for rule, tally in zip(rules, tallies, strict=True):
            tally.open, tally.begun = tally.open + 1, now
            self._remember(rule.name, tally)
        return Permit(way, tuple(rule.name for rule in rules))

    def give_back(self, permit: Permit, *, was_used: bool = True) -> None:
        """The connection is closed, or could not be opened; or nobody tried to, if it was not used."""
        for name in permit.names:
            tally = self._tallies[name]
            tally.open -= 1
            if was_used:
                tally.ended = self._now()
        self.tell()

    def tell(self) -> None:
        """Something changed: whoever waits should look again."""
        if self._change is not None:
            self._change.set()
            self._change = None

    async def change(self, patience: float) -> None:
        """Wait until something changes, for ``patience`` seconds at most."""
        self._change = self._change or anyio.Event()
        with anyio.move_on_after(patience):
            await self._change.wait()

    def _remember(self, name: Name, tally: _Tally) -> None:
        self._tallies.pop(name, None)
        self._tallies[name] = tally
        if len(self._tallies) > REMEMBERED:
            self._forget()

    def _forget(self) -> None:
        for oldest in list(islice(self._tallies, LOOKED_AT)):
            forgotten = self._tallies.pop(oldest)
            if forgotten.open:
                self._tallies[oldest] = forgotten
            else:
                return


def _rules(way: Way, purpose: Purpose) -> Iterator[_Rule]:
    relay, domain, limits = purpose.relay, purpose.domain, purpose.limits
    address, source = way.address, way.source
    yield _Rule(("host", address), limits.max_conn_per_host, limits.conn_delay_host)
    yield _Rule(
        ("route", source, address), limits.max_conn_per_route, limits.conn_delay_route, limits.reconn_delay_route
    )
    yield _Rule(("source", source), limits.max_conn_per_source, limits.conn_delay_source)
    yield _Rule(("connector", relay, source), limits.max_conn_per_connector, limits.conn_delay_connector)
    yield _Rule(("relay", relay), limits.max_conn_per_relay, limits.conn_delay_relay)
    yield _Rule(("domain", domain), limits.max_conn_per_domain, limits.conn_delay_domain)


def _most(rule: _Rule) -> float:
    return math.inf if rule.most is None else rule.most


def _free_at(rule: _Rule, tally: _Tally) -> float:
    return max(tally.begun + (rule.delay or 0), tally.ended + (rule.rest or 0))
