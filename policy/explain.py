"""An explanation: what would become of a mail to one recipient, and why, without sending anything.

These values are what ``smtpctl explain`` prints and, under the same names, what its ``--json`` gives.

Guarantees: no value holds a password; credentials go by their label.

smtpctl(8), EXPLANATIONS.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trial:
    """A rule that was tried."""

    #: ``file:line``.
    place: str
    #: The rule as it was understood.
    rule: str
    matched: bool
    #: What was compared: the condition that did not hold, or all that did.
    reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """An address that was put to the rules, and the rules that were tried, in order."""

    address: str
    #: It came out of an alias, so it counts as mail from this machine.
    internal: bool
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A step of the expansion, and what it led to."""

    #: ``address``, ``name``, ``include``, ``forward``, ``command``, ``file`` or ``error``.
    kind: str
    text: str
    #: Where it leads, and by which table or rule; or why it ends here.
    note: str
    #: Numbers of the envelopes that this step is the end of, counted from 1.
    envelope: int | None = None
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class NextHop:
    """A host that would be tried."""

    host: str
    port: int
    #: Of its MX record; None where there is none.
    preference: int | None
    addresses: tuple[str, ...]
    #: What is demanded of TLS, in words.
    tls: str
    #: Of the credentials, or empty. Never the credentials.
    label: str = ""
    #: The table in which the label was found, or empty.
    label_in: str = ""
    #: Why it cannot be tried now; empty when nothing is known against it.
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class RelayRoute:
    """The way to another server."""

    #: ``smarthost``, ``table`` (of smarthosts by domain), ``mx``, ``domain`` (which has no MX) or ``literal`` (the domain is
    #: an address).
    by: str
    #: In the order in which they are tried; smarthosts in turn, equals among MX hosts in random order.
    hops: tuple[NextHop, ...]
    #: The envelope sender that the next server sees.
    sender: str
    #: Our name in EHLO, and what changes it.
    helo: str
    #: Addresses to connect from; none for any.
    sources: tuple[str, ...] = ()
    #: Why there is no way, and what that means for the mail.
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """A delivery on this machine."""

    #: ``mbox``, ``maildir``, ``command``, ``lmtp`` or ``nowhere``.
    by: str
    #: The file, the folder, the command line, or the LMTP server.
    target: str
    #: As whom it is made.
    user: str = ""
    uid: int | None = None
    home: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class PlannedEnvelope:
    """An envelope that would be queued."""

    #: The address after expansion.
    destination: str
    #: The user, the command or the file where it ends; empty when it leaves this machine.
    ends_at: str
    action: str
    #: The key of the lane in which it waits; empty for a fixed host.
    lane: str
    #: How long it may wait, in seconds.
    ttl: int
    #: One of the two is the way it goes.
    relay: RelayRoute | None = None
    local: LocalRoute | None = None


@dataclass(frozen=True, slots=True)
class RefusedAnswer:
    """What the client would hear instead."""

    #: As the client sees it: ``550 5.7.1 Invalid recipient: <ann@example.org>``.
    reply: str
    #: Why, for us.
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole answer."""

    recipient: str
    sender: str
    #: IP address of the client, or ``local``.
    client: str
    login: str | None
    helo: str
    rdns: str
    tag: str
    tls: bool
    #: The configuration that it was worked out by.
    config: str
    #: Whether it is the configuration that the daemon runs by.
    running: bool
    asked: tuple[Asked, ...]
    tree: Node | None
    envelopes: tuple[PlannedEnvelope, ...] = ()
    refused: RefusedAnswer | None = None
