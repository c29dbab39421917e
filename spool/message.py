"""Messages, recipients, envelopes: the values that the whole house passes around.

All are frozen. Times are spool time in milliseconds unless a field says "wall" (seconds since 1970, for people).
A `Recipient` is what the client said at RCPT and never changes; reports speak of it. An `Envelope` is one final destination
after expansion.

RFC 5321 (envelope), RFC 3461 4 (NOTIFY, ORCPT, RET, ENVID).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spool.address import Address
from spool.ids import EnvelopeId, MessageId
from spool.lane import Lane
from spool.reply import Reply
from spool.state import Kind, State

if TYPE_CHECKING:
    from spool.bodies import Body, StoredBody


class Notify(enum.Flag):
    """When the sender wants a report about a recipient (RFC 3461 4.1). ``NEVER`` stands alone."""

    NEVER = 0
    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    DELAY = enum.auto()


#: What a sender gets who asked for nothing (RFC 3461 4.1: FAILURE, and DELAY at our discretion).
DEFAULT_NOTIFY = Notify.FAILURE | Notify.DELAY


class Ret(enum.Enum):
    """How much of the message a failure report carries (RFC 3461 4.3)."""

    FULL = "FULL"
    HDRS = "HDRS"


class BodyKind(enum.Flag):
    """What the message needs of the next hop."""

    PLAIN = 0
    #: BODY=8BITMIME was declared or octets above 127 were seen (RFC 6152).
    EIGHT_BIT = enum.auto()
    #: The SMTPUTF8 parameter was given (RFC 6531).
    SMTPUTF8 = enum.auto()


@dataclass(frozen=True, slots=True)
class Client:
    """Who handed the message over, as far as it is known."""

    #: IP address as text, or ``local`` for the submission socket and the drop.
    address: str = "local"
    #: Confirmed reverse name, or empty.
    host: str = ""
    helo: str = ""
    #: ``ESMTP``, ``ESMTPSA``, ... (RFC 3848), or ``local``.
    protocol: str = "local"
    #: The login that authenticated, or empty.
    login: str = ""
    #: The submitting user's uid on this machine, when the kernel told us.
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was accepted. Its body is kept beside it, trace headers and all, in wire form (see `Body`)."""

    id: MessageId
    return_path: Address
    arrived: int
    #: Wall clock at arrival.
    received_at: float
    #: Octets of the body in wire form.
    size: int
    body_kind: BodyKind = BodyKind.PLAIN
    #: As the client wrote it, still xtext (RFC 3461 4.4); empty when none was given.
    envid: str = ""
    ret: Ret | None = None
    client: Client = Client()


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient as given at RCPT."""

    address: Address
    #: ``type;xtext`` as the client wrote it (RFC 3461 4.2); empty when none was given.
    orcpt: str = ""
    notify: Notify = DEFAULT_NOTIFY
    #: Whether NOTIFY was given: then it is passed on, otherwise not.
    notify_given: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one envelope ends: an address, and for local actions the user."""

    address: Address
    #: The local user whose mailbox or command gets the message; empty for relay actions.
    user: str = ""
    #: The tag of a sub-addressed recipient (``user+tag``), or empty.
    extension: str = ""
    #: ``|command`` or ``/file`` that an alias names in place of the action's own method; empty otherwise.
    target: str = ""


@dataclass(frozen=True, slots=True)
class NewEnvelope:
    """An envelope that is about to be accepted."""

    recipient: Recipient
    destination: Destination
    lane: Lane
    #: How long it may wait, in milliseconds.
    ttl: int
    #: After how long its sender is owed a delay notice, in milliseconds; None when never.
    warn_after: int | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """One final destination of a message, as the spool keeps it."""

    id: EnvelopeId
    recipient: Recipient
    destination: Destination
    lane: Lane
    kind: Kind
    state: State
    attempts: int
    due: int
    deadline: int
    #: When the sender is owed the next delay notice, or None.
    warn_at: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipient that is refused after its sender was told that the message is taken: only a report can say so."""

    recipient: Recipient
    reply: Reply


@dataclass(frozen=True, slots=True)
class Submission:
    """Everything that is committed at once: the message, its body, its envelopes."""

    message: Message
    body: bytes | StoredBody
    envelopes: tuple[NewEnvelope, ...]
    #: The name of the drop file this came from: a second reading of it changes nothing. Empty otherwise.
    drop: str = ""
    #: What the sender is told has failed, by the same commit.
    refused: tuple[Refusal, ...] = ()
    #: Recipients that have become several envelopes, and whose sender wants to hear of success: that they have.
    expanded: tuple[Recipient, ...] = ()


@dataclass(frozen=True, slots=True)
class Claimed:
    """An envelope in flight, with all that an attempt needs."""

    lane_id: int
    envelope: Envelope
    message: Message
    body: Body
    #: Whether an earlier start had it in flight, so that a copy of ours may already be in the mailbox.
    was_in_flight: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What is tried together: one lane; for a relay one message and its envelopes, for a local user several messages."""

    lane: Lane
    items: tuple[Claimed, ...]
