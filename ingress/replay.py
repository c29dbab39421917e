"""A message of the drop, put through the transaction that its ``sendmail`` could not have.

The rules are those of the submission socket: the same commands, filters, limits on a message and policy. Two
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

import anyio
from anyio.to_thread import run_sync

from ingress import headers, replies
from ingress.data import DataReceiver
from ingress.dropdoor import Unfit
from ingress.dropped import Dropped
from ingress.handin import stuffed
from ingress.limits import MAX_HEADER
from ingress.names import OURSELVES
from ingress.parameters import BadParameter, MailParameters
from ingress.paths import BadPath, read_mail, read_rcpt, with_path
from ingress.screening import PASSED, ScreenedOff, Screening, by_phase, demand, screen
from ingress.transaction import House, Origin, Transaction
from policy.config import Config, Listener
from policy.filtering import Seen
from policy.filters import Phase
from spool.address import NULL_SENDER, Address
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
        self._mail, self._rcpts = mail, rcpts
        self._dropped = dropped
        self._origin = _origin(self.config, dropped.uid, name)
        self._filters = by_phase(self._origin.listener.filters)
        self._sender, self._parameters, self._recipients = _understood(mail, rcpts, self._origin.host)

    async def hand_in(self) -> Reply | None:
        """Give the whole message to those whom policy accepts; the reply when the message itself is refused."""
        try:
            transaction = await self._begun()
        except ScreenedOff as off:
            return _final(off.refusal)
        try:
            for rcpt, recipient in zip(self._rcpts, self._recipients, strict=True):
                await self._add(transaction, rcpt, recipient)
            await self._judge(transaction, Phase.DATA)
            return await self._give(transaction, stuffed(self._dropped.pieces()), is_whole=True)
        except ScreenedOff as off:
            return _final(off.refusal)
        finally:
            transaction.abandon()

    async def hand_back(self, refusal: Reply) -> Reply | None:
        """Give the header alone, to be returned to the sender with ``refusal``; the reply when even that is refused."""
        transaction = self._transaction()
        try:
            for recipient in self._recipients:
                transaction.refuse_recipient(recipient, refusal)
            return await self._give(transaction, stuffed([await run_sync(self._header)]), is_whole=False)
        finally:
            transaction.abandon()

    async def _begun(self) -> Transaction:
        """A transaction, as the filters let it begin."""
        arrival, greeting = await self._screen(Phase.CONNECT), await self._screen(Phase.EHLO)
        screening = await self._screen(Phase.MAIL_FROM)
        if screening.text:
            mail = with_path(self._mail, screening.text)
            self._sender, self._parameters, _ = _understood(mail, [], self._origin.host)
        transaction = self._transaction()
        transaction.is_junk = arrival.junk or greeting.junk or screening.junk
        return transaction

    async def _add(self, transaction: Transaction, rcpt: str, recipient: Recipient) -> None:
        try:
            screening = await self._screen(Phase.RCPT_TO, recipient.address)
        except ScreenedOff as off:
            reply = off.refusal
        else:
            transaction.is_junk = transaction.is_junk or screening.junk
            if screening.text:
                rewritten = with_path(rcpt, screening.text)
                recipient = read_rcpt(rewritten, self._origin.host, dsn=True, smtputf8=transaction.smtputf8)
            reply = await transaction.add_recipient(recipient)
        if reply == replies.TOO_MANY_RECIPIENTS:
            # Those before it are as many whenever the file is read again.
            transaction.refuse_recipient(recipient, replies.TOO_MANY_FOR_ONE_MESSAGE)
        elif reply.is_permanent:
            transaction.refuse_recipient(recipient, reply)
        elif not reply.is_positive:
            raise Later(str(reply))

    async def _judge(self, transaction: Transaction, phase: Phase) -> None:
        screening = await self._screen(phase)
        transaction.is_junk = transaction.is_junk or screening.junk

    async def _screen(self, phase: Phase, recipient: Address = NULL_SENDER) -> Screening:
        """Ask the socket's filters what they would have been asked in a session; raises `ScreenedOff`."""
        filters = self._filters.get(phase)
        if filters is None:
            return PASSED
        seen = Seen(
            "local",
            OURSELVES.name,
            is_confirmed=True,
            helo=_HELO,
            login="",
            sender=self._sender,
            recipient=recipient,
            delimiter=self.config.sub_addr_delim,
        )
        return demand(await screen(filters, seen, self._origin.session))

    def _transaction(self) -> Transaction:
        return Transaction(self._house, self._origin, self._sender, self._parameters)

    async def _give(self, transaction: Transaction, content: Iterator[bytes], is_whole: bool) -> Reply | None:
        if not transaction.concerns_anybody:
            raise Unfit("all its recipients are refused, and nobody wants to be told")
        data = DataReceiver(transaction.config.max_message_size)
        buffer = bytearray()
        while (piece := await run_sync(next, content, None)) is not None:
            buffer += piece
            await transaction.write(data.feed(buffer))
        if not data.finished:
            raise Unfit("its last line has no end")
        if is_whole and data.fault is None:
            await self._judge(transaction, Phase.COMMIT)
        # A reader that is stopped still hears what became of it.
        with anyio.CancelScope(shield=True):
            reply = await transaction.commit(data)
        return None if reply.is_positive else _final(reply)

    def _header(self) -> bytes:
        content = b""
        for piece in self._dropped.pieces():
            content += piece
            if b"\r\n\r\n" in content or len(content) > MAX_HEADER:
                break
        return content[: headers.header_end(content) or 0] + b"\r\n"


def _final(refusal: Reply) -> Reply:
    """``refusal``, if it would be the same another time; else that is raised as `Later`."""
    if not refusal.is_permanent:
        raise Later(str(refusal))
    return refusal


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
