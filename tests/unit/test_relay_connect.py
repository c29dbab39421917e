"""Reaching a host that has several addresses."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest

from delivery.connect import MAX_ADDRESSES, Race, in_turn
from delivery.hop import Hop, Unreachable
from delivery.timeouts import Timeouts
from delivery.tls import TlsTerms
from policy.config import RelayTls

pytestmark = pytest.mark.anyio
#: Nobody ever answers here: a port whose backlog is full.
TIMES = Timeouts(connect=1, stagger=0.05)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.2", 0)) as server:
        yield server


@pytest.fixture
def deaf(listening: socket.socket) -> Iterator[str]:
    """An address at the same port that takes no connection and refuses none."""
    port = listening.getsockname()[1]
    with socket.create_server(("127.0.0.3", port), backlog=0):
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.3", port))
            fillers.append(filler)
        yield "127.0.0.3"
        for filler in fillers:
            filler.close()


def hop(port: int, sources: tuple[str, ...] = ()) -> Hop:
    return Hop("mx.example", port, RelayTls.NEVER, TlsTerms(verified=False), "box.example", sources=sources)


async def run(race: Race) -> str:
    connection, address = await race.run()
    connection.close()
    return address


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (["1.1.1.1", "2.2.2.2", "::1"], ["::1", "1.1.1.1", "2.2.2.2"]),
        (["::1", "::2", "1.1.1.1"], ["::1", "1.1.1.1", "::2"]),
        ([], []),
    ],
)
async def test_addresses_of_both_kinds_take_turns(given: list[str], order: list[str]) -> None:
    assert in_turn(given) == order


async def test_no_host_has_more_addresses_than_we_care_to_try() -> None:
    assert len(in_turn([f"10.0.0.{number}" for number in range(200)])) == MAX_ADDRESSES


async def test_an_address_that_refuses_costs_nothing(listening: socket.socket) -> None:
    race = Race(hop(listening.getsockname()[1]), ["127.0.0.4", "127.0.0.2"], replace(TIMES, stagger=30))
    with anyio.fail_after(1):
        assert await run(race) == "127.0.0.2"


async def test_an_address_that_says_nothing_costs_its_head_start(listening: socket.socket, deaf: str) -> None:
    started = time.monotonic()
    assert await run(Race(hop(listening.getsockname()[1]), [deaf, "127.0.0.2"], TIMES)) == "127.0.0.2"
    assert time.monotonic() - started < TIMES.connect


async def test_when_nobody_answers_every_address_is_named(listening: socket.socket, deaf: str) -> None:
    port = listening.getsockname()[1]
    with pytest.raises(Unreachable) as caught:
        await Race(hop(port), [deaf, "127.0.0.4"], TIMES).run()
    assert caught.value.outcome.reply.text == (
        f"127.0.0.4:{port}: Connection refused; {deaf}:{port}: no answer within 1 s"
    )


async def test_those_that_were_not_needed_are_still_untried(listening: socket.socket) -> None:
    race = Race(hop(listening.getsockname()[1]), ["127.0.0.2", "127.0.0.4"], TIMES)
    assert await run(race) == "127.0.0.2"
    assert race.untried == ["127.0.0.4"]


async def test_a_connection_comes_from_the_source_address_of_its_kind(listening: socket.socket) -> None:
    sources = ("::1", "127.0.0.7")
    connection, _ = await Race(hop(listening.getsockname()[1], sources), ["127.0.0.2"], TIMES).run()
    assert connection.getsockname()[0] == "127.0.0.7"
    connection.close()


async def test_without_a_source_address_of_its_kind_an_address_is_left_out(listening: socket.socket) -> None:
    with pytest.raises(Unreachable, match="none of the source addresses is IPv4"):
        await Race(hop(listening.getsockname()[1], ("::1",)), ["127.0.0.2"], TIMES).run()
