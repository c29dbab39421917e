"""One mail transaction on a `Channel`: MAIL, RCPT for each recipient, DATA, content; one outcome for each recipient.

With PIPELINING the whole envelope and DATA go in one write, otherwise one by one. Shared by SMTP and LMTP.

Guarantees: every recipient gets an outcome. The final dot is sent only after the whole body was read without complaint. A
recipient is `Delivered` only by the server's own positive reply after the dot.

Failure: `Untouched` when the conversation ended before the server answered MAIL, so that another connection may be tried
at once; `spool.errors.BodyDamaged` from the body, after the connection was cut. Cancelled in the middle: cut too.

RFC 5321 4.2.5 and 4.5.4 (what replies mean), RFC 2920 3.1 (pipelining), RFC 2033 4.2 (LMTP's replies to the dot).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from anyio import to_thread

from delivery.client import SHUTTING_DOWN, Broken, Channel
from delivery.stuffing import FINAL_DOT, DotStuffer, NotWireForm, stuffed
from delivery.timeouts import Timeouts
from spool.bodies import SMALL_BODY, Body
from spool.outcome import Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply

#: Pieces of a large body read in one visit to a thread: 256 KiB, so that visits do not cost more than reading.
PIECES_A_VISIT: Final = 4

#: The server wants what follows.
START_INPUT: Final = 354


class Untouched(Exception):
    """The conversation ended before MAIL was answered: nothing was said about this message yet."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Commands:
    """An envelope as octets, without CRLF."""

    mail: bytes
    rcpts: Sequence[bytes]


class Transaction:
    """Run once. ``outcomes`` afterwards has one for each recipient, in order."""

    def __init__(self, channel: Channel, commands: Commands, body: Body, timeouts: Timeouts) -> None:
        self._channel = channel
        self._commands = commands
        self._body = body
        self._timeouts = timeouts
        self._outcomes: list[Outcome | None] = [None] * len(commands.rcpts)
        self._stage = Stage.MAIL

    async def run(self) -> list[Outcome]:
        """Try it."""
        try:
            await self._converse()
        except Broken as broken:
            self._end_rest(Reply(451, "4.4.2", self._in_doubt(str(broken))))
        except NotWireForm:
            self._channel.abort()
            self._end_rest(Reply(554, "5.6.0", "the message has a bare CR or LF"))
        except BaseException:
            self._channel.abort()
            raise
        return [outcome for outcome in self._outcomes if outcome is not None]

    @property
    def _open(self) -> list[int]:
        """Which recipients have no outcome yet."""
        return [number for number, outcome in enumerate(self._outcomes) if outcome is None]

    async def _converse(self) -> None:
        if self._channel.offers.pipelining:
            wants_content = await self._envelope_at_once()
        else:
            wants_content = await self._envelope_by_steps()
        if wants_content and self._open:
            await self._content()
        elif wants_content:
            # RFC 2920 3.1: no recipient is left, yet the server waits for content. It gets none.
            self._channel.send(FINAL_DOT, 1)
            await self._channel.reply(self._timeouts.dot)
        else:
            self._channel.needs_reset = True

    # -- the envelope -------------------------------------------------------------------------------------------------

    async def _envelope_at_once(self) -> bool:
        commands = [self._commands.mail, *self._commands.rcpts, b"DATA", b""]
        resets = self._reset()
        self._say(resets + b"\r\n".join(commands), len(commands) - 1 + bool(resets))
        if resets:
            await self._answer(self._timeouts.command)
        self._judge_mail(await self._answer(self._timeouts.mail))
        for number in range(len(self._commands.rcpts)):
            self._judge_rcpt(number, await self._next(Stage.RCPT, self._timeouts.rcpt))
        return self._judge_data(await self._next(Stage.DATA, self._timeouts.data))

    async def _envelope_by_steps(self) -> bool:
        if resets := self._reset():
            self._say(resets, 1)
            await self._answer(self._timeouts.command)
        self._say(self._commands.mail + b"\r\n", 1)
        self._judge_mail(await self._answer(self._timeouts.mail))
        for number in self._open:
            self._channel.send(self._commands.rcpts[number] + b"\r\n", 1)
            self._judge_rcpt(number, await self._next(Stage.RCPT, self._timeouts.rcpt))
        if not self._open:
            return False
        self._channel.send(b"DATA\r\n", 1)
        return self._judge_data(await self._next(Stage.DATA, self._timeouts.data))

    def _reset(self) -> bytes:
        needed, self._channel.needs_reset = self._channel.needs_reset, False
        return b"RSET\r\n" if needed else b""

    def _say(self, octets: bytes, replies: int) -> None:
        try:
            self._channel.send(octets, replies)
        except Broken as broken:
            raise Untouched(Reply(451, "4.4.2", str(broken))) from broken

    async def _answer(self, patience: float) -> Reply:
        """A reply to RSET or MAIL: without it, or with 421, nothing has happened yet."""
        try:
            reply = await self._channel.reply(patience)
        except Broken as broken:
            raise Untouched(Reply(451, "4.4.2", str(broken))) from broken
        if reply.code == SHUTTING_DOWN:
            raise Untouched(reply)
        return reply

    async def _next(self, stage: Stage, patience: float) -> Reply:
        self._stage = stage
        reply = await self._channel.reply(patience)
        if reply.code == SHUTTING_DOWN:
            self._end_rest(reply)
        return reply

    def _judge_mail(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._end_rest(reply)

    def _judge_rcpt(self, number: int, reply: Reply) -> None:
        if self._outcomes[number] is None and not reply.is_positive:
            self._outcomes[number] = self._outcome(reply)

    def _judge_data(self, reply: Reply) -> bool:
        if reply.code == START_INPUT:
            return True
        self._end_rest(reply)
        return False

    # -- the content --------------------------------------------------------------------------------------------------

    async def _content(self) -> None:
        finals = self._open if self._channel.offers.reply_per_recipient else [0]
        if self._body.size <= SMALL_BODY:
            octets = stuffed(self._body.read())
            self._stage = Stage.DOT
            self._channel.send(octets, len(finals))
        elif not await self._stream(len(finals)):
            await self._refused_midway()
            return
        if not self._channel.offers.reply_per_recipient:
            self._end_rest(await self._channel.reply(self._timeouts.dot))
            return
        for number in finals:
            reply = await self._channel.reply(self._timeouts.dot)
            self._outcomes[number] = self._outcome(reply)

    async def _stream(self, finals: int) -> bool:
        """Send a large body and the final dot; False when the server had enough before."""
        stuffer = DotStuffer()
        self._channel.send(b"", finals)
        pieces = self._body.chunks()
        while some := await to_thread.run_sync(_take, pieces):
            for piece in some:
                self._channel.send(stuffer.feed(piece), 0)
            await self._channel.drain(self._timeouts.block)
            if self._channel.has_reply:
                return False
        self._stage = Stage.DOT
        self._channel.send(stuffer.end(), 0)
        return True

    async def _refused_midway(self) -> None:
        reply = await self._channel.reply(self._timeouts.dot)
        self._end_rest(reply)
        self._channel.abort()

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def _end_rest(self, reply: Reply) -> None:
        """The same outcome for all that have none."""
        outcome = self._outcome(reply)
        for number in self._open:
            self._outcomes[number] = outcome

    def _outcome(self, reply: Reply) -> Outcome:
        if reply.is_permanent:
            return Failed(reply, self._channel.remote, self._stage)
        if reply.is_positive and self._stage is Stage.DOT:
            return Delivered(reply, self._channel.remote, self._stage)
        if not 400 <= reply.code < 500:
            # RFC 5321 4.3.2: a code that makes no sense here. Who knows what it will take the next command for.
            self._channel.abort()
        return Deferred(reply, self._channel.remote, self._stage)

    def _in_doubt(self, reason: str) -> str:
        return f"sent, no reply seen: {reason}" if self._stage is Stage.DOT else reason


def _take(pieces: Iterator[bytes]) -> list[bytes]:
    """The next few pieces; raises `BodyDamaged`."""
    return list(islice(pieces, PIECES_A_VISIT))
