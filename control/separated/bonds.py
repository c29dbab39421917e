"""What the supervisor and its children say to each other.

A child hears of its configuration (pickled: root speaks to its own children, never the other way), of other processes to
talk to, of the log and of the end. It asks for what only root can do, in typed frames.

Guarantees: as `spool.channel`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from policy.errors import TableUnavailable
from spool.channel import Method
from spool.faults import SPOOL_FAULTS, Faults

#: Exceptions that cross between our processes.
FAULTS: Final[Faults] = MappingProxyType({**SPOOL_FAULTS, "TableUnavailable": TableUnavailable})


class Take(msgspec.Struct, frozen=True, array_like=True):
    """A generation for this role, pickled; with it come the sockets that are new, in the order it names them."""

    octets: bytes
    #: False when only the content of tables is new.
    is_reload: bool


class Talk(msgspec.Struct, frozen=True, array_like=True):
    """A channel to another process comes with this: its role, and which of them it is."""

    to: str
    number: int


class Voice(msgspec.Struct, frozen=True, array_like=True):
    """How much the log says."""

    verbose: bool
    traced: list[str]


class Trouble(msgspec.Struct, frozen=True, array_like=True):
    """What was wrong; empty when nothing was."""

    text: str


# -- to a child -------------------------------------------------------------------------------------------------------
TAKE: Final = Method("take", Take, type(None))
TALK: Final = Method("talk", Talk, type(None))
#: Begin to do what the role does; answered when it does.
BEGIN: Final = Method("begin", type(None), type(None))
SPEAK: Final = Method("speak", Voice, type(None))
#: Begin to end: take nothing new. The process ends by itself when what is under way has ended.
STOP: Final = Method("stop", type(None), type(None))
#: Nobody needs you any more.
END: Final = Method("end", type(None), type(None))


class Stands(msgspec.Struct, frozen=True, array_like=True):
    """Which walls a process has raised; see `control.walls.raising.Standing`."""

    landlock: int
    refused: int


# -- from every child to the supervisor -------------------------------------------------------------------------------
STANDS: Final = Method("stands", Stands, type(None))
#: A socket to the log daemon comes with the answer, where there is one.
LOG_SOCKET: Final = Method("log-socket", type(None), type(None))
#: A line for the walls of each process.
SHOW_WALLS: Final = Method("show-walls", type(None), list[str])

# -- from the queue to the supervisor ---------------------------------------------------------------------------------
SET_VOICE: Final = Method("set-voice", Voice, type(None))
#: Of that name; empty for all that have changed.
REFRESH_TABLE: Final = Method("refresh-table", str, Trouble)
#: A write may be lost: everything has to end.
LOST: Final = Method("lost", type(None), type(None))

# -- between queue and ingress ----------------------------------------------------------------------------------------


class FrontState(msgspec.Struct, frozen=True, array_like=True):
    """What ``smtpctl`` shows of ingress."""

    sessions: int
    set_aside: int
    trouble: str = ""


#: From ingress, whenever it has changed.
FRONT_STATE: Final = Method("front-state", FrontState, type(None))
#: To ingress: take mail, or do not.
SET_RUNNING: Final = Method("set-running", bool, bool)
