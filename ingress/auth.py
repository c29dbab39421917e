"""AUTH inside an SMTP session: aiosmtpd's framing of the mechanisms, around our own wire and our own judgement.

aiosmtpd's ``auth_LOGIN`` asks for the two answers; PLAIN is read here, because aiosmtpd ignores whom the client wants to act
as. Both only collect, as SCRAM-SHA-256 does: `Authentication.smtp_AUTH` has it judged.

Guarantees: nothing of the dialogue is ever logged but the login's name. A wrong password and an unknown login get the
same answer, the same time after they were given, which grows with each failure. AUTH exists inside TLS only. Who guesses is
slowed down (`ingress.guesses`). The line of the log that tells of a login is one that fail2ban's filter in ``packaging``
reads: whatever a client calls itself, the address in it is the client's.

Failure: replies; after a few failed logins the session ends.

RFC 4954 (AUTH), RFC 4616 (PLAIN), RFC 7677 (SCRAM-SHA-256).
"""

# ruff: noqa: N802 -- a verb's method has the verb's name, as aiosmtpd does it

from __future__ import annotations

import binascii
import dataclasses
import logging
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Final

import anyio
from aiosmtpd.smtp import MISSING, AuthResult, LoginPassword

from ingress import replies
from ingress.dialogue import Arrived, Service
from ingress.logline import quoted
from ingress.scram import Exchange, ScramSyntax, read_first
from ingress.screened import Screened
from ingress.wire import End
from policy.errors import TableUnavailable
from policy.filters import Phase
from spool.message import Client
from spool.reply import Reply

log = logging.getLogger(__name__)


_SCRAM: Final = "SCRAM-SHA-256"


@dataclass(frozen=True, slots=True)
class _Proof:
    """What came of a SCRAM exchange."""

    login: str
    #: The server's own proof for a client that knows the password; None for another.
    signature: str | None


class Authentication(Screened):
    """The part of a session that finds out who the client is."""

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(self, service: Service, arrived: Arrived, client: Client | None = None) -> None:
        super().__init__(service, arrived, client)
        self._failures = 0

    @property
    def offers_auth(self) -> bool:
        """Whether AUTH can be given now."""
        return self.service.logins is not None and bool(self.tls) and not self.client.login

    @property
    def offered_mechanisms(self) -> list[str]:
        """What clients may choose from, the best first."""
        assert self.service.logins is not None
        names = sorted(self.mechanisms, reverse=True)
        return names if self.service.logins.holds_verifiers() else [name for name in names if name != _SCRAM]

    @property
    def _asks_for_login(self) -> bool:
        """Whether the filters of this phase can be asked only when it is known who logs in."""
        return any(each.question.what == "auth" for each in self.service.filters.get(Phase.AUTH, ()))

    async def smtp_AUTH(self, arg: str) -> None:
        """Collect login and password by the mechanism that the client names, and have them checked."""
        words = arg.split()
        refusal = self._refusal(words)
        if refusal is not None:
            self.refuse(refusal)
            return
        self.command = f"AUTH {words[0].upper()} (...)"
        if self.service.guesses.is_barred(self.client.address, self.limits):
            self._log("refused", "")
            self.refuse(replies.TOO_MANY_GUESSES)
            self.end = self.end or End.CLOSED
            return
        if not self._asks_for_login and await self.is_screened_off(Phase.AUTH):
            return
        self.authenticating = True
        try:
            result: AuthResult = await getattr(self, self.mechanisms[words[0].upper()])(self, words)
            if self.end is None and isinstance(result.auth_data, LoginPassword | _Proof):
                await self._judge(result.auth_data)
        finally:
            self.authenticating = False

    async def auth_PLAIN(self, _: Any, args: list[str]) -> AuthResult:
        """One answer: whom to act as, who, and the password, with NUL between them."""
        answer = self._decode(args[1]) if len(args) == 2 else await self.challenge_auth(b"")
        if answer is MISSING:
            return AuthResult(success=False)
        parts = answer.split(b"\0")
        # Nobody may act as somebody else here (RFC 4616 2), but clients repeat themselves.
        if len(parts) != 3 or not parts[1] or parts[0] not in (b"", parts[1]):
            self.refuse(replies.AUTH_SYNTAX)
            return AuthResult(success=False)
        return self._authenticate("PLAIN", LoginPassword(parts[1], parts[2]))

    async def auth_SCRAM__SHA__256(self, _: Any, args: list[str]) -> AuthResult:
        """Two answers: who, and the proof that the password is known."""
        assert self.service.logins is not None
        answer = self._decode(args[1]) if len(args) == 2 else await self.challenge_auth(b"")
        if answer is MISSING:
            return AuthResult(success=False)
        login = ""
        try:
            client = read_first(answer)
            login = client.login
            exchange = Exchange.begin(client, await self.service.logins.verifier(login))
            answer = await self.challenge_auth(exchange.challenge)
            if answer is not MISSING:
                return AuthResult(success=True, auth_data=_Proof(login, exchange.judge(answer)))
        except ScramSyntax:
            self.refuse(replies.AUTH_SYNTAX)
        except TableUnavailable as error:
            self._has_trouble(login, error)
        return AuthResult(success=False)

    async def challenge_auth(
        self, challenge: str | bytes, encode_to_b64: bool = True, log_client_response: bool = False
    ) -> Any:
        """Ask, and decode the answer; MISSING when it was refused or never came."""
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        self.say("334 " + (b64encode(octets) if encode_to_b64 else octets).decode())
        line = await self.read_line()
        return MISSING if line is None else self._decode(line.removesuffix(b"\r\n"))

    def _refusal(self, words: list[str]) -> Reply | None:
        if self.service.logins is None:
            return replies.NOT_SUPPORTED
        if not self.tls:
            return replies.AUTH_NEEDS_TLS
        if self.client.login:
            return replies.ALREADY_AUTHENTICATED
        if self.transaction is not None or not self.client.helo:
            return replies.NOT_NOW
        if not words:
            return replies.NO_MECHANISM
        if words[0].upper() not in self.offered_mechanisms:
            return replies.UNKNOWN_MECHANISM
        return replies.AUTH_SYNTAX if len(words) > 2 else None

    def _decode(self, answer: str | bytes) -> Any:
        if answer in ("*", b"*"):
            self.refuse(replies.AUTH_ABORTED)
            return MISSING
        try:
            # An initial response of nothing is written as "=" (RFC 4954 4).
            return b"" if answer in ("=", b"=") else b64decode(answer, validate=True)
        except (binascii.Error, ValueError):
            self.refuse(replies.AUTH_SYNTAX)
            return MISSING

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        return AuthResult(success=True, auth_data=auth_data)

    async def _judge(self, answer: LoginPassword | _Proof) -> None:
        login = answer.login if isinstance(answer, _Proof) else answer.login.decode(errors="replace")
        guesses, address = self.service.guesses, self.client.address
        await self.flush()
        await anyio.sleep(guesses.begin(login, address, self.limits))
        begin = self.loop.time()
        try:
            is_right = await self._is_right(login, answer)
        except TableUnavailable as error:
            guesses.take_back(login, address, self.limits)
            self._has_trouble(login, error)
            return
        self._log("ok" if is_right else "permfail", login)
        if is_right:
            guesses.take_back(login, address, self.limits)
            await self._let_in(login, answer)
        else:
            await self._fail(begin)

    def _has_trouble(self, login: str, error: TableUnavailable) -> None:
        log.warning("%s smtp table-unavailable reason=%s", self.id, quoted(error))
        self._log("tempfail", login)
        self.refuse(replies.AUTH_TROUBLE)

    async def _let_in(self, login: str, answer: LoginPassword | _Proof) -> None:
        # The client may want to know whom it talks to, and says nothing to it (RFC 4954 4).
        if isinstance(answer, _Proof):
            heard = await self.challenge_auth(answer.signature or "")
            if heard is MISSING:
                return
            if heard:
                self.refuse(replies.AUTH_SYNTAX)
                return
        self.client = dataclasses.replace(self.client, login=login)
        self.bear_fruit()
        if self._asks_for_login and await self.is_screened_off(Phase.AUTH):
            self.client = dataclasses.replace(self.client, login="")
        else:
            self.reply(replies.AUTHENTICATED)

    async def _is_right(self, login: str, answer: LoginPassword | _Proof) -> bool:
        if isinstance(answer, _Proof):
            return answer.signature is not None
        assert self.service.logins is not None
        password = answer.password.decode(errors="surrogateescape")
        return await self.service.logins.check(login, password, self.client.address)

    async def _fail(self, begin: float) -> None:
        """Answer at a moment that does not depend on why it failed."""
        self._failures += 1
        left = begin + self._failures * self.limits.login_delay - self.loop.time()
        await anyio.sleep(max(0.0, left))
        self.refuse(replies.AUTH_FAILED)
        if self._failures >= self.limits.failed_logins:
            self.dismiss(replies.TOO_MANY_ERRORS)

    def _log(self, result: str, login: str) -> None:
        log.info(
            "%s smtp authentication user=%s address=%s result=%s", self.id, quoted(login), self.client.address, result
        )
