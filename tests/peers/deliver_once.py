"""Inside a machine: delivers a message to a local user, so many times in one batch, and prints what came of each.

python deliver_once.py CONFIGURATION ACTION USER COUNT < message
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from delivery.dispatch import Dispatcher
from policy.config import Config
from policy.parser import load_config
from policy.route import Unroutable, route_of
from spool.address import parse_address
from spool.ids import new_message_id
from spool.lane import ClaimOrder, Lane, LaneWish
from spool.layout import layout
from spool.message import Batch, Claimed, Destination, Message, NewEnvelope, Recipient, Submission
from spool.outcome import Attempt
from spool.writer import SpoolWriter


async def queue(spool: SpoolWriter, lane: Lane, body: bytes) -> None:
    address = parse_address(f"{lane.key}@box.example.net")
    name = new_message_id(int(time.time() * 1000))
    message = Message(name, parse_address("sender@example.com"), spool.clock.now(), time.time(), len(body))
    envelope = NewEnvelope(Recipient(address), Destination(address, lane.key), lane, 3600_000)
    await spool.accept(Submission(message, body, (envelope,)))


async def claim(spool: SpoolWriter, action: str) -> list[Claimed]:
    (lanes,) = await spool.due_lanes(spool.clock.now() + 1000, [LaneWish(action, False, 10)])
    return await spool.claim([ClaimOrder(lane.id, 1000) for lane in lanes])


async def deliver(config: Config, action: str, user: str, count: int) -> None:
    lane, body = Lane(action, user), sys.stdin.buffer.read()
    route = route_of(config, lane)
    assert not isinstance(route, Unroutable)
    spool = await SpoolWriter.open(layout())
    dispatcher = Dispatcher.make(lambda: config, layout(), spool)
    for number in range(count):
        await queue(spool, lane, body.replace(b"NUMBER", b"%d" % number))
    for result in await dispatcher.deliver(Batch(lane, tuple(await claim(spool, action))), route):
        assert isinstance(result, Attempt)
        outcome = result.outcome
        print(json.dumps({"kind": type(outcome).__name__, "reply": str(outcome.reply), "route": result.route}))
    await dispatcher.aclose()
    await spool.aclose()


if __name__ == "__main__":
    path, action, user, count = sys.argv[1:]
    asyncio.run(deliver(load_config(path, layout(), {}).config, action, user, int(count)))
