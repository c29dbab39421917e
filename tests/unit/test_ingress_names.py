"""The names of clients: what the resolver's answers mean, and how often it is asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from ingress import names
from ingress.names import OURSELVES, UNCERTAIN, UNNAMED, Names, PeerName, ask_system

pytestmark = pytest.mark.anyio

ADDRESS = "192.0.2.7"
AGAIN = socket.gaierror(socket.EAI_AGAIN, "try again")
NONE = socket.gaierror(socket.EAI_NONAME, "no such name")


def resolve(name: str | Exception, *addresses: str | Exception, asked: str = ADDRESS) -> PeerName:
    def reverse(*_: Any) -> tuple[str, str]:
        if isinstance(name, Exception):
            raise name
        return name, "0"

    def forward(*_: Any, **__: Any) -> list[Any]:
        for address in addresses:
            if isinstance(address, Exception):
                raise address
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    return ask_system(asked, reverse, forward)


def test_a_name_that_leads_back_to_the_address_is_confirmed() -> None:
    assert resolve("a.example.", "192.0.2.8", ADDRESS) == PeerName("a.example", is_confirmed=True)
    assert resolve("a.example", "2001:db8::7", asked="2001:db8::7").confirmed == "a.example"


@pytest.mark.parametrize("addresses", [("192.0.2.8",), (NONE,)])
def test_a_name_that_leads_elsewhere_is_known_and_not_confirmed(addresses: tuple[str | Exception, ...]) -> None:
    found = resolve("a.example", *addresses)
    assert (found.name, found.confirmed, found.is_certain) == ("a.example", "", True)


def test_an_address_without_a_name_is_unnamed() -> None:
    assert resolve(NONE) == UNNAMED


@pytest.mark.parametrize("name", ["192.0.2.7", "[192.0.2.7]", "1", "0x7f.1", "a b.example", "n\xe4me.example", ""])
def test_a_name_that_is_no_host_name_counts_as_none(name: str) -> None:
    assert resolve(name, ADDRESS) == UNNAMED


def test_a_dns_that_does_not_answer_leaves_everything_uncertain() -> None:
    assert resolve(AGAIN) == UNCERTAIN
    assert resolve("a.example", AGAIN) == PeerName("a.example", is_certain=False)
    assert resolve(OSError("no descriptors left")) == UNCERTAIN


def test_this_machine_is_never_asked_about() -> None:
    asked = Names(lambda _: pytest.fail("asked"))
    assert [asked.known(address) for address in ("127.0.0.1", "127.9.9.9", "::1", "local")] == [OURSELVES] * 4


async def test_an_address_is_asked_about_once_for_a_while() -> None:
    asked: list[str] = []
    now = 0.0

    def lookup(address: str) -> PeerName:
        asked.append(address)
        return PeerName("a.example", is_confirmed=True)

    kept = Names(lookup, lambda: now)
    assert kept.known(ADDRESS) is None
    both = await asyncio.gather(kept.ask(ADDRESS), kept.ask(ADDRESS))
    assert both[0] is both[1] is kept.known(ADDRESS)
    now = names.KEPT + 1
    assert kept.known(ADDRESS) is None
    assert asked == [ADDRESS]


async def test_trouble_is_remembered_for_a_shorter_time() -> None:
    now = 0.0
    kept = Names(lambda _: UNCERTAIN, lambda: now)
    await kept.ask(ADDRESS)
    assert kept.known(ADDRESS) == UNCERTAIN
    now = names.TROUBLE_KEPT + 1
    assert kept.known(ADDRESS) is None


async def test_when_too_many_wait_another_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MAX_WAITING", 1 - names.LOOKUPS)
    gate = threading.Event()

    def lookup(_: str) -> PeerName:
        gate.wait(5)
        return UNNAMED

    kept = Names(lookup)
    first = kept.ask(ADDRESS)
    assert kept.known("192.0.2.8") == UNCERTAIN
    assert kept.known(ADDRESS) is None
    gate.set()
    assert await first == UNNAMED
    assert kept.known("192.0.2.8") is None
