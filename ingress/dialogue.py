"""Commands out of the octets of a wire, and the life of a session from its greeting to its last line in the log.

Guarantees: a command line ends in CR LF and holds no other control character. A peer never sees the text of an exception.
Every refusal is logged with its command, unless it may hold a secret; what is logged is one line whatever a client sends.

Failure: an unexpected exception in a verb is logged and answered 451 4.3.0, or 421 4.3.0 and the end when a message was half
read, because what follows could not be told from commands any more. `spool.errors.SpoolLost` cuts the session off.

RFC 5321 2.4, 4.1.1 (command syntax), 4.5.3.1.4 (line length), 4.2.4.2, 3.8 (421).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ingress import replies
from ingress.guesses import Guesses
from ingress.limits import Limits
from ingress.logline import quoted
from ingress.names import UNCERTAIN, Names, PeerName
from ingress.peer import client_of, plain_address
from ingress.screening import Filters
from ingress.transaction import House, Transaction
from ingress.wire import End, Wire
from policy.authenticator import Authenticator
from policy.config import Listener, ListenerTls
from policy.errors import TableUnavailable
from policy.tables.freshness import freshen
from policy.tables.services import hostname_for
from spool.errors import SpoolLost
from spool.message import Client
from spool.reply import Reply

log = logging.getLogger(__name__)

_COMMAND = re.compile(rb"([A-Za-z]{4,8})(?: +([^\x00-\x1f\x7f]*))?\r\n")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
#: What browsers say when somebody points them at us; the lines that follow are none of our business.
_OTHER_PROTOCOLS: Final = frozenset({"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Service:
    """What a listener gives each of its sessions."""

    house: House
    listener: Listener
    #: The name in greetings and trace headers.
    host: str
    limits: Limits
    #: Knows the passwords of those who may log in; None where nobody may.
    logins: Authenticator | None
    #: Finds the names of clients.
    names: Names
    #: None where the listener offers no TLS.
    tls: ssl.SSLContext | None = None
    filters: Filters = field(default_factory=dict)
    #: Shared by all listeners.
    guesses: Guesses = field(default_factory=Guesses)


#: Is told of each session when its client is there, and sees to it that it is served.
Arrived: TypeAlias = Callable[["Dialogue"], None]


class Dialogue(Wire):
    """Reads commands and calls ``smtp_VERB`` for each."""

    def __init__(self, service: Service, arrived: Arrived, client: Client | None = None) -> None:
        super().__init__(service.limits)
        self.service = service
        #: The name we go by here.
        self.host = service.host
        self.client = client or Client()
        self._is_named = client is not None
        self._arrived = arrived
        #: Names this session in the log.
        self.id = os.urandom(8).hex()
        #: Whether a message is being read: what comes is no command.
        self.receiving = False
        #: Whether a message is on its way into the spool, and the client is to hear what became of it.
        self.committing = False
        #: Whether a line is the client's part of an AUTH dialogue.
        self.authenticating = False
        #: What was negotiated, ``TLSv1.3:TLS_AES_256_GCM_SHA384:256``, or empty.
        self.tls = ""
        self.transaction: Transaction | None = None
        #: The present command as the log may know it.
        self.command = ""
        self.leaving = False
        #: Whether the client was refused at its beginning, and has nothing to say but QUIT.
        self.is_refused = False
        self._bad_commands = 0
        #: Commands since something came of this session, and when that was.
        self._idle_commands = 0
        self._fruitful = 0.0
        #: Since when a command line is waited for.
        self._line_begun = 0.0
        self._peer: PeerName | None = None
        self._peer_asked: asyncio.Future[PeerName] | None = None
        self._arrival = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there: have somebody call `serve`."""
        super().connection_made(transport)
        if not self._is_named:
            self.client = client_of(transport)
        self._arrived(self)

    # -- its life -----------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve this client to its end. Raises nothing but cancellation."""
        await self._take_name()
        self._ask_for_name()
        client = self.client
        log.info("%s smtp connected address=%s host=%s", self.id, client.address, client.host or "<unknown>")
        try:
            await self._converse()
            await self.hang_up()
        except SpoolLost:
            self.end = End.CLOSED
        except Exception:
            # One session's bug must not be every session's end.
            log.exception("%s smtp trouble", self.id)
        finally:
            self.drop_transaction()
            self.abort()
            log.info("%s smtp disconnected reason=%s", self.id, (self.end or End.CLOSED).value)

    def leave(self) -> None:
        """Come to an end: at once when the client is silent between commands, else when its message is settled."""
        self.leaving = True
        if self.is_waiting and not self.receiving:
            self.stop(End.CLOSED, replies.SHUTTING_DOWN)

    def turn_away(self, reply: Reply) -> None:
        """Let `serve` say nothing but this: there is no room for the client."""
        log.info("%s smtp turned-away address=%s result=%s", self.id, self.client.address, quoted(reply))
        self.end = End.CLOSED
        if self.service.listener.tls is not ListenerTls.IMPLICIT:
            self.reply(reply)

    def drop_transaction(self) -> None:
        """Forget the transaction, if there is one."""
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None

    async def welcome(self) -> None:
        """Greet the client."""
        self.say(f"220 {self.host} ESMTP Mailspool")

    async def start_tls(self) -> bool:
        """Begin TLS and log what was negotiated; false when that ends the session."""
        assert self.service.tls is not None
        if self.service.listener.tls is ListenerTls.IMPLICIT:
            is_secure = await self.secure_from_the_start(self.service.tls)
        else:
            is_secure = await self.secure(self.service.tls)
        if not is_secure:
            if self.handshake_fault:
                log.info(
                    "%s smtp tls-refused address=%s reason=%s",
                    self.id,
                    self.client.address,
                    quoted(self.handshake_fault),
                )
            return False
        assert self.transport is not None
        secured: ssl.SSLObject = self.transport.get_extra_info("ssl_object")
        name, _, bits = secured.cipher() or ("", "", 0)
        self.tls = f"{secured.version()}:{name}:{bits}"
        log.info("%s smtp tls ciphers=%s", self.id, self.tls)
        return True

    # -- who the client is --------------------------------------------------------------------------------------------

    async def peer_name(self) -> PeerName:
        """What the reverse DNS says of the client, waited for as long as the limits allow."""
        if self._peer is None:
            assert self._peer_asked is not None
            left = self._arrival + self.limits.name - self.loop.time()
            if left > 0 and not self._peer_asked.done():
                await self.flush()
                await asyncio.wait((self._peer_asked,), timeout=left)
            is_there = self._peer_asked.done() and not self._peer_asked.cancelled()
            self._learn_name(self._peer_asked.result() if is_there else UNCERTAIN)
            log.info("%s smtp named address=%s host=%s", self.id, self.client.address, self.client.host or "<unknown>")
        assert self._peer is not None
        return self._peer

    async def _take_name(self) -> None:
        """Be called what the listener is called at the address that the client came to."""
        table, place = self.service.listener.hostnames, self.transport and self.transport.get_extra_info("sockname")
        if table is None or not place or self.end is not None:
            return
        await freshen((table,))
        try:
            self.host = hostname_for(table, plain_address(place[0])) or self.host
        except TableUnavailable as error:
            log.warning("%s smtp table-unavailable reason=%s", self.id, quoted(error))
            self.turn_away(replies.TROUBLE_CLOSING)

    @property
    def is_name_known(self) -> bool:
        """Whether the DNS has said what the client is called, or that it has no name."""
        return self._peer is not None and self._peer.is_certain

    def _ask_for_name(self) -> None:
        """Begin to find out the client's name, so that it is there when it is needed."""
        if self.end is not None:
            return
        names, address = self.service.names, self.client.address
        known = names.known(address)
        if known is not None:
            self._learn_name(known)
        else:
            self._arrival = self.loop.time()
            self._peer_asked = names.ask(address)

    def _learn_name(self, name: PeerName) -> None:
        self._peer = name
        if name.confirmed:
            self.client = dataclasses.replace(self.client, host=name.confirmed)

    # -- commands -----------------------------------------------------------------------------------------------------

    async def read_line(self) -> bytes | None:
        """The next line with its end, waited for; None when the session has ended."""
        while (line := self._take_line()) is None:
            if self.end is not None or not await self._more_of_line():
                return None
        return line

    def bear_fruit(self) -> None:
        """Note that something has come of this session: a message, or a login."""
        self._idle_commands = 0
        self._fruitful = self.loop.time()

    def note_idle_command(self) -> None:
        """Note a command of which nothing comes yet. A client that says nothing else is sent away."""
        self._idle_commands += 1
        if self._idle_commands > self.limits.idle_commands:
            self.dismiss(replies.TOO_MANY_COMMANDS)

    def take_limits(self, limits: Limits) -> None:
        """Let these hold from now on, for the silence of this moment too."""
        self.limits = limits
        if self.is_waiting:
            left = limits.data_idle if self.receiving else limits.idle
            self.deadline = min(self.deadline, self.loop.time() + left)

    def refuse(self, reply: Reply) -> None:
        """Say that the present command has failed, and log it. A client that is wrong too often is sent away."""
        self.log_refusal(reply)
        self.reply(reply)
        if reply.is_permanent:
            self._bad_commands += 1
            if self._bad_commands >= self.limits.bad_commands:
                self.dismiss(replies.TOO_MANY_ERRORS)

    def log_refusal(self, reply: Reply) -> None:
        """Log that the present command has failed."""
        log.info("%s smtp failed-command command=%s result=%s", self.id, quoted(self.command), quoted(reply))

    def dismiss(self, reply: Reply) -> None:
        """End the session with these last words."""
        if self.end is None:
            self.reply(reply)
            self.end = End.CLOSED

    async def _converse(self) -> None:
        if self.end is not None:
            return
        if self.service.listener.tls is ListenerTls.IMPLICIT and not await self.start_tls():
            return
        await self.welcome()
        self.bear_fruit()
        turn = 0
        while self.end is None:
            line = self._take_line()
            if line is not None:
                await self._obey(line)
                turn += 1
                if turn % self.limits.commands_per_turn == 0:
                    await self.flush()
                    await asyncio.sleep(0)
            elif self.leaving:
                self.dismiss(replies.SHUTTING_DOWN)
            elif self.end is None:
                await self._more_of_line()

    async def _more_of_line(self) -> bool:
        """Wait for more of a command line, which has its time as a whole: an octet now and then gains none."""
        now = self.loop.time()
        if not self._line_begun:
            self._line_begun = now
        last = min(self._line_begun + self.limits.idle, self._fruitful + self.limits.fruitless)
        return await self.more(last - now)

    def _take_line(self) -> bytes | None:
        end = self.input.find(b"\n") + 1
        length = end or len(self.input)
        if length > self.limits.command_line and length > self._line_limit():
            # Where the next command begins is anybody's guess from here on.
            self._bad_input(replies.LINE_TOO_LONG)
            self.end = self.end or End.CLOSED
            return None
        if end == 0:
            return None
        line = bytes(self.input[:end])
        del self.input[:end]
        self._line_begun = 0.0
        return line

    def _line_limit(self) -> int:
        may_be_long = self.authenticating or self.input[:5].upper() == b"AUTH "
        return self.limits.auth_line if may_be_long else self.limits.command_line

    async def _obey(self, line: bytes) -> None:
        match = _COMMAND.fullmatch(line)
        if match is None:
            self._bad_input(_fault_of(line))
            return
        verb = match[1].upper().decode()
        try:
            argument = match[2].rstrip().decode() if match[2] else ""
        except UnicodeDecodeError:
            self._bad_input(replies.BAD_CHARACTER)
            return
        method = self.verbs.get(verb)
        if method is None:
            self._unknown(verb)
            return
        # What follows AUTH may be a password.
        self.command = verb if verb == "AUTH" or not argument else f"{verb} {argument}"
        if self.is_refused and verb != "QUIT":
            self.refuse(replies.NOT_NOW)
            return
        try:
            await getattr(self, method)(argument)
        except SpoolLost:
            raise
        except Exception:
            log.exception("%s smtp trouble command=%s", self.id, quoted(self.command))
            if self.receiving:
                self.dismiss(replies.TROUBLE_CLOSING)
            else:
                self.reply(replies.TROUBLE)

    def _unknown(self, verb: str) -> None:
        if verb in _OTHER_PROTOCOLS:
            self.dismiss(replies.NOT_SMTP)
        else:
            self._bad_input(replies.UNRECOGNIZED)

    def _bad_input(self, reply: Reply) -> None:
        # Not what it was: half an AUTH dialogue looks like this.
        log.info("%s smtp bad-input result=%s", self.id, quoted(reply))
        self.reply(reply)
        self._bad_commands += 1
        if self._bad_commands >= self.limits.bad_commands:
            self.dismiss(replies.TOO_MANY_ERRORS)


def _fault_of(line: bytes) -> Reply:
    if _BARE.search(line):
        return replies.BARE_LINE_END
    return replies.BAD_CHARACTER if _CONTROL.search(line[:-2]) else replies.UNRECOGNIZED
