"""What came of an attempt: `Delivered`, `Deferred` or `Failed`, each a whole value.

Exceptions are for our troubles; outcomes are for the world's. Every attempt for every envelope ends in one of them.
Nothing unknown is permanent: a stray exception in delivery is ``Deferred`` with 4.3.0.

RFC 3463 (status), RFC 3464 2.3 (what a report wants to know of it).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from spool.ids import EnvelopeId, MessageId
from spool.reply import Reply


class Stage(enum.Enum):
    """How far an attempt came. The value is what the history and ``smtpctl`` print."""

    #: Finding out where to go: configuration, tables, DNS.
    ROUTE = "route"
    #: Reaching the next hop, up to its greeting.
    CONNECT = "connect"
    #: EHLO, STARTTLS, certificate.
    TLS = "tls"
    #: Our credentials.
    AUTH = "auth"
    #: MAIL, and what holds for the whole message.
    MAIL = "mail"
    #: RCPT of this recipient.
    RCPT = "rcpt"
    #: DATA, up to the final dot.
    DATA = "data"
    #: The final dot was sent. Without a reply the message may have arrived.
    DOT = "dot"
    #: A local mailbox, command or report.
    LOCAL = "local"

    @property
    def closes_lane(self) -> bool:
        """Whether a deferral here says something of the route, not of the message or the recipient."""
        return self in (Stage.ROUTE, Stage.CONNECT, Stage.TLS, Stage.AUTH)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop took the message, or it is in the mailbox."""

    reply: Reply
    #: The host that answered (name and address as text), or empty for local delivery.
    remote: str = ""
    stage: Stage = Stage.DOT
    #: Whether the next hop took over the wish for reports (RFC 3461 5.2.2); if not, "relayed" is ours to say.
    dsn_passed_on: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. The envelope waits; when ``stage.closes_lane``, its whole lane does."""

    reply: Reply
    remote: str = ""
    stage: Stage = Stage.LOCAL


@dataclass(frozen=True, slots=True)
class Failed:
    """Never. The sender is told, unless the sender is null or asked not to be."""

    reply: Reply
    remote: str = ""
    stage: Stage = Stage.LOCAL


Outcome: TypeAlias = Delivered | Deferred | Failed


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try for one envelope, kept for 7 days as the answer to "why?". Times are spool time in milliseconds."""

    envelope: EnvelopeId
    started: int
    ended: int
    #: The route as text: ``smtp+tls://mx.example:25``, ``maildir:/home/ann/Maildir``.
    route: str
    outcome: Outcome

    @property
    def message(self) -> MessageId:
        """The message this envelope belongs to."""
        return MessageId(self.envelope.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Damaged:
    """What delivery answers in place of an `Attempt` when a body proved damaged: nothing of it became visible."""

    envelope: EnvelopeId
    reason: str
