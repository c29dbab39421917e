"""A process that lives with a spool and tells, line by line, what it was promised; to be killed.

    python -m tests.tools.spool_child ROOT accept SESSIONS        accept without end
    python -m tests.tools.spool_child ROOT live INSTANT NTH       accept, claim and record; die at an instant

Lines: ``accepted ID``, ``claimed ID``, ``delivered ID``, ``failed ID``, ``removing ID``, ``removed ID``, ``refused``,
``lost``, ``opened``, ``unopened``, ``closed``. A line is written when the spool has answered, in one write, so that a reader
sees it whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable

from spool.bodies import SMALL_BODY
from spool.errors import SpoolFull, SpoolLost, SpoolUnavailable
from spool.files import SystemOps
from spool.ids import MessageId, new_message_id
from spool.layout import layout
from spool.outcome import Outcome
from spool.seal import Compression, Sealing
from spool.selection import Selection
from spool.writer import SpoolWriter
from tests.tools.sealing import FIRST
from tests.tools.spooled import DONE, NEVER, Letter, settlement, submission, take

#: Rounds of a life that is not cut short; few enough to be quick, enough for every instant.
ROUNDS = 4
#: The variable of the environment that has bodies sealed.
SEALS = "SPOOL_CHILD_SEALS"
#: Then they are sealed in every way at once.
SEALED = Sealing(Compression.ZSTD, FIRST)
#: Seconds that a life goes on afterwards, for what the spool's thread does in its own time.
IDLE = 2.0


class DyingOps(SystemOps):
    """The kernel's operations, up to the ``nth`` time that ``instant`` is reached."""

    def __init__(self, instant: str, nth: int) -> None:
        self._instant = instant
        self._left = nth

    def reached(self, point: str) -> None:
        if point == self._instant:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def tell(*words: str) -> None:
    # By a call that the spool never uses, so that strace can make the spool's own writes fail.
    os.writev(1, [(" ".join(words) + "\n").encode()])


def body_of(name: str, large: bool = False) -> bytes:
    """What a message says, which anybody can check who knows its id."""
    line = f"{name}\r\n".encode()
    return line * (SMALL_BODY * 3 // len(line) if large else 40)


async def accept(spool: SpoolWriter, large: bool) -> MessageId:
    name = new_message_id(0)
    content = body_of(name, large)
    if large:
        writer = await spool.new_body(name)
        writer.write(content)
        await spool.accept(submission(spool.clock.now(), Letter(body=writer.finish()), name))
    else:
        await spool.accept(submission(spool.clock.now(), Letter(body=content), name))
    tell("accepted", name)
    return name


async def accept_without_end(spool: SpoolWriter, sessions: int) -> None:
    async def session(number: int) -> None:
        while True:
            await accept(spool, large=number % 5 == 0)

    await asyncio.gather(*(session(number) for number in range(sessions)))


async def live(spool: SpoolWriter) -> None:
    """In each round four messages come: a large one is delivered, a small one fails, one stays in flight, one is removed.

    What the spool refuses for now is left at that.
    """
    for number in range(ROUNDS):
        for large in (True, False, True):
            await _unless_refused(accept(spool, large))
        await _unless_refused(_remove_one(spool, large=number % 2 == 0))
        await _unless_refused(_try_some(spool))
        # As if much had been written: the log is due to be written back.
        spool._committer._upkeep.wrote(1 << 30, 1)


async def _remove_one(spool: SpoolWriter, *, large: bool) -> None:
    name = await accept(spool, large)
    tell("removing", name)
    await spool.remove(Selection(name))
    tell("removed", name)


async def _try_some(spool: SpoolWriter) -> None:
    due = await take(spool)
    claimed = [one for one in due if not one.envelope.kind.is_report]
    for one in claimed:
        tell("claimed", one.message.id)
    await _unless_refused(spool.unclaim([one for one in due if one.envelope.kind.is_report]))
    ends: tuple[tuple[Outcome, str], ...] = ((DONE, "delivered"), (NEVER, "failed"))
    for one, (outcome, word) in zip(claimed, ends, strict=False):
        await spool.record([settlement(spool, one, outcome)])
        tell(word, one.message.id)


async def _unless_refused(attempt: Awaitable[object]) -> None:
    try:
        await attempt
    except (SpoolFull, SpoolUnavailable):
        tell("refused")


async def _opened(root: str, ops: SystemOps) -> SpoolWriter:
    try:
        spool = await SpoolWriter.open(layout(root), ops=ops)
    except (SpoolFull, SpoolUnavailable):
        tell("unopened")
        sys.exit(os.EX_TEMPFAIL)
    if SEALS in os.environ:
        spool.seal_with(SEALED)
    tell("opened")
    return spool


async def main(root: str, scenario: str, *arguments: str) -> None:
    ops = DyingOps(arguments[0], int(arguments[1])) if scenario == "live" else SystemOps()
    try:
        spool = await _opened(root, ops)
        if scenario == "accept":
            await accept_without_end(spool, int(arguments[0]))
        else:
            await live(spool)
            await asyncio.sleep(IDLE if arguments[0] == "before-orphan" else 0)
    except SpoolLost:
        tell("lost")
        os._exit(75)
    await spool.aclose()
    tell("closed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
