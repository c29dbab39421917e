"""A real spool behind a real control socket, without the rest of the daemon."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from control.client import Connection
from control.commands import Commands, Desk
from control.explaining import QuestionError
from control.journal import Journal
from control.protocol import AnyAnswer, Done, Explain, Request
from control.server import ControlServer, Limits
from control.sockets import bind_unix
from policy.config import Config
from policy.explain import Explanation
from policy.tables.table import Table
from spool.layout import layout
from spool.listing import QueueReader
from spool.writer import SpoolWriter


@dataclass
class Part:
    running: bool = True

    async def set_running(self, running: bool) -> bool:
        changed = self.running is not running
        self.running = running
        return changed


@dataclass
class NothingInHand:
    """A scheduler that has claimed nothing."""

    spool: SpoolWriter

    @asynccontextmanager
    async def standstill(self) -> AsyncIterator[None]:
        yield

    async def pause_lane(self, lane_id: int) -> None:
        await self.spool.pause_lane(lane_id)

    async def resume_lane(self, lane_id: int) -> None:
        await self.spool.resume_lane(lane_id)


@dataclass
class House:
    spool: SpoolWriter
    socket: str
    troubles: list[str] = field(default_factory=list)
    walls: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=lambda: {"mda": Part(), "mta": Part(), "smtp": Part()})

    async def ask(self, request: Request) -> list[AnyAnswer]:
        return await anyio.to_thread.run_sync(partial(self._ask, request))

    async def refresh(self, table: str) -> str:
        if not table:
            return ""
        await anyio.to_thread.run_sync(self.tables[table].refresh)
        return self.tables[table].trouble

    async def walled(self) -> list[str]:
        return self.walls

    async def rows(self, request: Request) -> list[AnyAnswer]:
        return [answer for answer in await self.ask(request) if not isinstance(answer, Done)]

    def _ask(self, request: Request) -> list[AnyAnswer]:
        with Connection(self.socket) as connection:
            return list(connection.ask(request))


@dataclass
class OneFigure:
    """A daemon that has run for seven seconds."""

    wrong: list[str]

    def now(self) -> list[tuple[str, object]]:
        return [("uptime", 7)]

    def troubles(self) -> list[str]:
        return self.wrong


class NoQuestions:
    """Explains nothing: no configuration is here."""

    async def explain(self, question: Explain) -> Explanation:
        raise QuestionError("nothing is explained here")


@asynccontextmanager
async def commands(folder: Path) -> AsyncIterator[Desk]:
    """What commands act upon: a spool below ``folder`` as root."""
    async with _house(folder) as (_, desk):
        yield desk


@asynccontextmanager
async def running(folder: Path, limits: Limits | None = None) -> AsyncIterator[House]:
    """A spool below ``folder`` as root, and its control socket."""
    async with _house(folder) as (house, desk), anyio.create_task_group() as tasks:
        tasks.start_soon(ControlServer(Commands(desk), limits).serve, bind_unix(house.socket))
        yield house
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _house(folder: Path) -> AsyncIterator[tuple[House, Desk]]:
    places = layout(str(folder))
    spool = await SpoolWriter.open(places)
    reader = QueueReader.beside(places.spool_dir, spool.clock)
    journal = Journal(logging.StreamHandler(io.StringIO()))
    house = House(spool, places.control_socket)
    desk = Desk(
        spool,
        reader,
        NothingInHand(spool),
        journal,
        house.parts,
        OneFigure(house.troubles),
        NoQuestions(),
        lambda: Config("", "mail.example.org", (), {}, ()),
        lambda: house.tables,
        house.refresh,
        house.walled,
    )
    try:
        yield house, desk
    finally:
        journal.close()
        reader.close()
        await spool.aclose()
