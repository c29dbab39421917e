"""The control socket: whatever somebody on this machine sends, he gets answers or a close, and the daemon goes on.

The first octet of an input chooses who asks (even: a stranger, odd: an operator), the second how the rest is cut. What would
write to a path of the fuzzer's choice is not obeyed here.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

import anyio

from control import protocol
from control.commands import Commands
from control.listings import Viewer
from control.protocol import PREFIX, AnyAnswer, AnyRequest, Done, Refused, frame, payload_length, read_answer
from control.server import ControlServer
from spool.filter import Filter, Trait
from spool.state import State
from spool.writer import SpoolWriter
from tests.fuzz.arena import Arena
from tests.fuzz.caller import Caller
from tests.fuzz.target import require
from tests.tools.controlled import commands
from tests.tools.spooled import Letter, put

#: Attempts after which there is new mail for the requests to meet.
_FRESH: Final = 100
_STRANGER: Final = 4711


class _Guarded(Commands):
    """Those of the daemon, as a stranger or an operator sees them."""

    is_stranger = True

    async def answer(self, request: AnyRequest, viewer: Viewer) -> AsyncGenerator[AnyAnswer]:
        if isinstance(request, protocol.Backup | protocol.Import | protocol.Trace | protocol.Log):
            yield Refused("not here")
            return
        async for answer in super().answer(request, Viewer(_STRANGER if self.is_stranger else None)):
            yield answer


class Control:
    """See the module."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self._arena = Arena()
        self._stack = AsyncExitStack()
        self._attempts = 0
        self._arena.run(self._open)
        self._arena.settle()

    async def _open(self) -> None:
        desk = await self._stack.enter_async_context(commands(Path(self._folder.name)))
        self._spool = cast(SpoolWriter, desk.spool)
        self._commands = _Guarded(desk)
        self._server = ControlServer(self._commands)

    def seeds(self) -> Iterable[bytes]:
        """Every request there is, by strangers and operators."""
        wide = Filter(sender="@example.com", recipient="bob@example.org", state=State.READY, error="x", uid=1, older=1)
        asked = (
            protocol.ShowQueue(),
            protocol.ShowQueue("all", wide),
            protocol.CountQueue(),
            protocol.CountQueue("all", wide, Trait.SENDER),
            protocol.ShowMessage("0" * 16),
            protocol.ShowAttempts("1"),
            protocol.ShowLanes(),
            protocol.ShowStatus(),
            protocol.ShowStats(),
            protocol.Verify(),
            protocol.Verify(repair=True),
            protocol.Backup("/x"),
            protocol.Export("all"),
            protocol.Import("/x"),
            protocol.RemoveThese(("a", "b")),
            protocol.Explain(recipient="ann", sender=""),
            *(protocol.Change(verb, "all", wide) for verb in ("hold", "release", "remove", "schedule", "x")),
            protocol.Pause("mta", paused=True),
            protocol.Pause("x", paused=False),
            protocol.PauseLane("relay", "", paused=True),
            protocol.PauseLane("relay", "", paused=False),
            protocol.Trace("x", on=True),
            protocol.Log(verbose=False),
            protocol.UpdateTable("t"),
        )
        for request in asked:
            yield from (bytes([who, 0]) + frame(request) for who in (0, 1))
        yield b"\1\3" + frame(protocol.ShowStatus()) + frame(protocol.ShowQueue()) + b"\0\0\0\1"
        yield b"\0\0\xff\xff\xff\xff"

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        if len(octets) < 2:
            return
        self._commands.is_stranger = not octets[0] & 1
        heard: list[bytes] = []

        async def play() -> None:
            if self._attempts % _FRESH == 0:
                for to in ("bob@example.org", "carl@example.net"):
                    await put(self._spool, Letter(to=(to,), user="root"))
            self._attempts += 1
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(f"\0mailspool-fuzz-{id(self)}")
            listening.listen()
            near = socket.socket(socket.AF_UNIX)
            near.connect(listening.getsockname())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._server.serve, listening)
                caller = Caller(near)
                await caller.say(octets[2:], octets[1])
                await caller.finish()
                heard.append(bytes(caller.heard))
                tasks.cancel_scope.cancel()

        self._arena.run(play)
        for answers in heard:
            _judge(answers, octets[2:])

    def close(self) -> None:
        """See `Target`."""
        self._arena.close(self._stack.aclose)
        self._folder.cleanup()


def make() -> Control:
    """For `tests.fuzz.target.load`."""
    return Control()


def _judge(heard: bytes, said: bytes) -> None:
    """Whole answers, as many ends among them as requests at most."""
    ends = 0
    while heard:
        length = payload_length(heard[:PREFIX], protocol.MAX_ANSWER)
        payload, heard = heard[PREFIX : PREFIX + length], heard[PREFIX + length :]
        require(len(payload) == length, "an answer that is cut short")
        ends += isinstance(read_answer(payload), Done | Refused)
    require(ends <= len(said) // PREFIX, "more answers than questions")
