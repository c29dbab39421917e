"""A message of the drop, put through the transaction that its ``sendmail`` could not have.

The rules are those of the submission socket: the same commands, the same limits on a message, the same policy. Two
things differ, because whoever left the message was told that it is taken: the number of its recipients is not
limited, and one that is refused is reported to the sender instead of being answered.

Guarantees: when `replay` returns, the spool owns the message, or owned it already; the name of the file tells. A
message that is refused as a whole (too large, say) comes back to its sender as a report with its header.

Failure: `Later` when policy or the spool cannot answer now. `Unfit` when the file will never be a message, or nobody
would hear of it: all recipients refused, and a null sender, or one who wants no report. `Unfinished` when its content
is not what was written. `SpoolLost`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from anyio.to_thread import run_sync

from ingress import headers, replies
from ingress.data import DataReceiver
from ingress.dropped import Dropped, Unfit
from ingress.handin import stuffed
from ingress.names import OURSELVES
from ingress.parameters import BadParameter, MailParameters
from ingress.paths import BadPath, read_mail, read_rcpt
from ingress.transaction import House, Origin, Transaction
from policy.config import Config, Listener
from spool.address import Address
from spool.message import Client, Recipient
from spool.reply import Reply

#: What ``sendmail`` calls itself on the socket too.
_HELO = "localhost"


class Later(Exception):
    """The message cannot be taken now; the text is the reply that says why."""


async def replay(house: House, dropped: Dropped, name: str) -> None:
    """Have the spool take the message in the drop file ``name``."""
    replayed = _Replay(house, dropped, name, *await run_sync(dropped.read_commands))
    too_big = dropped.octets > replayed.config.max_message_size
    refusal = replies.TOO_BIG if too_big else await replayed.hand_in()
    if refusal is not None:
        refusal = await replayed.hand_back(refusal)
    if refusal is not None:
        raise Unfit(f"it is refused: {refusal}")


class _Replay:
    def __init__(self, house: House, dropped: Dropped, name: str, mail: str, rcpts: list[str]) -> None:
        self.config = house.config()
        self._house = house
        self._dropped = dropped
        self._origin = _origin(self.config, dropped.uid, name)
        self._sender, self._parameters, self._recipients = _understood(mail, rcpts, self._origin.host)

    async def hand_in(self) -> Reply | None:
        """Give the whole message to those whom policy accepts; the reply when the message itself is refused."""
        transaction = self._transaction()
        try:
            for recipient in self._recipients:
                reply = await transaction.add_recipient(recipient)
                if reply.is_permanent:
                    transaction.refuse_recipient(recipient, reply)
                elif not reply.is_positive:
                    raise Later(str(reply))
            return await self._give(transaction, stuffed(self._dropped.pieces()))
        finally:
            transaction.abandon()

    async def hand_back(self, refusal: Reply) -> Reply | None:
        """Give the header alone, to be returned to the sender with ``refusal``; the reply when even that is refused."""
        transaction = self._transaction()
        try:
            for recipient in self._recipients:
                transaction.refuse_recipient(recipient, refusal)
            return await self._give(transaction, stuffed([await run_sync(self._header)]))
        finally:
            transaction.abandon()

    def _transaction(self) -> Transaction:
        return Transaction(self._house, self._origin, self._sender, self._parameters)

    async def _give(self, transaction: Transaction, content: Iterator[bytes]) -> Reply | None:
        if not transaction.concerns_anybody:
            raise Unfit("all its recipients are refused, and nobody wants to be told")
        data = DataReceiver(transaction.config.max_message_size)
        buffer = bytearray()
        while (piece := await run_sync(next, content, None)) is not None:
            buffer += piece
            await transaction.write(data.feed(buffer))
        if not data.finished:
            raise Unfit("its last line has no end")
        reply = await transaction.commit(data)
        if not reply.is_positive and not reply.is_permanent:
            raise Later(str(reply))
        return None if reply.is_positive else reply

    def _header(self) -> bytes:
        content = b""
        for piece in self._dropped.pieces():
            content += piece
            if b"\r\n\r\n" in content or len(content) > headers.MAX_HEADER:
                break
        return content[: headers.header_end(content) or 0] + b"\r\n"


def _origin(config: Config, uid: int, name: str) -> Origin:
    socket = next((listener for listener in config.listeners if listener.is_socket), Listener("", 0))
    host = socket.hostname or config.server_name
    return Origin(os.urandom(8).hex(), socket, host, Client(host=OURSELVES.name, helo=_HELO, uid=uid), drop=name)


def _understood(mail: str, rcpts: list[str], host: str) -> tuple[Address, MailParameters, list[Recipient]]:
    try:
        sender, parameters = read_mail(mail, host, dsn=True)
        recipients = [read_rcpt(rcpt, host, dsn=True, smtputf8=parameters.smtputf8) for rcpt in rcpts]
    except (BadPath, BadParameter) as error:
        raise Unfit(f"its commands are refused: {error.reply}") from None
    return sender, parameters, recipients
