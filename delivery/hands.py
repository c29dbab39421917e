"""Who makes deposits for the daemon: its own threads, for the user who started it, or agents (see `delivery.agents`).

Guarantees: one result for each deposit, in order, whatever happens. When the caller is cancelled, those who work are told to
stop; what they leave is recognised by a repetition, which must therefore know that there was an attempt.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from typing import Any, Final, Protocol, TypeAlias

from anyio import CapacityLimiter, from_thread, to_thread

from delivery.deposit import Abandoned, Deposit, Refused, Result, ToMbox, deferred
from delivery.forward_file import look_at
from delivery.identity import Identity
from delivery.local import make_deposits
from delivery.mbox import make_directory
from policy.forward import ForwardAnswer, NoForward
from spool.errors import SpoolError
from spool.files import Ops
from spool.intent import MboxIntent
from spool.outcome import Stage

#: Batches that are delivered at a time: as many as OpenSMTPD's ``mda limit max-session``.
MAX_SESSIONS: Final = 50
#: Users whose .forward is looked at, at a time. Mail that is being delivered slowly does not hold them up.
MAX_LOOKS: Final = 10

_log = logging.getLogger("delivery.forward")

Commit: TypeAlias = Callable[[Sequence[MboxIntent]], Coroutine[Any, Any, None]]


class Hands(Protocol):
    """Those who make deposits."""

    @property
    def becomes_others(self) -> bool:
        """Whether mail can be delivered to others than the user who runs this."""

    async def make(self, who: Identity, deposits: Sequence[Deposit]) -> list[Result]:
        """Make them as that user."""

    async def aclose(self) -> None:
        """Stop; nothing is asked afterwards."""


class Eyes(Protocol):
    """Those who look at .forward files."""

    async def look(self, who: Identity) -> ForwardAnswer:
        """What the file in the home of ``who`` says, looked at as that user. May take as long as a file system does."""


def commit_from_thread(commit: Commit, intents: Sequence[MboxIntent]) -> None:
    """Have the loop commit these; raises `Refused` when the spool cannot, `Abandoned` when the caller was cancelled."""
    try:
        from_thread.run(commit, intents)
    except (CancelledError, RuntimeError) as error:
        raise Abandoned from error
    except SpoolError as error:
        raise Refused(deferred("4.3.0", f"the intent could not be kept: {error}")) from error


class LoopDesk:
    """The loop, as a thread sees it that works for it."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._near, self._far = socket.socketpair()
        self._lock = threading.Lock()
        self._in_use = False

    def enter(self) -> None:
        """The thread begins; raises `Abandoned`."""
        with self._lock:
            if self._near.fileno() < 0:
                raise Abandoned
            self._in_use = True

    def close(self) -> None:
        """The thread ends."""
        self._near.close()

    def leave(self) -> None:
        """Nobody waits for the thread any more."""
        with self._lock:
            self._far.close()
            if not self._in_use:
                self._near.close()

    def fileno(self) -> int:
        """See `Desk`."""
        return self._near.fileno()

    def wait(self, seconds: float) -> None:
        """See `Desk`."""
        if select.select([self._near], [], [], seconds)[0]:
            raise Abandoned

    def commit(self, intents: Sequence[MboxIntent]) -> None:
        """See `Desk`."""
        commit_from_thread(self._commit, intents)


class OwnHands:
    """Threads of this process, which deliver to the user who started it and to nobody else."""

    def __init__(self, commit: Commit, mail_dir: str, ops: Ops) -> None:
        self._commit = commit
        self._mail_dir = mail_dir
        self._ops = ops
        self._limiter = CapacityLimiter(MAX_SESSIONS)
        self._lookers = CapacityLimiter(MAX_LOOKS)
        self._has_told = False

    @property
    def becomes_others(self) -> bool:
        """See `Hands`."""
        return False

    async def make(self, who: Identity, deposits: Sequence[Deposit]) -> list[Result]:
        """See `Hands`. Mail for other users waits for a daemon that may become them."""
        if who.uid != os.geteuid():
            text = f"only a daemon that runs as root can deliver to {who.name}"
            return [deferred("4.3.5", text, Stage.ROUTE)] * len(deposits)
        desk = LoopDesk(self._commit)
        try:
            return await to_thread.run_sync(self._work, deposits, desk, abandon_on_cancel=True, limiter=self._limiter)
        finally:
            desk.leave()

    async def look(self, who: Identity) -> ForwardAnswer:
        """See `Eyes`. Other users have none for us: their mail stays here until a daemon comes that may become them."""
        if who.uid != os.geteuid():
            if not self._has_told:
                self._has_told = True
                _log.warning(
                    "the .forward of %s is not followed: that of another user only root's daemon can", who.name
                )
            return NoForward()
        return await to_thread.run_sync(look_at, who.home, who.uid, abandon_on_cancel=True, limiter=self._lookers)

    def _work(self, deposits: Sequence[Deposit], desk: LoopDesk) -> list[Result]:
        desk.enter()
        with closing(desk):
            if any(_directory(one) == self._mail_dir for one in deposits):
                make_directory(self._mail_dir)
            return make_deposits(deposits, self._ops, desk)

    async def aclose(self) -> None:
        """Nothing is left running but threads whose callers were cancelled; they end by themselves."""


def _directory(deposit: Deposit) -> str:
    return os.path.dirname(deposit.method.path) if isinstance(deposit.method, ToMbox) else ""
