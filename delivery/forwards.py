"""The .forward files of users, looked at by those who deliver to them, and remembered for a moment.

Guarantees: each user's file is looked at by one at a time, however many recipients wait for it. What is remembered is of
at most `MAX_KEPT` users, and no older than `KEPT` seconds.

Failure: none beside the answers of `policy.forward`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio import to_thread

from delivery.hands import Eyes
from delivery.identity import identity_for
from policy.forward import ForwardAnswer, ForwardDeferred
from policy.tables.passwd import User

#: Seconds: long enough for the recipients of a burst, and gone when a user tries what was just written.
KEPT: Final = 5.0
MAX_KEPT: Final = 1000
#: Seconds after which a home that does not answer is trouble for now: a client waits for the reply to its RCPT.
PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: ForwardAnswer
    until: float


@dataclass(slots=True, eq=False)
class _Look:
    """One that is under way; without an answer at its end when whoever took it was cancelled."""

    over: anyio.Event = field(default_factory=anyio.Event)
    answer: ForwardAnswer | None = None


class UserForwards:
    """See the module; ``policy.forward.Forwards``."""

    def __init__(self, eyes: Eyes, patience: float = PATIENCE, now: Callable[[], float] = time.monotonic) -> None:
        self._eyes = eyes
        self._patience = patience
        self._now = now
        #: The oldest first.
        self._kept: OrderedDict[User, _Kept] = OrderedDict()
        self._looks: dict[User, _Look] = {}

    def known(self, user: User) -> ForwardAnswer | None:
        """See `policy.forward.Forwards`."""
        kept = self._kept.get(user)
        return None if kept is None or kept.until <= self._now() else kept.answer

    async def fetch(self, user: User) -> ForwardAnswer:
        """See `policy.forward.Forwards`."""
        while (look := self._looks.get(user)) is not None:
            await look.over.wait()
            if look.answer is not None:
                return look.answer
        look = self._looks[user] = _Look()
        try:
            look.answer = await self._look(user)
        finally:
            del self._looks[user]
            look.over.set()
        self._keep(user, look.answer)
        return look.answer

    async def _look(self, user: User) -> ForwardAnswer:
        try:
            with anyio.fail_after(self._patience):
                who = await to_thread.run_sync(identity_for, user, abandon_on_cancel=True)
                return await self._eyes.look(who)
        except TimeoutError:
            return ForwardDeferred(f"no answer from {user.home} in {self._patience:g} seconds")

    def _keep(self, user: User, answer: ForwardAnswer) -> None:
        self._kept.pop(user, None)
        self._kept[user] = _Kept(answer, self._now() + KEPT)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
