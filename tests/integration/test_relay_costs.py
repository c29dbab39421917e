"""What a relayed message costs in calls, which is the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from anyio import to_thread

from delivery.client import Channel
from policy.config import Relay
from tests.tools.recording_sink import OFFERS, RecordingSink
from tests.tools.relaying import Letter, house, to_host

pytestmark = pytest.mark.anyio
MESSAGES = 20


class Counted:
    """Counts the calls of what it stands before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.calls = 0
        monkeypatch.setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return real(*arguments, **options)

        return call


async def relay(letter: Letter, offers: tuple[str, ...] = OFFERS) -> None:
    """So many times, one after the other, over one connection."""
    async with RecordingSink(offers=offers) as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        for _ in range(MESSAGES):
            await sender.outcomes(letter)
        assert len(sink.messages) == MESSAGES
        assert len(sink.peers) == 1


@pytest.mark.parametrize("recipients", [1, 100])
async def test_a_relayed_message_is_sent_in_two_writes(monkeypatch: pytest.MonkeyPatch, recipients: int) -> None:
    writes = Counted(monkeypatch, Channel, "send")
    await relay(Letter(to=tuple(f"user{number}@example.org" for number in range(recipients))))
    assert writes.calls == 2 * MESSAGES


async def test_without_pipelining_each_command_is_a_write_and_the_content_one(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Counted(monkeypatch, Channel, "send")
    await relay(Letter(), OFFERS[1:])
    assert writes.calls == 4 * MESSAGES


async def test_only_a_new_connection_visits_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    visits = Counted(monkeypatch, to_thread, "run_sync")
    await relay(Letter())
    assert visits.calls == 1
