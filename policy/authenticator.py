"""Who says whether a password is right: a table of hashes, or the system through PAM.

Guarantees: the answer for an unknown login takes as much work as that for a wrong password. No message holds a password.

Failure: `TableUnavailable` when nobody can be asked now.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final, Protocol

import anyio
import anyio.to_thread

from policy.credentials import authenticate, holds_verifiers, verifier_of
from policy.errors import TableUnavailable
from policy.login_frames import MAX_ANSWER, TICKET, Question, Verdict, read_answer
from policy.scram import Verifier
from policy.tables.table import Table

#: Questions to PAM at once: as many as the helper works at; the others wait here, where nothing of theirs is held up.
MAX_QUESTIONS: Final = 8
#: Seconds until PAM's answer is given up: the helper's own patience, and some for its way.
PATIENCE: Final = 20.0


class Authenticator(Protocol):
    """Knows passwords."""

    async def check(self, login: str, password: str, address: str) -> bool:
        """Whether that is the password of ``login``, for a client at ``address``. Raises `TableUnavailable`."""

    def holds_verifiers(self) -> bool:
        """Whether clients can prove that they know the password, by SCRAM. Never raises."""

    async def verifier(self, login: str) -> Verifier:
        """What ``login`` proves it by; for one that does not exist, one that nothing proves. Raises `TableUnavailable`."""


class TableLogins:
    """Those of a table of logins and hashes."""

    def __init__(self, table: Table, limiter: anyio.CapacityLimiter) -> None:
        self.table = table
        self._limiter = limiter
        self._held_verifiers = False

    async def check(self, login: str, password: str, address: str) -> bool:
        """See `Authenticator`."""
        return await authenticate(self.table, login, password, self._limiter)

    def holds_verifiers(self) -> bool:
        """See `Authenticator`."""
        # What is stale is read by the next check, in a thread.
        if not self.table.is_stale:
            try:
                self._held_verifiers = holds_verifiers(self.table)
            except TableUnavailable:
                return False
        return self._held_verifiers

    async def verifier(self, login: str) -> Verifier:
        """See `Authenticator`."""
        return await anyio.to_thread.run_sync(verifier_of, self.table, login, limiter=self._limiter)


class _WithoutVerifiers:
    """PAM wants the password itself."""

    def holds_verifiers(self) -> bool:
        """See `Authenticator`."""
        return False

    async def verifier(self, login: str) -> Verifier:
        """See `Authenticator`."""
        raise TableUnavailable("there are no SCRAM verifiers of the system's users")


class SystemLogins(_WithoutVerifiers):
    """Those of the system's users; PAM is asked through ``end`` of the helper (`control.pam`)."""

    def __init__(self, end: socket.socket, patience: float = PATIENCE) -> None:
        end.setblocking(False)
        self._end = end
        self._patience = patience
        self._limiter = anyio.CapacityLimiter(MAX_QUESTIONS)
        self._waiting: dict[bytes, asyncio.Future[Verdict]] = {}

    async def check(self, login: str, password: str, address: str) -> bool:
        """See `Authenticator`."""
        octets = [text.encode(errors="surrogateescape") for text in (login, password, address)]
        question = Question(os.urandom(TICKET), octets[0], octets[1], octets[2])
        if not question.is_sane:
            return False
        with anyio.move_on_after(self._patience):
            async with self._limiter:
                verdict = await self._ask(question)
                if verdict is not Verdict.TROUBLE:
                    return verdict is Verdict.YES
        raise TableUnavailable("PAM cannot be asked for the system's users now")

    async def _ask(self, question: Question) -> Verdict:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Verdict] = loop.create_future()
        packet = question.packet()
        try:
            self._end.send(packet, socket.MSG_NOSIGNAL)
        except OSError:
            return Verdict.TROUBLE
        finally:
            packet[:] = bytes(len(packet))
        if not self._waiting:
            loop.add_reader(self._end, self._hear)
        self._waiting[question.ticket] = answer
        try:
            return await answer
        finally:
            del self._waiting[question.ticket]
            if not self._waiting:
                loop.remove_reader(self._end)

    def _hear(self) -> None:
        try:
            packet = self._end.recv(MAX_ANSWER + 1)
            ticket, verdict = read_answer(packet)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            # Nobody is there any more, or it is not who it should be: there will be no answer to anything.
            self._give_up()
            return
        answer = self._waiting.get(ticket)
        if answer is not None and not answer.done():
            answer.set_result(verdict)

    def _give_up(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(Verdict.TROUBLE)


class NoLogins(_WithoutVerifiers):
    """For a place where nobody knows the system's passwords."""

    async def check(self, login: str, password: str, address: str) -> bool:
        """See `Authenticator`."""
        raise TableUnavailable("nobody here can ask PAM for the system's users")
