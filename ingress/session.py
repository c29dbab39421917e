"""The verbs of an SMTP session.

`ingress.wire` moves octets, `ingress.dialogue` makes commands of them, `ingress.auth` knows AUTH; here is what the other
commands mean. What becomes of a message is `ingress.transaction`'s.

Guarantees: every reply but greetings, EHLO, 354 and 334 carries an enhanced status code. A second EHLO begins afresh, as
RFC 5321 4.1.4 has it; TLS forgets all that was said before it. A client that goes away after the dot cancels nothing.

Failure: replies.

RFC 5321 4.1 (verbs), RFC 1870, 2034, 2920, 3207, 3461, 6152, 6531 (extensions).
"""

# ruff: noqa: N802 -- a verb's method has the verb's name, as aiosmtpd does it

from __future__ import annotations

import dataclasses
import logging

from ingress import replies
from ingress.auth import Authentication
from ingress.data import DataReceiver
from ingress.dialogue import Arrived, Service
from ingress.headers import protocol
from ingress.logline import quoted
from ingress.parameters import BadParameter
from ingress.paths import BadPath, read_mail, read_rcpt, with_path
from ingress.screening import ScreenedOff, demand
from ingress.transaction import Origin, Transaction
from ingress.wire import End
from policy.config import Auth, ListenerTls
from policy.errors import TableUnavailable
from policy.filters import Phase
from policy.tables.freshness import freshen
from policy.tables.services import has_mailaddr_for
from spool.address import Address, is_domain
from spool.message import Client, Recipient
from spool.reply import Reply

log = logging.getLogger(__name__)


class Session(Authentication):
    """One client of one listener."""

    def __init__(self, service: Service, arrived: Arrived, client: Client | None = None) -> None:
        super().__init__(service, arrived, client)
        self._esmtp = False
        self._mails = 0
        self._refused_recipients = 0

    # -- the session --------------------------------------------------------------------------------------------------

    async def smtp_HELO(self, hostname: str) -> None:
        """Who is there (RFC 821's way)."""
        self.note_idle_command()
        if await self._greet(hostname, esmtp=False):
            self.say(f"250 {self._hello()}")

    async def smtp_EHLO(self, hostname: str) -> None:
        """Who is there, and what can we do."""
        self.note_idle_command()
        if not await self._greet(hostname, esmtp=True):
            return
        self.say(f"250-{self._hello()}")
        for offer in self._offers():
            self.say(f"250-{offer}")
        self.say("250 HELP")

    async def smtp_STARTTLS(self, arg: str) -> None:
        """Begin TLS and forget what was said."""
        if self.service.tls is None:
            self.refuse(replies.NOT_SUPPORTED)
        elif self.tls:
            self.refuse(replies.ALREADY_SECURE)
        elif self._takes_none(arg):
            self.reply(replies.READY_FOR_TLS)
            self.drop_transaction()
            self.client = dataclasses.replace(self.client, helo="", login="")
            await self.start_tls()

    async def smtp_RSET(self, arg: str) -> None:
        """Forget the transaction."""
        self.note_idle_command()
        if self._takes_none(arg):
            self.drop_transaction()
            self.reply(replies.RESET)

    async def smtp_NOOP(self, arg: str) -> None:
        """Nothing."""
        self.note_idle_command()
        self.reply(replies.OK)

    async def smtp_HELP(self, arg: str) -> None:
        """What we are, and what we understand."""
        self.note_idle_command()
        self.say("214-2.0.0 This is Mailspool. It understands:")
        self.say("214-2.0.0 " + " ".join(sorted(self.verbs)))
        self.say("214 2.0.0 Please ask the postmaster of this host about anything else")

    async def smtp_VRFY(self, arg: str) -> None:
        """Whether there is such a user: we do not tell (RFC 5321 7.3)."""
        self.note_idle_command()
        self.reply(replies.CANNOT_VERIFY)

    async def smtp_EXPN(self, arg: str) -> None:
        """Who is on a list: we do not tell."""
        self.refuse(replies.NOT_IMPLEMENTED)

    async def smtp_QUIT(self, arg: str) -> None:
        """Goodbye."""
        if self._takes_none(arg):
            self.reply(replies.BYE)
            self.end = End.QUIT

    # -- the transaction ----------------------------------------------------------------------------------------------

    async def smtp_MAIL(self, arg: str) -> None:
        """Begin a transaction."""
        self.note_idle_command()
        refusal = self._may_not_send()
        if refusal is not None:
            self.refuse(refusal)
            return
        await self.peer_name()
        try:
            refusal = await self._begin(arg)
        except (BadPath, BadParameter) as error:
            refusal = error.reply
        except ScreenedOff as off:
            self.turn_down(off.refusal, off.is_last)
            return
        if refusal is not None:
            self.refuse(refusal)
        else:
            self.reply(replies.OK)

    async def smtp_RCPT(self, arg: str) -> None:
        """One more recipient."""
        transaction = self.transaction
        if transaction is None:
            self.refuse(replies.NOT_NOW)
            return
        try:
            recipient = await self._recipient(arg, transaction)
        except (BadPath, BadParameter) as error:
            self.refuse(error.reply)
            return
        except ScreenedOff as off:
            self._refuse_recipient(off.refusal, off.is_last)
            return
        if transaction.recipients >= transaction.config.max_recipients:
            self._refuse_recipient(replies.TOO_MANY_RECIPIENTS)
            return
        reply = await transaction.add_recipient(recipient)
        if reply.is_positive:
            self.reply(reply)
        else:
            self._refuse_recipient(reply)

    async def smtp_DATA(self, arg: str) -> None:
        """The message."""
        transaction = self.transaction
        if transaction is None:
            self.refuse(replies.NOT_NOW)
        elif not transaction.recipients:
            self.refuse(replies.NO_RECIPIENT)
        elif self._takes_none(arg) and not await self._is_stopped(Phase.DATA, transaction):
            self.reply(replies.START_MAIL)
            data = DataReceiver(transaction.config.max_message_size)
            self.receiving = True
            if await self._receive(data, transaction):
                self.receiving = False
                self.transaction = None
                if data.fault is not None or not await self._is_stopped(Phase.COMMIT, transaction):
                    self._answer(await self._commit(data, transaction))
                else:
                    transaction.abandon()

    async def _commit(self, data: DataReceiver, transaction: Transaction) -> Reply:
        self.committing = True
        try:
            return await transaction.commit(data)
        finally:
            self.committing = False

    async def _is_stopped(self, phase: Phase, transaction: Transaction) -> bool:
        """Ask the filters about the message as a whole; true when they refused, which has been said."""
        screening = await self.screen(phase, sender=transaction.sender)
        transaction.is_junk = transaction.is_junk or screening.junk
        if screening.refusal is not None:
            self.turn_down(screening.refusal, screening.is_last)
        return screening.refusal is not None

    async def _receive(self, data: DataReceiver, transaction: Transaction) -> bool:
        last = self.loop.time() + self.limits.data_total
        waited = 0.0
        while True:
            piece = data.feed(self.input)
            kept = len(self.input)
            if piece:
                await transaction.write(piece)
            if data.finished:
                return True
            if len(self.input) > kept:
                # It came while the spool was busy; nobody would tell us of it again.
                continue
            now = self.loop.time()
            at_pace = self.limits.data_idle + data.size / self.limits.data_rate - waited
            if not await self.more(min(self.limits.data_idle, at_pace, last - now)):
                return False
            waited += self.loop.time() - now

    def _answer(self, reply: Reply) -> None:
        if reply.is_positive:
            self.bear_fruit()
            self.reply(reply)
        else:
            self.refuse(reply)

    def _may_not_send(self) -> Reply | None:
        listener = self.service.listener
        if not self.client.helo or self.transaction is not None:
            return replies.NOT_NOW
        if listener.tls is ListenerTls.REQUIRED and not self.tls:
            return replies.TLS_FIRST
        if listener.auth is Auth.REQUIRED and not self.client.login:
            return replies.AUTH_FIRST
        return replies.TOO_MANY_MAILS if self._mails >= self.service.house.config().max_mails else None

    async def _begin(self, arg: str) -> Reply | None:
        offers_dsn = not self.service.listener.no_dsn
        sender, parameters = read_mail(arg, self.host, offers_dsn)
        screening = demand(await self.screen(Phase.MAIL_FROM, sender=sender))
        if screening.text:
            sender, parameters = read_mail(with_path(arg, screening.text), self.host, offers_dsn)
        refusal = await self._may_not_be(sender)
        if refusal is not None:
            return refusal
        if parameters.size > self.service.house.config().max_message_size:
            return replies.DECLARED_TOO_BIG
        self.transaction = Transaction(self.service.house, self._origin(parameters.smtputf8), sender, parameters)
        self.transaction.is_junk = self.is_junk or screening.junk
        self._mails += 1
        return None

    async def _may_not_be(self, sender: Address) -> Reply | None:
        """Why the login may not use this sender; who has not logged in, the rules judge alone."""
        senders = self.service.listener.senders
        if senders is None or not self.client.login:
            return None
        delimiter = self.service.house.config().sub_addr_delim
        await freshen((senders,))
        try:
            return None if has_mailaddr_for(senders, self.client.login, sender, delimiter) else replies.SENDER_REJECTED
        except TableUnavailable as error:
            log.warning("%s smtp table-unavailable reason=%s", self.id, quoted(error))
            return replies.TROUBLE

    async def _recipient(self, arg: str, transaction: Transaction) -> Recipient:
        offers_dsn, smtputf8 = not self.service.listener.no_dsn, transaction.smtputf8
        recipient = read_rcpt(arg, self.host, offers_dsn, smtputf8)
        asked = self.screen(Phase.RCPT_TO, sender=transaction.sender, recipient=recipient.address)
        screening = demand(await asked)
        transaction.is_junk = transaction.is_junk or screening.junk
        if screening.text:
            recipient = read_rcpt(with_path(arg, screening.text), self.host, offers_dsn, smtputf8)
        return recipient

    def _refuse_recipient(self, reply: Reply, is_last: bool = False) -> None:
        self.log_refusal(reply)
        if is_last:
            self.dismiss(reply)
            return
        self.reply(reply)
        if reply.is_permanent:
            self._refused_recipients += 1
            if self._refused_recipients >= self.limits.refused_recipients:
                self.dismiss(replies.TOO_MANY_ERRORS)

    # -- who is there -------------------------------------------------------------------------------------------------

    async def _greet(self, name: str, esmtp: bool) -> bool:
        if not name or not name.isascii() or not is_domain(name):
            self.refuse(replies.NAME_MALFORMED if name else replies.NAME_MISSING)
            return False
        screening = await self.screen(Phase.EHLO if esmtp else Phase.HELO, name)
        if screening.refusal is not None:
            self.turn_down(screening.refusal, screening.is_last)
            return False
        self.is_junk = self.is_junk or screening.junk
        name = screening.text or name
        self.drop_transaction()
        self._esmtp = esmtp
        spoken = protocol(esmtp, bool(self.tls), bool(self.client.login), smtputf8=False)
        self.client = dataclasses.replace(self.client, helo=name, protocol=spoken)
        return True

    def _hello(self) -> str:
        return f"{self.host} Hello {self.client.helo} [{self.client.address}], pleased to meet you"

    def _offers(self) -> list[str]:
        listener = self.service.listener
        offers = ["8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {self.service.house.config().max_message_size}"]
        if not listener.no_dsn:
            offers.append("DSN")
        offers += ["PIPELINING", "SMTPUTF8"]
        if self.service.tls is not None and not self.tls:
            offers.append("STARTTLS")
        if self.offers_auth:
            offers.append("AUTH " + " ".join(self.offered_mechanisms))
        return offers

    def _origin(self, smtputf8: bool) -> Origin:
        client = self.client
        name = protocol(self._esmtp, bool(self.tls), bool(client.login), smtputf8)
        if client.protocol != name:
            client = self.client = dataclasses.replace(client, protocol=name)
        tls = f"{self.tls}:{'YES' if self.service.listener.verify else 'NO'}" if self.tls else ""
        return Origin(self.id, self.service.listener, self.host, client, tls, self.is_name_known)

    def _takes_none(self, arg: str) -> bool:
        if arg:
            self.refuse(replies.NO_ARGUMENTS)
        return not arg
