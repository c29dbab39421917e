"""The frames of a process of ours that somebody has taken over, as the process that holds the spool reads them.

The first octet of an input chooses who speaks: 0 an ingress, 1 a delivery, 2 one who is asked for the facts of the spool,
3 a delivery that was given two envelopes. The second tells how the rest is cut, and, where it is odd, that a descriptor
comes with it.

The channel closes, or goes on; the spool can be read and written afterwards, and no descriptor is lost.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import msgspec
from anyio import to_thread

from delivery.remote import Ended, RemoteDelivery
from policy.config import Relay
from policy.route import Route
from spool.channel import CallFailed, Channel, ChannelClosed, Offer, pair
from spool.entry import QueueEntry
from spool.errors import SpoolError
from spool.faults import NO_FAULTS
from spool.ids import EnvelopeId, MessageId
from spool.intent import MboxIntent
from spool.layout import layout
from spool.listing import QueueReader
from spool.message import Batch
from spool.outcome import Attempt, Damaged, Stage
from spool.remote import ACCEPT, COMMIT_INTENTS, DISCARD_BODY, FACTS, INTENT_OF, NEW_BODY, Accept, SpoolFacts
from spool.selection import Selection
from spool.serving import IntakeDesk, IntentsDesk
from spool.writer import SpoolWriter
from tests.fuzz.arena import Arena
from tests.fuzz.caller import pieces
from tests.fuzz.target import require
from tests.tools.relaying import Letter as Relayed
from tests.tools.relaying import batch
from tests.tools.spooled import DONE, NEVER, Letter, record, submission, take

#: The name of a message that the seeds speak of.
_MESSAGE = MessageId("m" * 20)


def _batch() -> Batch:
    """Two envelopes whose names are always the same."""
    made = batch(Relayed(to=("bob@example.org", "carl@example.org")))
    items = (
        replace(one, envelope=replace(one.envelope, id=EnvelopeId(f"{_MESSAGE}.{number}")))
        for number, one in enumerate(made.items, 1)
    )
    return Batch(made.lane, tuple(items))


_BATCH = _batch()
_ROUTE = Route("smtp://mx.example:25", Relay(name="relay"), "")


def _frame(*fields: object) -> bytes:
    """A frame as one of ours makes it: 1 a call, 2 an answer, 3 a refusal."""
    octets = msgspec.msgpack.encode(fields)
    return len(octets).to_bytes(4, "big") + octets


def _call(number: int, method: str, argument: object) -> bytes:
    return _frame(1, number, method, 0, argument)


def _accept(letter: Letter) -> Accept:
    sent = submission(0, letter)
    assert isinstance(sent.body, bytes)
    return Accept(sent.message, sent.body, None, sent.envelopes, sent.drop, sent.refused, sent.expanded)


class Channels:
    """See the module."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self._arena = Arena()
        self._arena.run(self._open)
        self._arena.settle()

    async def _open(self) -> None:
        places = layout(self._folder.name)
        self._spool = await SpoolWriter.open(places)
        self._reader = QueueReader.beside(places.spool_dir, self._spool.clock)
        await to_thread.run_sync(self._look)

    def seeds(self) -> Iterable[bytes]:
        """Every call, and every way to answer one."""
        intent = MboxIntent(EnvelopeId(_MESSAGE + "0001"), "/var/mail/ann", 1, 2, 3, 4, b"\0" * 8)
        for cut in (0, 2):
            for letter in (Letter(), Letter(to=("a@b.example", "c@d.example"), user="ann", drop="x")):
                yield bytes([0, cut]) + _call(1, ACCEPT.name, _accept(letter))
            yield bytes([0, cut]) + _call(1, FACTS.name, None) + _call(2, NEW_BODY.name, _MESSAGE)
            yield bytes([0, cut]) + _call(1, NEW_BODY.name, _MESSAGE) + _call(0, DISCARD_BODY.name, _MESSAGE)
            yield bytes([1, cut]) + _call(1, COMMIT_INTENTS.name, [intent]) + _call(2, INTENT_OF.name, intent.envelope)
            yield bytes([2, cut]) + _frame(2, 1, 0, SpoolFacts(0, "abc"))
            for kind, reply in (("Delivered", DONE.reply), ("Failed", NEVER.reply), ("Damaged", None)):
                answers = [
                    Ended(kind, one.envelope.id, 5, 6, "smtp://mx.example:25", reply, "mx", Stage.RCPT, False)
                    for one in _BATCH.items
                ]
                yield bytes([3, cut]) + _frame(2, 1, 0, answers)
        yield b"\2\1" + _frame(2, 1, 1, SpoolFacts(0, "abc"))
        yield b"\2\0" + _frame(3, 1, ["SpoolUnavailable", 5, "no"])
        yield b"\2\0" + _frame(3, 1, None)
        yield b"\0\0\xff\xff\xff\xff"

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        if len(octets) >= 2:
            self._arena.run(lambda: self._play(octets[0] % 4, octets[1], octets[2:]))

    def close(self) -> None:
        """See `Target`."""
        self._arena.close(self._spool.aclose)
        self._reader.close()
        self._folder.cleanup()

    async def _play(self, who: int, cut: int, said: bytes) -> None:
        near, far = pair()
        desk = IntakeDesk(self._spool)
        offers: list[Offer] = [desk.offers(), IntentsDesk(self._spool).offers(), [], []][who]
        channel = Channel(far, offers, believed=NO_FAULTS if who == 3 else None)
        async with anyio.create_task_group() as tasks:
            await tasks.start(channel.run)
            if who >= 2:
                tasks.start_soon(_ask if who == 2 else self._deliver, channel)
                await asyncio.sleep(0)
            await _say(near, said, cut)
            near.shutdown(socket.SHUT_WR)
            await channel.wait_closed()
        near.close()
        desk.close()
        if who == 0 and ACCEPT.name.encode() in said:
            await self._use_spool()

    async def _deliver(self, channel: Channel) -> None:
        remote = RemoteDelivery(self._spool.clock)
        remote.attach(channel)
        results = await remote.deliver(_BATCH, _ROUTE)
        require(len(results) == len(_BATCH.items), f"{len(results)} results")
        for result, one in zip(results, _BATCH.items, strict=True):
            words = [result.reason] if isinstance(result, Damaged) else [result.route, str(result.outcome.reply)]
            require("".join(words).isprintable(), f"not printable: {words}")
            if isinstance(result, Attempt):
                require(result.envelope == one.envelope.id, "a result of another envelope")
                require(0 <= result.started < 1 << 63 and 0 <= result.ended < 1 << 63, "no time")

    async def _use_spool(self) -> None:
        """What was let in can be read, delivered and removed like everything else."""
        await to_thread.run_sync(self._look)
        for claimed in await take(self._spool):
            claimed.body.read()
            await record(self._spool, claimed, DONE)
        await self._spool.remove(Selection())
        require(not await take(self._spool), "it cannot be removed")

    def _look(self) -> None:
        require(all(isinstance(entry, QueueEntry) for entry in self._reader.entries()), "an entry that cannot be read")


def make() -> Channels:
    """For `tests.fuzz.target.load`."""
    return Channels()


async def _ask(channel: Channel) -> None:
    with suppress(ChannelClosed, CallFailed, SpoolError):
        _, came = await channel.fetch(FACTS, None)
        came.close()


async def _say(near: socket.socket, said: bytes, cut: int) -> None:
    near.setblocking(False)
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        for number, piece in enumerate(pieces(said, cut)):
            if number == 0 and cut & 1:
                socket.send_fds(near, [piece], [null])
            else:
                with suppress(BrokenPipeError):
                    await asyncio.get_running_loop().sock_sendall(near, piece)
            await asyncio.sleep(0)
    finally:
        os.close(null)
