"""Inside a machine: relays one message by an action of a configuration, and prints what came of each recipient.

python relay_once.py CONFIGURATION ACTION SENDER RECIPIENT... < message
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace

from delivery.relay import Relayer
from policy.parser import load_config
from policy.route import Unroutable, lane_key, route_of
from spool.address import parse_address
from spool.bodies import SmallBody
from spool.lane import Lane
from spool.layout import layout
from spool.outcome import Attempt
from tests.tools.relaying import Letter, batch


async def relay(path: str, action: str, sender: str, *recipients: str) -> None:
    config = load_config(path, layout(), {}).config
    body = SmallBody(sys.stdin.buffer.read())
    letter = Letter(recipients, parse_address(sender), body)
    domain = parse_address(recipients[0]).domain
    lane = Lane(action, lane_key(config.actions[action], domain, ""))
    route = route_of(config, lane)
    assert not isinstance(route, Unroutable)
    relayer = Relayer.make(lambda: config, layout(), lambda: int(time.monotonic() * 1000))
    for result in await relayer.deliver(replace(batch(letter), lane=lane), route):
        assert isinstance(result, Attempt)
        outcome = result.outcome
        said = {"kind": type(outcome).__name__, "stage": outcome.stage.value, "reply": str(outcome.reply)}
        print(json.dumps(said | {"remote": outcome.remote, "route": result.route}))
    await relayer.aclose()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:]))
