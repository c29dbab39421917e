"""An agent that somebody has taken over: whatever it says to the daemon, the daemon goes on.

The first octet of an input chooses what the daemon wanted: odd, the .forward of a home; even, two deposits.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

import anyio

from delivery.agents import Agent, NotBegun
from delivery.deposit import Deposit, ToMaildir, ToMbox, delivered
from delivery.forward_file import pack_answer
from delivery.frames import pack_intent, pack_result
from delivery.identity import Identity
from delivery.recruits import Duty, Recruit, Recruiter
from delivery.wire import Hangup, Wire
from policy.forward import Forward, ForwardDeferred, ForwardRefused, NoForward
from spool.bodies import SmallBody
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.outcome import Damaged, Deferred, Delivered, Failed
from tests.fuzz.target import require

_WHO: Final = Identity("ann", 1000, 1000, (1000,), "/home/ann")
_ENVELOPE: Final = EnvelopeId("m" * 20 + "0001")
_MAILBOX: Final = "/var/mail/ann"


def _deposits() -> list[Deposit]:
    methods = ToMaildir("/home/ann/Maildir", "name"), ToMbox(_MAILBOX, "bob@example.org", 0.0)
    return [Deposit(_ENVELOPE, method, b"", "ann@here.example", SmallBody(b"X: y\r\n\r\n")) for method in methods]


def _frame(value: object) -> bytes:
    octets = json.dumps(value).encode()
    return struct.pack("!I", len(octets)) + octets


class Agents:
    """See the module."""

    def seeds(self) -> Iterable[bytes]:
        """What honest agents say."""
        for answer in (Forward(b"bob\n"), NoForward(), ForwardRefused("no"), ForwardDeferred("later")):
            yield b"\1" + _frame(pack_answer(answer))
        begun, intent = _frame({"begun": True}), MboxIntent(_ENVELOPE, _MAILBOX, 1, 2, 3, 4, b"\0" * 8)
        result = pack_result(delivered("in the box"))
        yield b"\0" + begun + _frame({"results": [result, result]})
        yield (
            b"\0"
            + begun
            + _frame({"results": [["Damaged", _ENVELOPE, "bad"], ["Failed", 550, "5.1.1", "no", "local"]]})
        )
        yield b"\0" + begun + _frame({"intents": [pack_intent(intent)]}) + _frame({"results": [result]})
        yield b"\0" + begun + _frame({"trouble": "Traceback"})
        yield b"\0" + begun + _frame([]) + _frame(3)

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        if not octets:
            return
        near, far = socket.socketpair()
        pidfd = os.open("/dev/null", os.O_RDONLY)
        agent = Agent(_WHO, Recruit(0, pidfd, Wire(near), opens=False, duty=Duty.DELIVER, hirer=Recruiter("/nowhere")))
        try:
            far.sendall(octets[1:])
            far.shutdown(socket.SHUT_WR)
            if octets[0] & 1:
                answer = anyio.run(agent.look)
                require(isinstance(answer, Forward | NoForward | ForwardRefused | ForwardDeferred), f"{answer!r}")
            else:
                results = anyio.run(agent.make, _deposits(), _commit)
                require(len(results) == 2, f"{len(results)} results")
                for result in results:
                    require(isinstance(result, Delivered | Deferred | Failed | Damaged), f"{result!r}")
                    if not isinstance(result, Damaged):
                        require(str(result.reply).isprintable(), f"not printable: {result!r}")
        except (NotBegun, Hangup):
            pass
        finally:
            agent.ended()
            far.close()

    def close(self) -> None:
        """See `Target`."""


async def _commit(intents: object) -> None:
    require(isinstance(intents, list) and all(type(each) is MboxIntent for each in intents), f"{intents!r}")


def make() -> Agents:
    """For `tests.fuzz.target.load`."""
    return Agents()
