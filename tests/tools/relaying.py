"""Batches to relay, configurations to relay by, and a relayer with little patience."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from delivery.relay import Relayer
from delivery.resolver import Resolver
from delivery.routes import Routes
from delivery.timeouts import Timeouts
from policy.config import Config, Listener, Relay, RelayTls, Smarthost
from policy.errors import TableUnavailable
from policy.route import Route, Unroutable, lane_key, route_of
from policy.tables.patterns import Patterns
from policy.tables.table import Shape
from spool.address import Address, parse_address
from spool.bodies import Body, SmallBody
from spool.ids import envelope_id, new_message_id
from spool.lane import Lane
from spool.message import Batch, BodyKind, Claimed, Destination, Envelope, Message, Notify, Recipient, Ret
from spool.outcome import Attempt, Damaged, Outcome
from spool.state import Kind, State

BODY = b"Subject: hello\r\n\r\nhello\r\n"

#: Nothing on loopback takes longer than this unless a test makes it.
IMPATIENT = Timeouts(
    connect=2, stagger=0.05, greeting=2, command=2, handshake=2, mail=2, rcpt=2, data=2, block=2, dot=2, idle=2, quit=1
)

#: For tests that wait until patience is over.
BRIEF = replace(IMPATIENT, greeting=0.2, command=0.2, handshake=0.2, mail=0.2, rcpt=0.2, data=0.2, block=0.2, dot=0.2)


@dataclass(frozen=True)
class Letter:
    """What a test wants to say of a message; the rest is ordinary."""

    to: tuple[str, ...] = ("bob@example.org",)
    sender: Address = field(default_factory=lambda: parse_address("ann@example.com"))
    body: Body = field(default_factory=lambda: SmallBody(BODY))
    kind: BodyKind = BodyKind.PLAIN
    envid: str = ""
    ret: Ret | None = None
    #: NOTIFY as given, for every recipient; None when it was not.
    notify: Notify | None = None
    orcpt: str = ""


def batch(letter: Letter | None = None) -> Batch:
    """The letter on its way."""
    letter = letter or Letter()
    name = new_message_id(int(time.time() * 1000))
    message = Message(
        name, letter.sender, 0, time.time(), letter.body.size, letter.kind, envid=letter.envid, ret=letter.ret
    )
    lane = Lane("relay", "")
    items = []
    for number, text in enumerate(letter.to, 1):
        recipient = Recipient(parse_address(text), letter.orcpt)
        if letter.notify is not None:
            recipient = replace(recipient, notify=letter.notify, notify_given=True)
        destination = Destination(recipient.address)
        envelope = Envelope(
            envelope_id(name, number), recipient, destination, lane, Kind.MAIL, State.INFLIGHT, 0, 0, 10**15, None
        )
        items.append(Claimed(1, envelope, message, letter.body))
    return Batch(lane, tuple(items))


@dataclass(frozen=True)
class Secrets:
    """A table of secrets in memory, which a test can change or break."""

    entries: dict[str, str] = field(default_factory=dict)
    name: str = "secrets"
    broken: list[str] = field(default_factory=list)

    @property
    def written(self) -> str:
        return "{ }"

    @property
    def shape(self) -> Shape:
        return Shape.MAPPING

    def lookup(self, key: str) -> str | None:
        if self.broken:
            raise TableUnavailable(self.broken[0])
        return self.entries.get(key)

    def keys(self) -> Iterable[str]:
        return self.entries.keys()

    def patterns(self) -> Patterns:
        return Patterns()

    @property
    def is_stale(self) -> bool:
        return False

    @property
    def trouble(self) -> str:
        return "".join(self.broken)

    def refresh(self) -> None:
        pass


def config(action: Relay, **more: object) -> Config:
    """A configuration with one action, called "relay"."""
    ordinary: dict[str, object] = {
        "path": "smtpd.conf",
        "server_name": "box.example.net",
        "listeners": (Listener("127.0.0.9", 25),),
        "actions": {"relay": action},
        "rules": (),
    }
    return Config(**(ordinary | more))  # type: ignore[arg-type]


def to_host(port: int, tls: RelayTls = RelayTls.OPPORTUNISTIC, label: str = "", host: str = "127.0.0.1") -> Smarthost:
    """A smarthost on this machine."""
    return Smarthost(tls, host, port, label)


@dataclass
class House:
    """A relayer, its configuration (which may be exchanged), and the results of what it is told to send."""

    config: Config
    relayer: Relayer

    async def send(self, letter: Letter | None = None, domain: str = "example.org") -> list[Attempt | Damaged]:
        """Relay ``letter`` by the action "relay"."""
        action = self.config.actions["relay"]
        lane = Lane("relay", lane_key(action, domain, ""))
        route = route_of(self.config, lane)
        assert not isinstance(route, Unroutable)
        return list(await self.relayer.deliver(replace(batch(letter), lane=lane), route))

    async def outcomes(self, letter: Letter | None = None, domain: str = "example.org") -> list[Outcome]:
        """What came of it, without damage."""
        results = await self.send(letter, domain)
        assert all(isinstance(result, Attempt) for result in results), results
        return [result.outcome for result in results if isinstance(result, Attempt)]

    async def outcome(self, letter: Letter | None = None, domain: str = "example.org") -> Outcome:
        """What came of it, for the only recipient."""
        (outcome,) = await self.outcomes(letter, domain)
        return outcome


@asynccontextmanager
async def house(
    action: Relay,
    *,
    nameservers: tuple[tuple[str, int], ...] = (),
    mx_port: int = 25,
    timeouts: Timeouts = IMPATIENT,
    more: Mapping[str, object] | None = None,
) -> AsyncIterator[House]:
    """A relayer for a test, closed afterwards."""
    resolver = Resolver("/nonexistent/resolv.conf", nameservers, patience=0.5)
    built = House(config(action, **(more or {})), None)  # type: ignore[arg-type]
    routes = Routes(lambda: built.config, resolver, mx_port)
    built.relayer = Relayer(routes, lambda: int(time.monotonic() * 1000), timeouts)
    try:
        yield built
    finally:
        await built.relayer.aclose()


def route_to(action: Relay, key: str = "") -> Route:
    """The route of an action that no configuration names."""
    return Route(f"mx:{key}" if key else "relay", action, key, action.hosts)
