"""One mail transaction, from MAIL to the dot, without sockets.

It asks policy about each recipient as it is named, takes the content in pieces, and hands the whole to the spool.

Guarantees: `commit` answers 250 only when the spool has said that the message is durable. One configuration, the one at
MAIL, holds for the whole transaction. What was refused or abandoned leaves nothing behind.

Failure: every refusal is a `Reply`. `spool.errors.SpoolLost` comes through: the process is about to end and says nothing.

RFC 5321 3.3, 4.1.1 (transactions), 4.5.3.1.8 and 4.5.3.1.10 (recipients); RFC 1870 6 (SIZE).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ingress import headers, replies
from ingress.addressing import masquerade, qualify
from ingress.body import IncomingBody, MessageRefused
from ingress.data import DataReceiver
from ingress.limits import MAX_SURPLUS
from ingress.logline import quoted
from ingress.memory import Memory, Share, cost
from ingress.parameters import MailParameters
from policy.admit import Admitted, Refused
from policy.config import Config, Facts, Listener
from policy.errors import TableUnavailable
from spool.address import Address
from spool.door import Intake
from spool.errors import DuplicateMessage, SpoolError, SpoolFull, SpoolLost
from spool.ids import MessageId, envelope_id, new_message_id
from spool.message import BodyKind, Client, Message, NewEnvelope, Recipient, Refusal, Submission
from spool.reply import Reply
from spool.settlement import will_be_told

log = logging.getLogger(__name__)

#: Decides about one recipient; raises `TableUnavailable`. `policy.admit.admit` is it.
Admit: TypeAlias = Callable[[Config, Facts, Recipient], Awaitable[Admitted | Refused]]

#: RFC 6409's port, where mail is submitted and so completed.
SUBMISSION_PORT = 587


@dataclass(frozen=True, slots=True)
class House:
    """What a transaction finds behind the counter."""

    #: The present configuration; a reload changes what it returns.
    config: Callable[[], Config]
    admit: Admit
    spool: Intake
    #: What all messages under way may take.
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a transaction comes from, as far as its session knows."""

    #: Names the session in the log.
    session: str
    listener: Listener
    #: The name we go by there.
    host: str
    client: Client
    #: What was negotiated, ``TLSv1.3:...``, or empty.
    tls: str = ""
    #: Whether the DNS said what the client is called, or that it has no name.
    is_name_known: bool = True
    #: The file of the drop that is read, or empty.
    drop: str = ""

    @property
    def is_submission(self) -> bool:
        """Whether the client is one whose messages we complete: on this machine, or on the port made for it."""
        return self.listener.port == SUBMISSION_PORT or headers.is_loopback(self.client.address)

    def facts(self, sender: Address) -> Facts:
        """What the rules may ask about a transaction with this sender."""
        client = self.client
        return Facts(
            source=client.address,
            mail_from=sender,
            helo=client.helo,
            rdns=client.host,
            is_rdns_known=self.is_name_known,
            tag=self.listener.tag,
            tls=bool(self.tls),
            login=client.login if client.login or self.listener.is_socket else None,
        )


class Transaction:
    """Begun by MAIL; ends with `commit` or `abandon`."""

    def __init__(self, house: House, origin: Origin, sender: Address, parameters: MailParameters) -> None:
        self._spool = house.spool
        self._admit = house.admit
        self._origin = origin
        self.sender = sender
        #: Whether the message is marked as spam.
        self.is_junk = False
        self._parameters = parameters
        self._envelopes: list[NewEnvelope] = []
        self._recipients: list[Recipient] = []
        self._refused: list[Refusal] = []
        self._expanded: list[Recipient] = []
        self._facts = origin.facts(sender)
        self._wall = house.spool.clock.clock.wall()
        self._body: IncomingBody | None = None
        self._share = Share(house.memory)
        self._refusal: Reply | None = None
        self.config = house.config()
        self.id: MessageId = new_message_id(int(self._wall * 1000))

    @property
    def recipients(self) -> int:
        """How many recipients were accepted."""
        return len(self._recipients)

    @property
    def smtputf8(self) -> bool:
        """Whether this is an SMTPUTF8 transaction."""
        return self._parameters.smtputf8

    async def add_recipient(self, recipient: Recipient) -> Reply:
        """Ask policy about one more recipient, unless those before it became too many envelopes (452 4.5.3)."""
        if len(self._envelopes) - len(self._recipients) >= MAX_SURPLUS:
            return replies.TOO_MANY_RECIPIENTS
        try:
            verdict = await self._admit(self.config, self._facts, recipient)
        except TableUnavailable as error:
            log.warning("%s smtp table-unavailable reason=%s", self._origin.session, quoted(error))
            return replies.TROUBLE
        match verdict:
            case Refused():
                self._log_refused(recipient, verdict)
                return verdict.reply
            case Admitted():
                # What is left in the drop has its own bound, and was promised to be taken.
                if not self._share.take(cost(recipient, verdict.envelopes)) and not self._origin.drop:
                    return self._no_memory()
                self._recipients.append(recipient)
                self._envelopes.extend(verdict.envelopes)
                if verdict.expanded is not None:
                    self._expanded.append(verdict.expanded)
                return replies.RECIPIENT_OK

    def refuse_recipient(self, recipient: Recipient, reply: Reply) -> None:
        """Have the sender told by a report, as it is too late to tell the client."""
        self._refused.append(Refusal(recipient, reply))

    @property
    def concerns_anybody(self) -> bool:
        """Whether somebody would get the message, or a report about it: if not, it cannot be committed."""
        return bool(self._envelopes) or will_be_told(self.sender, self._refused)

    async def write(self, piece: bytes) -> None:
        """Take the next piece of content. After a refusal, which `commit` tells, it does nothing."""
        if self._refusal is not None or not piece:
            return
        if (self._body is None or self._body.is_in_memory) and not self._share.take(len(piece)):
            self._refusal = self._no_memory()
            return
        if self._body is None:
            self._body = IncomingBody(self._spool, self.id, self._finish_header)
        try:
            await self._body.write(piece)
        except (MessageRefused, SpoolError) as error:
            self._refuse(error)

    async def commit(self, data: DataReceiver) -> Reply:
        """The dot was seen: take the message, or say why not. Who is cancelled meanwhile does not hear what became of it."""
        if data.fault is not None:
            self._refusal = data.fault
        try:
            if self._refusal is None:
                await self._accept(data)
        except (MessageRefused, SpoolError) as error:
            self._refuse(error)
        finally:
            self._share.give_back()
        if self._refusal is not None:
            self.abandon()
            return self._refusal
        return replies.accepted(self.id)

    def abandon(self) -> None:
        """Nothing of it is kept."""
        self._share.give_back()
        if self._body is not None:
            self._body.abandon()
            self._body = None

    async def _accept(self, data: DataReceiver) -> None:
        incoming = self._body or IncomingBody(self._spool, self.id, self._finish_header)
        body = await incoming.finish()
        self._body = None
        kind = self._parameters.body_kind
        message = Message(
            id=self.id,
            return_path=self.sender,
            arrived=self._spool.clock.now(),
            received_at=self._wall,
            size=incoming.size,
            body_kind=kind | BodyKind.EIGHT_BIT if data.eight_bit else kind,
            envid=self._parameters.envid,
            ret=self._parameters.ret,
            client=self._origin.client,
        )
        drop = self._origin.drop
        envelopes, refused, expanded = tuple(self._envelopes), tuple(self._refused), tuple(self._expanded)
        submission = Submission(message, body, envelopes, drop, refused, expanded)
        try:
            await self._spool.accept(submission)
        except DuplicateMessage:
            if not drop:
                raise
            log.info("%s smtp known-drop file=%s", self._origin.session, drop)
        else:
            self._log(message)

    def _finish_header(self, fields: bytes) -> bytes:
        origin = self._origin
        only = self._recipients[0].address if len(self._recipients) == 1 else None
        listener, login = origin.listener, origin.client.login
        told = login if listener.received_auth else ""
        trace = headers.Trace(origin.client, origin.host, self.id, origin.tls, listener.mask_src, told, only)
        fields = qualify(headers.without_bcc(fields), origin.host)
        if listener.masquerade and login and not self.sender.is_null:
            fields = masquerade(fields, str(self.sender))
        if origin.is_submission:
            fields = headers.complete(fields, self.id, origin.host, self._wall)
        mark = headers.SPAM_MARK if self.is_junk else b""
        return mark + headers.received(trace, self._wall) + fields

    def _no_memory(self) -> Reply:
        log.warning("%s smtp memory-full limit=%d", self._origin.session, self._share.most)
        return replies.NO_MEMORY

    def _refuse(self, error: MessageRefused | SpoolError) -> None:
        match error:
            case SpoolLost():
                raise error
            case MessageRefused():
                self._refusal = error.reply
            case SpoolFull():
                self._refusal = replies.SPOOL_FULL
            case _:
                self._refusal = replies.TROUBLE
        if isinstance(error, SpoolError):
            log.warning("%s smtp spool-refuses reason=%s", self._origin.session, quoted(error))

    def _log_refused(self, recipient: Recipient, verdict: Refused) -> None:
        session = self._origin.session
        log.info("%s smtp refused-recipient to=<%s> reason=%s", session, recipient.address, quoted(verdict.reason))

    def _log(self, message: Message) -> None:
        session = self._origin.session
        log.info(
            "%s smtp message msgid=%s size=%d nrcpt=%d proto=%s",
            session, message.id, message.size, len(self._recipients), message.client.protocol,
        )  # fmt: skip
        for ordinal, envelope in enumerate(self._envelopes, 1):
            log.info(
                "%s smtp envelope evpid=%s from=<%s> to=<%s>",
                session, envelope_id(message.id, ordinal), message.return_path, envelope.recipient.address,
            )  # fmt: skip
