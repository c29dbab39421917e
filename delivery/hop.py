"""A next hop: one host that may take a message, and all that it takes to speak to it.

Guarantees: connections to equal hops can stand in for one another: everything that makes a difference is part of the value,
the credentials too, so that a corrected password never meets a connection made with the old one.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Final

from delivery.tls import TlsTerms
from policy.config import RelayTls
from policy.limits import MtaLimits
from policy.tables.table import Table
from spool.outcome import Deferred, Failed, Stage
from spool.reply import Reply

#: What stands where a server repeated a password.
CONCEALED: Final = "(...)"
#: Octets of base64 that are no accident.
_TELLING: Final = 8


@dataclass(frozen=True, slots=True)
class Login:
    """What we authenticate with. Only the label may be shown to anybody."""

    #: What the credentials are called in the configuration.
    label: str
    user: str = field(repr=False)
    password: str = field(repr=False)

    def conceal(self, text: str) -> str:
        """``text`` without the password: servers repeat what they do not understand, some of them only its beginning."""
        for octets in (f"\0{self.user}\0{self.password}", self.password):
            beginning = base64.b64encode(octets.encode()).decode()[:_TELLING]
            text = re.sub(re.escape(beginning) + "[A-Za-z0-9+/]*=*", CONCEALED, text, flags=re.IGNORECASE)
        return text.replace(self.password, CONCEALED) if len(self.password) >= _TELLING // 2 else text


@dataclass(frozen=True, slots=True)
class Hop:
    """See the module."""

    #: A name, or an IP address without brackets: what the certificate must name.
    host: str
    port: int
    tls: RelayTls
    terms: TlsTerms
    #: Our own name in EHLO.
    helo: str
    login: Login | None = None
    #: Local addresses to connect from; empty for any.
    sources: tuple[str, ...] = ()
    #: Our name by the local address that a connection has, before ``helo``.
    names: Table | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.tls.value}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Purpose:
    """For whose mail connections are opened: what they count on, and the limits that the operator set for it."""

    #: The route's name.
    relay: str = ""
    #: What ``mta limit for domain`` calls it: the destination's domain, or the smarthost.
    domain: str = ""
    limits: MtaLimits = field(default_factory=MtaLimits)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hop to be tried, with the addresses of its host where they are known already."""

    hop: Hop
    addresses: tuple[str, ...] = ()
    purpose: Purpose = field(default_factory=Purpose)


class Unreachable(Exception):
    """There is no way to a next hop, now or ever; ``outcome`` says which, for every envelope that wanted to go there."""

    def __init__(self, outcome: Deferred | Failed) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome

    @property
    def stage(self) -> Stage:
        """How far it came."""
        return self.outcome.stage


def misconfigured(text: str) -> Unreachable:
    """What the operator wrote leads nowhere; mail waits until it is corrected (RFC 3463 3.4: X.3.5)."""
    return Unreachable(Deferred(Reply(451, "4.3.5", text), stage=Stage.ROUTE))


def unresolved(text: str) -> Unreachable:
    """The name of a next hop means nothing now (RFC 3463 3.5: X.4.3)."""
    return Unreachable(Deferred(Reply(451, "4.4.3", text), stage=Stage.ROUTE))


def unconnected(text: str, remote: str) -> Unreachable:
    """Nobody answers there (RFC 3463 3.5: X.4.1)."""
    return Unreachable(Deferred(Reply(451, "4.4.1", text), remote, Stage.CONNECT))
