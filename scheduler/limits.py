"""How much at once: sessions of each kind of traffic, and of each route within it.

A route starts with a few sessions and earns one more with every success; when one of its sessions is turned away while
others work, it is halved and earns slowly from there. So an unknown or crowded server is not overrun, and a fast one is
used.

Guarantees: limits count on the route's name, whatever lanes lead to it. Of a route without mail in hand nothing is kept
but that it worked, and that of a bounded number.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields, replace
from typing import Final

from policy.config import AnyAction, Command, ExpandOnly, ForwardOnly, Lmtp, Maildir, Mbox, Relay
from policy.limits import Limits as PolicyLimits
from policy.limits import MtaLimits


class Traffic(enum.Enum):
    """Kinds of traffic that the operator pauses, and that never wait for one another. The value is their name."""

    RELAY = "mta"
    LOCAL = "mda"
    REPORTS = "bounce"


@dataclass(frozen=True, slots=True)
class Room:
    """What one kind of traffic may use at once."""

    sessions: int
    #: Sessions with routes that have not worked yet as far as we remember, and with routes that fail: their time-outs must
    #: not eat what working routes need. As many as ``sessions`` where routes do not differ in that.
    strangers: int
    probes: int
    #: Envelopes claimed and not yet recorded; a crash repeats at most these.
    in_flight: int
    #: Octets of their bodies in memory.
    octets: int
    #: Sessions for the commands and files that one user chose, whatever lanes they are in: somebody whose .forward has a
    #: hundred slow commands has no more of them than somebody with one, and leaves the others theirs.
    of_one_user: int = 7


ROOM: Final = {
    # OpenSMTPD allows 100 connections a relay; here it is for all of them, because one process holds them.
    Traffic.RELAY: Room(sessions=100, strangers=50, probes=25, in_flight=1000, octets=16 << 20),
    # Each may be a process of a user: 50 in all, like the users' processes of a mail server of this size.
    Traffic.LOCAL: Room(sessions=50, strangers=50, probes=12, in_flight=1000, octets=16 << 20),
    # Reports are short work inside this process; the sessions are there to share commits.
    Traffic.REPORTS: Room(sessions=10, strangers=10, probes=1, in_flight=100, octets=4 << 20),
}


#: Routes that are remembered as working after their last mail; a stranger has fewer rights until its first success.
REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sessions of one route: how many at first, and how many at most."""

    first: int
    most: int
    #: Batches, beyond as many as it has sessions, that may wait to be recorded while the next are at work.
    behind: int = 0


#: As Postfix does: 5 at first, at most 20 with one next hop. Hosts behind one MX name are delivery's business.
_RELAY: Final = Bounds(5, 20)
_DELAYS: Final = tuple(each.name for each in fields(MtaLimits) if "delay" in each.name)
#: Where the operator's limits make sessions wait for connections: more of them would wait while others need theirs.
_HELD_BACK: Final = Bounds(5, 5)
#: Commands of one user, as OpenSMTPD does.
_COMMAND: Final = Bounds(7, 7)
#: One agent for each user: a second would only wait for the mailbox's lock, or for the same disk, and each batch would be
#: half as large. It writes while the batch before is being recorded, which a mailbox recognises if it comes twice.
_MAILBOX: Final = Bounds(1, 1, behind=1)
_LMTP: Final = Bounds(2, 5)
_REPORTS: Final = Bounds(10, 10)


def traffic_of(action: AnyAction | None) -> Traffic:
    """The kind of traffic that an action makes; None is the lane of reports."""
    if action is None:
        return Traffic.REPORTS
    return Traffic.RELAY if isinstance(action, Relay) else Traffic.LOCAL


def room_of(traffic: Traffic, limits: PolicyLimits) -> Room:
    """What the operator's limits leave of a kind of traffic, or add to it."""
    room = ROOM[traffic]
    if traffic is not Traffic.REPORTS and limits.scheduler.max_inflight is not None:
        room = replace(room, in_flight=limits.scheduler.max_inflight)
    sessions = limits.mda.max_session if traffic is Traffic.LOCAL else None
    if sessions is not None:
        room = replace(room, sessions=sessions, strangers=sessions, probes=min(room.probes, sessions))
    return replace(room, of_one_user=command_bounds(limits).most)


def command_bounds(limits: PolicyLimits) -> Bounds:
    """How many commands of one user may run, whatever action they belong to."""
    return _bounded(_COMMAND, limits.mda.max_session_per_user)


def bounds_of(action: AnyAction | None, relay: str = "", limits: PolicyLimits | None = None) -> Bounds:
    """How many sessions a route by this action may have; None is the lane of reports.

    ``relay`` is the domain or the smarthost that a relaying route leads to.
    """
    limits = limits or PolicyLimits()
    match action:
        case None:
            return _REPORTS
        case Relay():
            mta = limits.of_relay(relay)
            usual = _HELD_BACK if _is_held_back(mta) else _RELAY
            bounds = _bounded(usual, mta.max_conn_per_relay, mta.max_conn_per_domain)
            # With several source addresses it has several connectors; what is too much then waits for its turn there.
            return _capped(bounds, mta.max_conn_per_connector if action.src is None else None)
        case Mbox() | Maildir():
            return _MAILBOX
        case Command() | ForwardOnly() | ExpandOnly():
            # The latter two have nothing but what aliases and .forward files name: commands and files.
            return command_bounds(limits)
        case Lmtp():
            return _bounded(_LMTP, limits.mda.max_session_per_user)


def _is_held_back(mta: MtaLimits) -> bool:
    most = (mta.max_conn_per_host, mta.max_conn_per_route, mta.max_conn_per_source)
    delays = (getattr(mta, key) for key in _DELAYS)
    return any(each is not None and each < _HELD_BACK.most for each in most) or any(delays)


def _bounded(bounds: Bounds, *most: int | None) -> Bounds:
    """With the least of ``most`` in place of its own, where one is set."""
    given = [each for each in most if each is not None]
    return Bounds(min(bounds.first, *given), min(given)) if given else bounds


def _capped(bounds: Bounds, most: int | None) -> Bounds:
    return bounds if most is None else Bounds(min(bounds.first, most), min(bounds.most, most))


@dataclass(slots=True)
class RouteLoad:
    """What is known of a route as long as a lane in hand leads to it. Times are spool time in milliseconds."""

    bounds: Bounds
    #: Sessions it may have now.
    allowed: int
    #: Lanes in hand that lead to it.
    lanes: int = 0
    running: int = 0
    #: Batches that sessions have ended and the spool does not know of yet. They are what a crash makes twice, so they are
    #: bounded like the sessions themselves.
    unrecorded: int = 0
    #: Whether it worked when it was used last.
    is_proven: bool = False
    #: When it worked last, or before all time.
    worked_at: int = -1
    #: It was turned away once: from here on it earns a session in a whole round of successes, not with each one.
    crowded: bool = False
    successes: int = 0

    @property
    def free(self) -> int:
        """Sessions that may be started."""
        return 0 if self.unrecorded >= self.allowed + self.bounds.behind else self.allowed - self.running

    def worked(self, at: int) -> None:
        """One of its sessions did what it was for, or was answered by who should answer."""
        self.is_proven = True
        self.worked_at = max(at, self.worked_at)
        self.successes += 1
        if self.allowed < self.bounds.most and (not self.crowded or self.successes >= self.allowed):
            self.allowed += 1
            self.successes = 0

    def turned_away(self) -> None:
        """One of its sessions failed while another worked: there are too many of them."""
        self.crowded = True
        self.successes = 0
        self.allowed = max(1, min(self.allowed, self.running) // 2)


class Limits:
    """The loads of all routes that a lane in hand leads to."""

    def __init__(self) -> None:
        self._loads: dict[str, RouteLoad] = {}
        #: Routes out of hand that worked, the one used last at the end.
        self._proven: dict[str, None] = {}

    def is_proven(self, name: str) -> bool:
        """Whether this route worked when it was used last, as far as we remember."""
        load = self._loads.get(name)
        return name in self._proven if load is None else load.is_proven

    def open(self, name: str, bounds: Bounds) -> RouteLoad:
        """A lane that leads to this route is in hand."""
        load = self._loads.get(name)
        if load is None:
            load = self._loads[name] = RouteLoad(bounds, bounds.first, is_proven=name in self._proven)
        elif load.bounds != bounds:
            # The operator has changed them meanwhile.
            load.bounds, load.allowed = bounds, min(load.allowed, bounds.most)
        load.lanes += 1
        return load

    def close(self, name: str) -> None:
        """Such a lane is out of hand; the route is forgotten with its last one."""
        load = self._loads[name]
        load.lanes -= 1
        if load.lanes:
            return
        del self._loads[name]
        self._proven.pop(name, None)
        if load.is_proven:
            self._proven[name] = None
            if len(self._proven) > REMEMBERED:
                del self._proven[next(iter(self._proven))]
