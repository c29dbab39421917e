"""What a message costs the server in things that can be counted: the same on every machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ingress.session import Session
from spool.writer import SpoolWriter
from tests.tools.dialog import Client
from tests.tools.loops import BOTH
from tests.tools.smtp_client import connected, give, greet
from tests.tools.smtp_server import smtp_server

pytestmark = pytest.mark.anyio

MESSAGES = 5
CONTENT = b"Subject: x\r\n\r\n" + b"text\r\n" * 800


@pytest.fixture(params=BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


class Counted:
    """A transport that counts how often it is written to."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.writes += 1
        self._transport.write(data)  # type: ignore[attr-defined]


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    """The connections of the server, in the order they came."""
    made: list[Counted] = []
    begin = Session.connection_made

    def counted(session: Session, transport: asyncio.BaseTransport) -> None:
        made.append(Counted(transport))
        begin(session, made[-1])  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "connection_made", counted)
    return made


@contextmanager
def counted_tasks() -> Iterator[list[str]]:
    """The tasks that are begun meanwhile, by what they do."""
    begun: list[str] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **names: Any) -> asyncio.Task[Any]:
        begun.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **names)

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        yield begun
    finally:
        loop.set_task_factory(before)


async def give_one(client: Client) -> None:
    for command in ("MAIL FROM:<ann@example.com>", "RCPT TO:<bob@here.example>", "DATA"):
        await client.ask(command)
    assert (await give(client, CONTENT)).startswith("250 ")


async def test_a_message_costs_one_write_for_each_reply_that_its_client_waits_for(
    spool: SpoolWriter, wires: list[Counted]
) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        before = wires[0].writes
        for _message in range(MESSAGES):
            await give_one(client)
        assert wires[0].writes - before == 4 * MESSAGES


async def test_a_message_whose_client_pipelines_costs_two_writes(spool: SpoolWriter, wires: list[Counted]) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        before = wires[0].writes
        for _message in range(MESSAGES):
            await client.send(b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@here.example>\r\nDATA\r\n")
            assert [(await client.line())[:3] for _reply in range(3)] == ["250", "250", "354"]
            assert (await give(client, CONTENT)).startswith("250 ")
        assert wires[0].writes - before == 2 * MESSAGES


async def test_a_message_costs_no_task_of_its_own(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        await give_one(client)
        with counted_tasks() as begun:
            for _message in range(MESSAGES):
                await give_one(client)
        assert begun == []


async def test_a_session_costs_one_task(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server:
        with counted_tasks() as begun:
            async with connected(server) as client:
                await greet(client)
        assert [work for work in begun if work.startswith("Ingress")] == ["Ingress._attend"]
