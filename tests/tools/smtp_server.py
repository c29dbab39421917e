"""Our SMTP server on loopback, over a real spool, with policy as simple as a test needs it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio

from ingress.limits import MAX_SURPLUS, Limits
from ingress.listener import Ingress
from ingress.memory import Memory
from ingress.names import Names
from ingress.openings import Opening, bind
from ingress.transaction import Admit, House
from policy.admit import Admitted, Refused
from policy.config import Config, Facts, Listener
from policy.errors import TableUnavailable
from policy.tables.inline import InlineTable
from spool.door import SpoolDoor
from spool.lane import Lane
from spool.message import Destination, NewEnvelope, Recipient
from spool.reply import Reply

HOST = "mx.here.example"
#: Limits that fit into a test's patience.
QUICK = Limits(tick=0.05, login_delay=0.01, linger=0.5, grace=2.0, idle_commands=1_000_000)
LANE = Lane("out", "")
TTL = 3_600_000
#: ``user`` has the password ``secret``; the hash is a quick one.
HASH = "$5$rounds=1000$lgQyBbONDx1MDZKt$3C1VXCuP4AX2Dqb69eEyoua.9TqkJ7nA/C93clu9rI1"


class People(InlineTable):
    """Who may log in; it cannot be asked about ``later``."""

    def lookup(self, key: str) -> str | None:
        if key == "later":
            raise TableUnavailable("/etc/creds: no such file")
        return super().lookup(key)


PEOPLE = People.of_mapping("creds", {"user": HASH})


#: Envelopes that the recipient ``crowd`` becomes; two of them are more than a message may have beside its recipients.
CROWD = MAX_SURPLUS // 2 + 1


@dataclass
class SimplePolicy:
    """Takes every recipient, but for those whose name says otherwise; remembers what it was asked."""

    asked: list[tuple[Facts, Recipient]] = field(default_factory=list)
    #: What the recipient ``slow`` waits for.
    gate: anyio.Event = field(default_factory=anyio.Event)

    async def admit(self, config: Config, facts: Facts, recipient: Recipient) -> Admitted | Refused:
        self.asked.append((facts, recipient))
        match recipient.address.local:
            case "nobody":
                return Refused(Reply(550, "5.1.1", "Invalid recipient"), "no such user")
            case "relay":
                return Refused(Reply(550, "5.7.1", "Relaying denied"), "no rule")
            case "later":
                raise TableUnavailable("/etc/aliases: no such file")
            case "bug":
                raise RuntimeError("/etc/secret is not for you")
            case "slow":
                await self.gate.wait()
            case "two":
                return Admitted((_envelope(recipient), _envelope(recipient)))
            case "crowd":
                return Admitted((_envelope(recipient),) * CROWD)
        return Admitted((_envelope(recipient),))


def _envelope(recipient: Recipient) -> NewEnvelope:
    return NewEnvelope(recipient, Destination(recipient.address), LANE, TTL)


@dataclass
class Server:
    """One that runs. A test may change `config` while it does."""

    ingress: Ingress
    policy: SimplePolicy
    config: Config

    @property
    def address(self) -> str | tuple[str, int]:
        return self.ingress.addresses[0]

    @property
    def port(self) -> int:
        address = self.address
        assert isinstance(address, tuple)
        return address[1]


@dataclass(frozen=True)
class Setting:
    """What a test wants of its server; the rest is ordinary."""

    listener: Listener = Listener("127.0.0.1", 0)  # noqa: RUF009 -- frozen
    limits: Limits = QUICK
    tls: ssl.SSLContext | None = None
    #: Makes another of the kind.
    renew: Callable[[], ssl.SSLContext] | None = None
    #: The path of the submission socket, for a listener that is one.
    path: str = ""
    #: Policy's own, in place of the simple one.
    admit: Admit | None = None
    #: What the reverse DNS says.
    names: Names | None = None
    #: For messages under way.
    memory: Memory = field(default_factory=Memory)
    max_message_size: int = 36_700_160
    max_mails: int = 100
    max_recipients: int = 1000


@asynccontextmanager
async def smtp_server(spool: SpoolDoor, setting: Setting | None = None) -> AsyncIterator[Server]:
    """Run it until the block ends."""
    setting = setting or Setting()
    config = Config(
        "smtpd.conf",
        HOST,
        (setting.listener,),
        {},
        (),
        max_message_size=setting.max_message_size,
        max_mails=setting.max_mails,
        max_recipients=setting.max_recipients,
    )
    policy = SimplePolicy()
    ingress = Ingress(
        House(lambda: server.config, setting.admit or policy.admit, spool, setting.memory),
        setting.limits,
        setting.names,
    )
    server = Server(ingress, policy, config)
    async with anyio.create_task_group() as tasks:
        await tasks.start(ingress.serve, [opening(setting.listener, setting)])
        yield server
        ingress.stop()


def opening(listener: Listener, setting: Setting | None = None) -> Opening:
    """A listener with a socket, bound."""
    setting = setting or Setting()
    return Opening(listener, bind(listener, setting.path), setting.tls, setting.renew)


def with_limits(**changes: float) -> Setting:
    """An ordinary server but for these limits."""
    return Setting(limits=replace(QUICK, **changes))  # type: ignore[arg-type]
