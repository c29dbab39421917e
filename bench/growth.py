"""What grows and may not slow down, in turn: ``python -m bench.growth [--runs N] [--only PART ...]``.

Mailspool alone, as root, in a machine of its own. Every part compares its kinds with the first of them: so many queued, so
many destinations of which every other is dead, so many recipients, a route that has all it may have beside another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from bench.__main__ import place_for_one
from bench.houses import ADDRESS, PORT, Mailspool, Place, Task
from bench.loads import SINK_PORT, Load, inside, sink
from bench.rows import CLOSED_PORT
from tests.peers.machine import wait_for
from tests.tools.million import Multitude, build

#: A next hop that takes seconds for each message.
SLOW_PORT: Final = 2528
SLOW_SECONDS: Final = 5
#: What waits for it: its sessions are all busy as long as the run lasts.
SLOW: Final = 3000
LIVE: Final = Load(4000)
MIXED: Final = 8000
RECIPIENTS: Final = (100, 1000, 10_000)
QUEUED: Final = (1_000, 100_000, 1_000_000)
DESTINATIONS: Final = (2, 100, 10_000)
COMMON: Final = f"""
smtp limit max-mails 10000000 max-rcpt 20000
listen on "{ADDRESS}" port {PORT}
"""
#: By MX, and no name server answers: all of it is dead.
BESIDE_A_QUEUE: Final = f"""
action "out" relay
action "live" relay host "smtp://{ADDRESS}:{SINK_PORT}"
match from any for domain "live.example" action "live"
match from any for any action "out"
"""
MANY: Final = """
table hosts "/etc/smtpd/hosts"
action "go" relay domain <hosts>
match from any for any action "go"
"""
SLOW_BESIDE: Final = f"""
action "slow" relay host "smtp://{ADDRESS}:{SLOW_PORT}"
action "live" relay host "smtp://{ADDRESS}:{SINK_PORT}"
match from any for domain "live.example" action "live"
match from any for any action "slow"
"""

Kinds = dict[str, Callable[[], float]]


class Growing(Mailspool):
    """With a spool that outlives a run, and a configuration of its own."""

    def __init__(self, place: Place, name: str, configuration: str) -> None:
        super().__init__(place)
        self.root = place.folder / name
        self._lines = COMMON + configuration
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")

    def _configuration(self, task: Task) -> str:
        return self._lines

    @contextmanager
    def running(self) -> Iterator[None]:
        """From its greeting to its end."""
        self.start(Task("relay"))
        try:
            yield
        finally:
            self.stop()


def queued(place: Place) -> Kinds:
    """Messages/s from accept to a sink, with more and more that waits for a dead destination."""

    def kind(number: int) -> Callable[[], float]:
        house = Growing(place, f"queued{number}", BESIDE_A_QUEUE)
        with house.running():
            pass
        build(house.root, Multitude(number))
        return partial(_through, place, house)

    return {f"{number:,} queued": kind(number) for number in QUEUED}


def _through(place: Place, house: Growing) -> float:
    with sink(place) as arrived, house.running():
        return _live(place, arrived.wait)


def _live(place: Place, wait: Callable[[int], None]) -> float:
    started = time.monotonic()
    LIVE.run(place.machine, "live.example")
    wait(LIVE.messages)
    return LIVE.messages / (time.monotonic() - started)


def destinations(place: Place) -> Kinds:
    """Messages/s that arrive at live destinations, while every other message goes to a dead one."""

    def run(number: int, house: Growing) -> float:
        hops = (SINK_PORT, CLOSED_PORT)
        lines = (f"d{each}.example smtp://{ADDRESS}:{hops[each % 2]}\n" for each in range(number))
        (house.root / "etc/smtpd").mkdir(exist_ok=True)
        (house.root / "etc/smtpd/hosts").write_text("".join(lines))
        with sink(place) as arrived, house.running():
            started = time.monotonic()
            inside(place.machine, "bench.many", *map(str, (PORT, MIXED, 20, number, 1)))
            arrived.wait(MIXED // 2)
            took = time.monotonic() - started
            house.smtpctl("remove", "all")
        return MIXED / 2 / took

    houses = {number: Growing(place, f"destinations{number}", MANY) for number in DESTINATIONS}
    return {f"{number:,} destinations": partial(run, number, house) for number, house in houses.items()}


def recipients(place: Place) -> Kinds:
    """Recipients/s of one message, from its connection until nothing of it is queued."""
    house = Growing(place, "recipients", MANY)
    (house.root / "etc/smtpd").mkdir(exist_ok=True)
    (house.root / "etc/smtpd/hosts").write_text(f"d0.example smtp://{ADDRESS}:{SINK_PORT}\n")

    def run(number: int) -> float:
        with sink(place), house.running():
            started = time.monotonic()
            inside(place.machine, "bench.many", *map(str, (PORT, 1, 1, 1, number)))
            wait_for(lambda: house.deferred() == 0, "an empty queue", 60)
            return number / (time.monotonic() - started)

    return {f"{number:,} recipients": partial(run, number) for number in RECIPIENTS}


def starved(place: Place) -> Kinds:
    """Messages/s from accept to a sink, alone and beside a route whose sessions are all busy."""

    def run(name: str, slow: int) -> float:
        house = Growing(place, f"{name}{time.monotonic_ns()}", SLOW_BESIDE)
        with ExitStack() as stack:
            arrived = stack.enter_context(sink(place))
            stack.enter_context(sink(place, SLOW_PORT, ("-w", str(SLOW_SECONDS))))
            stack.enter_context(house.running())
            if slow:
                Load(slow).run(place.machine, "slow.example")
            return _live(place, arrived.wait)

    return {
        "alone": partial(run, "alone", 0),
        f"beside {SLOW:,} messages for a slow hop": partial(run, "beside", SLOW),
    }


PARTS: Final = {
    "queued": queued,
    "destinations": destinations,
    "recipients": recipients,
    "starved": starved,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="What grows and may not slow down.")
    parser.add_argument("--runs", type=int, default=5, help="of each, in turn")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--json", type=Path, default=Path("build/growth.json"), help="where the figures are kept")
    options = parser.parse_args(arguments)
    found: dict[str, dict[str, list[float]]] = {}
    with place_for_one() as (_, place):
        for name in options.only:
            found[name] = _measured(PARTS[name](place), options.runs)
            title = (PARTS[name].__doc__ or "").strip()
            print(f"{title} Medians of {options.runs}, in turn:", *_lines(found[name]), sep="\n", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1))


def _measured(kinds: Kinds, runs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(runs):
        for name, run in kinds.items():
            found[name].append(run())
    return found


def _lines(found: dict[str, list[float]]) -> Iterator[str]:
    first = statistics.median(next(iter(found.values())))
    for name, values in found.items():
        middle = statistics.median(values)
        extremes = f"{min(values):,.0f} to {max(values):,.0f}"
        yield f"    {name:44} {middle:8,.0f} ({extremes}), {middle / first:.2f} times the first"


if __name__ == "__main__":
    main()
