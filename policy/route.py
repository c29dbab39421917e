"""Routes: where the next hop of a lane is, and what it requires, by the present configuration.

An envelope keeps its action's *name*; the action is looked up when the envelope is tried, so correcting the configuration
repairs mail that is already queued. Limits count on the route, whatever lanes lead to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from policy.config import AnyAction, Config, Relay, Smarthost
from spool.lane import Lane
from spool.message import Destination

#: Where a command or a file begins in a `local_key`: neither character is in the name of a user.
_TARGET: Final = re.compile(r"[|/]")


@dataclass(frozen=True, slots=True)
class Route:
    """A next hop."""

    #: What limits and histories count on: ``smtps://label@mail.example:465``, ``mx:example.org``, ``mbox:ann``.
    name: str
    action: AnyAction
    #: The lane's key: a domain for MX, a user for local actions.
    key: str
    #: The smarthosts to try in order; empty for MX and local actions.
    hosts: tuple[Smarthost, ...] = ()

    @property
    def relay(self) -> str:
        """By what name ``mta limit for domain`` means it: the first smarthost, or the destination's domain.

        Empty where a table has the smarthost: it is known when it is asked, at each delivery.
        """
        if self.hosts:
            return self.hosts[0].host
        return self.key if isinstance(self.action, Relay) and self.action.domain is None else ""


@dataclass(frozen=True, slots=True)
class Unroutable:
    """The configuration has no such action any more: the lane waits, with this reason."""

    reason: str


def lane_key(action: AnyAction, domain: str, user: str) -> str:
    """The key of the lane for an envelope of ``action``: the domain for MX, the user locally, nothing for a fixed host."""
    if isinstance(action, Relay):
        return "" if action.hosts else domain.lower()
    return user


def local_key(destination: Destination) -> str:
    """What keeps a destination on this machine apart from others: the user, and a command or file in the method's place.

    A user's mailbox and a command of the same user's .forward are reached in different ways, so they wait apart.
    """
    return destination.user + destination.target


def leads_to_command(key: str) -> bool:
    """Whether a local lane with this ``key`` is that of a command which an alias or a .forward names."""
    where = _TARGET.search(key)
    return where is not None and where.group() == "|"


def chooser_of(key: str) -> str:
    """The user whose .forward or alias names the command or file of a local lane with this ``key``; empty for others."""
    where = _TARGET.search(key)
    return "" if where is None else key[: where.start()]


def route_of(config: Config, lane: Lane) -> Route | Unroutable:
    """The route that ``lane`` has by ``config``."""
    action = config.actions.get(lane.action)
    if action is None:
        return Unroutable(f'no action "{lane.action}" in {config.path}')
    if not isinstance(action, Relay):
        return Route(f"{type(action).__name__.lower()}:{lane.key}", action, lane.key)
    if action.hosts:
        name = ",".join(f"{host.label}@{host}" if host.label else str(host) for host in action.hosts)
        return Route(name, action, "", action.hosts)
    if not lane.key:
        return Unroutable(f'action "{lane.action}" goes by domain now, but this mail was queued for a fixed host')
    return Route(f"{'mx' if action.domain is None else 'domain'}:{lane.key}", action, lane.key)
