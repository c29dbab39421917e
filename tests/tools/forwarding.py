"""The .forward files of users, as a test wants them; and a watch that writes down what it hears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio.lowlevel

from policy.config import Rule
from policy.errors import TableUnavailable
from policy.forward import Forward, ForwardAnswer, NoForward
from policy.tables.passwd import User
from policy.tables.table import Table
from policy.trail import FinalDestination, Refusal, Trail
from spool.address import Address
from spool.intent import MboxIntent


def forward(text: str) -> Forward:
    return Forward(text.encode())


class FakeForwards:
    """The files of some users, by name; everything has to be fetched first, unless it is ``known_at_once``."""

    def __init__(self, files: Mapping[str, ForwardAnswer], *, known_at_once: bool = False) -> None:
        self._files = files
        self._known_at_once = known_at_once
        self.fetched: list[str] = []
        self.asked: list[User] = []
        self.most_at_once = 0
        self._now = 0

    def known(self, user: User) -> ForwardAnswer | None:
        self.asked.append(user)
        return self._answer(user) if self._known_at_once else None

    async def fetch(self, user: User) -> ForwardAnswer:
        self.fetched.append(user.name)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await anyio.lowlevel.checkpoint()
        self._now -= 1
        return self._answer(user)

    def _answer(self, user: User) -> ForwardAnswer:
        return self._files.get(user.name, NoForward())


@dataclass(slots=True)
class Heard:
    """Everything that was told, as lines: the trail, and what."""

    lines: list[str] = field(default_factory=list)

    def begins(self, recipient: Address) -> None:
        self.lines = [f"begins {recipient}"]

    def address(self, trail: Trail, address: Address, rule: Rule | None) -> None:
        self._write(trail, f"rule {rule.place.rpartition('/')[2] if rule else None}")

    def name(self, trail: Trail, name: str) -> None:
        self._write(trail, "name")

    def asked(self, trail: Trail, table: Table, key: str, answer: str | None) -> None:
        self._write(trail, f"{table.name}[{key}] = {answer}")

    def forward(self, trail: Trail, user: User, answer: ForwardAnswer) -> None:
        self._write(trail, f"{type(answer).__name__} of {user.name}")

    def include(self, trail: Trail, path: str) -> None:
        self._write(trail, "include")

    def repeated(self, trail: Trail, text: str) -> None:
        self._write(trail, f"repeated {text}")

    def found(self, trail: Trail, final: FinalDestination) -> None:
        self._write(trail, f"found {final.action.name}")

    def passed_over(self, trail: Trail, text: str, why: str) -> None:
        self._write(trail, f"passed over {text}: {why}")

    def refused(self, trail: Trail, refusal: Refusal) -> None:
        self._write(trail, f"refused {refusal.reply}")

    def unavailable(self, trail: Trail, error: TableUnavailable) -> None:
        self._write(trail, f"unavailable: {error}")

    def _write(self, trail: Trail, what: str) -> None:
        self.lines.append(f"{trail}: {what}")


async def commit_nothing(_intents: Sequence[MboxIntent]) -> None:
    """For hands that deliver nothing."""
