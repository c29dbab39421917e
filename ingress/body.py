"""A body on its way into the spool: its header is finished in memory, the rest goes where it fits.

The header is held until its end is seen, at most `MAX_HEADER` octets. Behind it a small body stays in memory, to be
committed with its message; one that grows beyond `spool.bodies.SMALL_BODY` goes into a file of the spool as it comes.

Guarantees: the memory it takes does not grow with the message.

Failure: `MessageRefused`, which carries the reply, for a header that is none, is too large, or has gone through too many
servers. `spool.errors.SpoolFull` and `SpoolUnavailable` come through. After any of them only `abandon` is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ingress import headers, replies
from ingress.limits import MAX_HEADER, MAX_HOPS
from spool.bodies import SMALL_BODY, BodyWriter, StoredBody
from spool.door import Intake
from spool.ids import MessageId
from spool.reply import Reply

_EMPTY_LINE: Final = b"\r\n\r\n"


class MessageRefused(Exception):
    """The message itself cannot be accepted; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class IncomingBody:
    """Takes the content of one message in pieces; ``finish_header`` is given the fields and returns those to keep."""

    def __init__(self, spool: Intake, message: MessageId, finish_header: Callable[[bytes], bytes]) -> None:
        self._spool = spool
        self._message = message
        self._finish_header = finish_header
        self._header: bytearray | None = bytearray()
        self._pieces: list[bytes] = []
        self._size = 0
        self._writer: BodyWriter | None = None

    @property
    def size(self) -> int:
        """Octets so far, what we have added included; the header counts once it is finished."""
        return self._size

    @property
    def is_in_memory(self) -> bool:
        """Whether what comes next is kept in memory."""
        return self._writer is None

    async def write(self, piece: bytes) -> None:
        """Take the next piece of content."""
        if self._header is None:
            await self._keep(piece)
            return
        searched = max(0, len(self._header) - len(_EMPTY_LINE) + 1)
        self._header += piece
        complete = self._header.startswith(b"\r\n") or self._header.find(_EMPTY_LINE, searched) >= 0
        if complete or len(self._header) > MAX_HEADER:
            await self._end_header()

    async def finish(self) -> bytes | StoredBody:
        """The whole body, for `Intake.accept`."""
        if self._header is not None:
            await self._end_header()
        if self._writer is None:
            return b"".join(self._pieces)
        stored = self._writer.finish()
        self._writer = None
        return stored

    def abandon(self) -> None:
        """Nothing of it is kept."""
        self._pieces.clear()
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    async def _end_header(self) -> None:
        assert self._header is not None
        content = bytes(self._header)
        self._header = None
        end = headers.header_end(content)
        if end is None:
            raise MessageRefused(replies.MALFORMED)
        if end > MAX_HEADER:
            raise MessageRefused(replies.HEADER_TOO_BIG)
        fields, rest = content[:end], content[end:]
        if headers.hops(fields) > MAX_HOPS:
            raise MessageRefused(replies.LOOP)
        await self._keep(self._finish_header(fields))
        if rest and not rest.startswith(b"\r\n"):
            # A line that is no field ends the header, as every reader of mail agrees once an empty line says so.
            await self._keep(b"\r\n")
        await self._keep(rest)

    async def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._writer is not None:
            self._writer.write(piece)
            return
        self._pieces.append(piece)
        if self._size > SMALL_BODY:
            self._writer = await self._spool.new_body(self._message)
            self._writer.write(b"".join(self._pieces))
            self._pieces.clear()
