"""Users that are asked for: what is remembered, and what a name service in trouble means."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from policy.admit import Admitted, admit
from policy.config import Facts
from policy.errors import TableUnavailable
from policy.tables.passwd import KEPT, KEPT_NOBODY, AskedUsers, Found, User, system_users
from spool.address import parse_address
from spool.message import Recipient
from tests.tools.configured import Configured

pytestmark = pytest.mark.anyio

ANN = User("ann", 1000, 1000, "/home/ann")


@dataclass
class NameService:
    """Knows ann; answers when its gate is open."""

    asked: list[str] = field(default_factory=list)
    gate: anyio.Event = field(default_factory=anyio.Event)
    trouble: bool = False
    now: float = 100.0

    def __post_init__(self) -> None:
        self.gate.set()

    async def ask(self, name: str) -> User | None:
        self.asked.append(name)
        await self.gate.wait()
        if self.trouble:
            raise TableUnavailable("the directory is down")
        return ANN if name == "ann" else None

    def users(self, patience: float = 5.0) -> AskedUsers:
        return AskedUsers(self.ask, patience, lambda: self.now)


async def test_nobody_is_known_before_he_was_asked_for() -> None:
    users = NameService().users()
    assert users.known("ann") is None
    assert await users.fetch("ann") == users.known("ann") == Found(ANN)


@pytest.mark.parametrize(("name", "kept"), [("ann", KEPT), ("nobody", KEPT_NOBODY)])
async def test_an_answer_is_remembered_for_a_moment(name: str, kept: float) -> None:
    service = NameService()
    users = service.users()
    await users.fetch(name)
    service.now += kept - 0.01
    await users.fetch(name)
    assert service.asked == [name]
    service.now += 0.02
    await users.fetch(name)
    assert service.asked == [name, name]


async def test_those_who_want_the_same_ask_once() -> None:
    service = NameService()
    service.gate = anyio.Event()
    users = service.users()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(users.fetch, "ann")
        await anyio.sleep(0.01)
        service.gate.set()
    assert service.asked == ["ann"]


async def test_no_answer_in_time_is_trouble_and_not_an_unknown_user() -> None:
    service = NameService()
    service.gate = anyio.Event()
    with pytest.raises(TableUnavailable, match=r"no answer about 'ann' in 0\.01 seconds"):
        await service.users(0.01).fetch("ann")


async def test_a_recipient_waits_for_the_name_service_and_nobody_else_does(tmp_path: Path) -> None:
    config = Configured(tmp_path).load('listen on localhost\naction "in" maildir\nmatch from any for any action "in"\n')
    service = NameService()
    facts = Facts(source="192.0.2.1", mail_from=parse_address("x@example.org"), helo="x")
    answer = await admit(config, facts, Recipient(parse_address("ann@mail.example.org")), service.users())
    assert isinstance(answer, Admitted)
    assert answer.envelopes[0].destination.user == "ann"


async def test_a_name_service_in_trouble_defers_the_recipient(tmp_path: Path) -> None:
    config = Configured(tmp_path).load('listen on localhost\naction "in" maildir\nmatch from any for any action "in"\n')
    facts = Facts(source="192.0.2.1", mail_from=parse_address("x@example.org"), helo="x")
    with pytest.raises(TableUnavailable, match="the directory is down"):
        await admit(config, facts, Recipient(parse_address("ann@x.example")), NameService(trouble=True).users())


async def test_the_users_of_this_machine_are_found() -> None:
    found = await system_users().fetch("root")
    assert found.user is not None
    assert found.user.uid == 0
