"""AUTH inside an SMTP session: aiosmtpd's framing of the mechanisms, around our own wire and our own judgement.

aiosmtpd's ``auth_LOGIN`` asks for the two answers; PLAIN is read here, because aiosmtpd ignores whom the client wants to act
as. Both only collect: `Authentication.smtp_AUTH` has the password checked.

Guarantees: nothing of the dialogue is ever logged but the login's name. A wrong password and an unknown login get the
same answer, after the same delay, which grows with each failure. AUTH exists inside TLS only.

Failure: replies; after a few failed logins the session ends.

RFC 4954 (AUTH), RFC 4616 (PLAIN).
"""

# ruff: noqa: N802 -- a verb's method has the verb's name, as aiosmtpd does it

from __future__ import annotations

import binascii
import dataclasses
import logging
from base64 import b64decode, b64encode
from typing import Any

import anyio
from aiosmtpd.smtp import MISSING, AuthResult, LoginPassword

from ingress import replies
from ingress.dialogue import Arrived, Service
from ingress.logline import quoted
from ingress.screened import Screened
from policy.errors import TableUnavailable
from policy.filters import Phase
from spool.message import Client
from spool.reply import Reply

log = logging.getLogger(__name__)


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
        if not self._asks_for_login and await self.is_screened_off(Phase.AUTH):
            return
        self.authenticating = True
        try:
            result: AuthResult = await getattr(self, self.mechanisms[words[0].upper()])(self, words)
        finally:
            self.authenticating = False
        if isinstance(result.auth_data, LoginPassword) and self.end is None:
            await self._judge(result.auth_data)

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
        if words[0].upper() not in self.mechanisms:
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

    async def _judge(self, answer: LoginPassword) -> None:
        login = answer.login.decode(errors="replace")
        try:
            is_right = await self._check(login, answer.password.decode(errors="surrogateescape"))
        except TableUnavailable as error:
            log.warning("%s smtp table-unavailable reason=%s", self.id, quoted(error))
            self._log("tempfail", login)
            self.refuse(replies.AUTH_TROUBLE)
            return
        self._log("ok" if is_right else "permfail", login)
        if is_right:
            await self._let_in(login)
        else:
            await self._fail()

    async def _let_in(self, login: str) -> None:
        self.client = dataclasses.replace(self.client, login=login)
        self.bear_fruit()
        if self._asks_for_login and await self.is_screened_off(Phase.AUTH):
            self.client = dataclasses.replace(self.client, login="")
        else:
            self.reply(replies.AUTHENTICATED)

    async def _check(self, login: str, password: str) -> bool:
        assert self.service.logins is not None
        return await self.service.logins.check(login, password, self.client.address)

    async def _fail(self) -> None:
        self._failures += 1
        await self.flush()
        await anyio.sleep(self._failures * self.limits.login_delay)
        self.refuse(replies.AUTH_FAILED)
        if self._failures >= self.limits.failed_logins:
            self.dismiss(replies.TOO_MANY_ERRORS)

    def _log(self, result: str, login: str) -> None:
        log.info(
            "%s smtp authentication user=%s address=%s result=%s", self.id, quoted(login), self.client.address, result
        )
