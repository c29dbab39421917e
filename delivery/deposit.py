"""Deposits: what is to be done on this machine for one envelope, with every name and path worked out beforehand.

A deposit is made by `delivery.local`, in this process or in an agent that runs as the recipient; the answer is an
`Outcome`, or `Damaged` when the body proved to be. Whoever gave the deposit sits at a `Desk`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from spool.outcome import Damaged, Deferred, Delivered, Failed, Stage
from spool.reply import Reply

if TYPE_CHECKING:
    from spool.bodies import Body
    from spool.ids import EnvelopeId
    from spool.intent import MboxIntent


#: The folder of a Maildir for what its header marks as spam, without the dot of its directory.
JUNK: Final = "Junk"


@dataclass(frozen=True, slots=True)
class ToMaildir:
    """Into the Maildir ``path``, as a file called ``name``: the same name at every attempt."""

    path: str
    name: str
    #: A sub-maildir that is used when the user has made it, or empty.
    folder: str = ""
    #: Whether what its header marks as spam goes to the folder `JUNK` instead, which is made when missing.
    sorts_junk: bool = False


@dataclass(frozen=True, slots=True)
class ToMbox:
    """At the end of the file ``path``, after the line ``From sender date``: the same octets at every attempt."""

    path: str
    sender: str
    #: Seconds since 1970.
    date: float
    #: What an earlier attempt was about to append, or None.
    earlier: MboxIntent | None = None


@dataclass(frozen=True, slots=True)
class ToCommand:
    """To the standard input of a program; no shell sees the arguments."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"
    #: Seconds it may run.
    limit: float = 300.0


Method: TypeAlias = ToMaildir | ToMbox | ToCommand


@dataclass(frozen=True, slots=True)
class Deposit:
    """One message for one local destination."""

    envelope: EnvelopeId
    method: Method
    #: What stands before the body, lines ending in LF.
    header: bytes
    #: The final address: a message that has been delivered to it before goes in a loop.
    address: str
    body: Body
    #: Whether an earlier attempt may have left a copy in the mailbox.
    tried_before: bool = False


Result: TypeAlias = Delivered | Deferred | Failed | Damaged


class Abandoned(Exception):
    """Nobody waits for the result any more: stop where it does the least harm."""


class Desk(Protocol):
    """Those who gave the deposits, while they are made. Called from the thread that does the work."""

    def commit(self, intents: Sequence[MboxIntent]) -> None:
        """Have the spool keep these; raises `Abandoned`, or `Refused` when it cannot."""

    def wait(self, seconds: float) -> None:
        """Sleep; raises `Abandoned` as soon as that is known."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when nobody waits any more."""


class Refused(Exception):
    """A deposit ends here with this outcome."""

    def __init__(self, outcome: Deferred | Failed) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome


def deferred(status: str, text: str, stage: Stage = Stage.LOCAL) -> Deferred:
    """A temporary failure of our own."""
    return Deferred(Reply(451, status, text), stage=stage)


def failed(status: str, text: str) -> Failed:
    """A permanent failure of our own."""
    return Failed(Reply(550, status, text))


def delivered(text: str) -> Delivered:
    """It is where it belongs, for good."""
    return Delivered(Reply(250, "2.0.0", text), stage=Stage.LOCAL)
