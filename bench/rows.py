"""What is measured: a row is one way through a mail server, done once with a fresh one."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bench.costs import Costs, Watch, costs_in
from bench.houses import ADDRESS, DOMAIN, PORT, House, Mailspool, OpenSmtpd, Place, Postfix, Task
from bench.loads import SINK_PORT, Load, inside, sink, wait_arrived
from tests.peers.machine import VENV, wait_for
from tests.tools.million import Multitude, build

#: A next hop that nobody is.
CLOSED_PORT: Final = 2527
SMALL_LETTER: Final = "Subject: bench\n\nhello\n"


@dataclass(frozen=True, slots=True)
class Figure:
    """What one run came to."""

    #: In the unit of its row.
    value: float
    #: Others, by what they are.
    more: dict[str, float] = field(default_factory=dict)
    #: Milliseconds of CPU a message, by process.
    cpu: dict[str, float] = field(default_factory=dict)
    #: Of all processes at the end of the load, in MiB, and how many they were.
    pss: float = 0.0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``scale`` multiplies the number of messages of a run."""

    key: str
    title: str
    unit: str
    measure: Callable[[Place, House, float], Figure]
    #: What is aimed at, beside Postfix in the same run; for people.
    aim: str
    #: Who is left out, and why that is said in ``aim``.
    without: tuple[type[House], ...] = ()
    #: Runs that are enough, because each measures several times.
    most: int = 1000


def _figure(place: Place, messages: int, elapsed: float, before: Costs) -> Figure:
    after = costs_in(place.machine)
    spent = {name: (after.cpu[name] - before.cpu.get(name, 0.0)) * 1000 / messages for name in after.cpu}
    cpu = {name: each for name, each in sorted(spent.items()) if each >= 0.0005}
    return Figure(messages / elapsed, {}, cpu, after.pss, after.processes)


def accept(load: Load, place: Place, house: House, scale: float) -> Figure:
    """Accepted and held."""
    load = _scaled(load, scale)
    house.start(Task("hold"))
    before, started = costs_in(place.machine), time.monotonic()
    load.run(place.machine)
    return _figure(place, load.messages, time.monotonic() - started, before)


def deliver(kind: str, load: Load, place: Place, house: House, scale: float) -> Figure:
    """From the first connection until all are in their mailboxes."""
    load = _scaled(load, scale)
    house.start(Task(kind))
    before, started = costs_in(place.machine), time.monotonic()
    load.run(place.machine)
    wait_arrived(place, kind, load)
    return _figure(place, load.messages, time.monotonic() - started, before)


def relay(load: Load, place: Place, house: House, scale: float) -> Figure:
    """From the first connection until all are at the sink."""
    load = _scaled(load, scale)
    with sink(place) as arrived:
        house.start(Task("relay", SINK_PORT))
        before, started = costs_in(place.machine), time.monotonic()
        load.run(place.machine, "far.example")
        arrived.wait(load.messages)
        return _figure(place, load.messages, time.monotonic() - started, before)


def drain(load: Load, place: Place, house: House, scale: float) -> Figure:
    """All were tried in vain; the next hop is back, and the operator says so."""
    load = _scaled(load, scale)
    house.start(Task("relay", SINK_PORT))
    load.run(place.machine, "far.example")
    wait_for(lambda: house.deferred() >= load.messages, f"{load.messages} to be deferred", 240)
    with sink(place) as arrived:
        before, started = costs_in(place.machine), time.monotonic()
        house.retry()
        arrived.wait(load.messages)
        return _figure(place, load.messages, time.monotonic() - started, before)


def alone(place: Place, house: House, scale: float) -> Figure:
    """One message at a time, from its connection to its end at the sink: the median, and what 99 of 100 are below."""
    house.start(Task("relay", SINK_PORT))
    # The first ones start what is started once.
    first = max(2, int(20 * scale))
    arguments = (ADDRESS, str(PORT), str(SINK_PORT), str(first + int(300 * scale)))
    times = inside(place.machine, "bench.alone", *arguments)[first:]
    return Figure(statistics.median(times), {"p99": sorted(times)[int(len(times) * 0.99)]})


def submit(place: Place, house: House, scale: float) -> Figure:
    """``sendmail`` for one small message, whole process, beside an empty interpreter."""
    house.start(Task("hold"))
    count = str(int(40 * scale))
    recipient = f"bench0@{DOMAIN}"
    if isinstance(house, Postfix):
        command = ["/usr/sbin/sendmail", "-C", "/etc/postfix-bench", recipient]
        return Figure(statistics.median(inside(place.machine, "bench.spawn", count, SMALL_LETTER, *command)))
    environment = (f"SMTPD_ROOT={place.spool}",)
    command = [str(VENV / "sendmail"), recipient]
    took = inside(place.machine, "bench.spawn", count, SMALL_LETTER, *command, environment=environment)
    bare = inside(place.machine, "bench.spawn", count, "", sys.executable, "-I", "-S", "-c", "")
    return Figure(statistics.median(took), {"empty python -I -S": statistics.median(bare)})


def listing(place: Place, house: House, scale: float) -> Figure:
    """A queue of 100,000 as text: until the last line, and until the first. Who has only a part of it gets it times that."""
    wanted = int(100_000 * scale)
    if isinstance(house, Mailspool):
        house.start(Task("relay", CLOSED_PORT))
        house.stop()
        build(house.root, Multitude(wanted, destinations=1, action="go"))
        house.start(Task("relay", CLOSED_PORT))
    else:
        house.start(Task("hold"))
        Load(wanted, size=200).run(place.machine)
    firsts, lasts = zip(*(_list(place, house) for _ in range(3)), strict=True)
    return Figure(statistics.median(lasts) / house.parts.get("list", 1.0), {"first line": statistics.median(firsts)})


def _list(place: Place, house: House) -> tuple[float, float]:
    started = time.monotonic()
    with subprocess.Popen(place.machine.enter(house.list_command), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = (time.monotonic() - started) * 1000
        while process.stdout.read(1 << 20):
            pass
    return first, (time.monotonic() - started) * 1000


def beginning(envelopes: int, place: Place, house: House, scale: float) -> Figure:
    """From the start of the process until it greets, with a queue."""
    assert isinstance(house, Mailspool)
    task = Task("relay", CLOSED_PORT)
    house.start(task)
    house.stop()
    wanted = int(envelopes * min(1.0, scale))
    build(house.root, Multitude(wanted, destinations=1, action="go"))
    times = []
    for _ in range(3):
        with ThreadPoolExecutor() as threads:
            greeting = threads.submit(inside, place.machine, "bench.greeting", ADDRESS, str(PORT))
            # It looks already when the server starts.
            time.sleep(0.3)
            started = time.monotonic()
            house.start(task)
            times.append((greeting.result()[0] - started) * 1000)
        house.stop()
    house.start(task)
    return Figure(statistics.median(times))


def idle(place: Place, house: House, scale: float) -> Figure:
    """Memory of all processes that nothing has been asked of."""
    house.start(Task("hold"))
    time.sleep(1)
    costs = costs_in(place.machine)
    return Figure(costs.pss, {"processes": costs.processes}, pss=costs.pss, processes=costs.processes)


def peak(load: Load, place: Place, house: House, scale: float) -> Figure:
    """Memory of all processes at its highest, while mail goes through to a sink."""
    load = _scaled(load, scale)
    with sink(place) as arrived:
        house.start(Task("relay", SINK_PORT))
        with Watch(place.machine) as watch:
            load.run(place.machine, "far.example")
            arrived.wait(load.messages)
    return Figure(watch.highest, {"processes": watch.processes})


def connection(load: Load, place: Place, house: House, scale: float) -> Figure:
    """What a session with a large message adds at the highest, beyond what small ones have added before."""
    load = _scaled(load, scale)
    house.start(Task("hold"))
    Load(20 * load.sessions, sessions=load.sessions).run(place.machine)
    before = costs_in(place.machine).pss
    with Watch(place.machine) as watch:
        load.run(place.machine)
    return Figure(max(0.0, watch.highest - before) * 1024 / load.sessions, {"MiB before": before})


def _scaled(load: Load, scale: float) -> Load:
    messages = max(load.sessions, int(load.messages * scale) // load.users * load.users)
    return Load(messages, load.size, load.sessions, load.keeps, load.users)


_HUNDRED: Final = Load(6000, sessions=100)
_LARGE: Final = Load(40, size=10_000_000)
#: To fifty users, each by a session of its own.
_FIFTY: Final = Load(4000, users=50, sessions=50)

_PEERS: Final = (OpenSmtpd, Postfix)

ROWS: Final = (
    Row("accept", "accept, 20 kept-alive sessions", "messages/s", partial(accept, Load(6000)), "4 x Postfix"),
    Row("accept100", "accept, 100 kept-alive sessions", "messages/s", partial(accept, _HUNDRED), "4 x Postfix"),
    Row("single", "accept, one message a session", "messages/s", partial(accept, Load(4000, keeps=False)), "3 x Postfix"),
    Row("accept100k", "accept, 100 KB", "messages/s", partial(accept, Load(600, size=100_000)), "2 x Postfix"),
    Row("accept10m", "accept, 10 MB", "messages/s", partial(accept, Load(40, size=10_000_000, sessions=4)), "as fast"),
    Row("relay", "accept to a sink", "messages/s", partial(relay, Load(4000)), "3 x Postfix"),
    Row("maildir", "accept to Maildir, one user", "messages/s", partial(deliver, "maildir", Load(4000)), "3 x Postfix"),
    Row("maildir50", "accept to Maildir, fifty users", "messages/s", partial(deliver, "maildir", _FIFTY), "3 x Postfix"),
    Row("mbox", "accept to mbox, one user", "messages/s", partial(deliver, "mbox", Load(4000)), "3 x Postfix"),
    Row("mbox50", "accept to mbox, fifty users", "messages/s", partial(deliver, "mbox", _FIFTY), "3 x Postfix"),
    Row("alone", "one message alone, to a sink", "ms", alone, "p50 under 5, p99 under 20, below Postfix"),
    Row("sendmail", "sendmail, whole process", "ms", submit, "under 45, 25 over an empty python", (OpenSmtpd,)),
    Row("drain", "20,000 deferred, sink is back", "messages/s", partial(drain, Load(20_000)), "3 x Postfix", (OpenSmtpd,)),
    Row("list", "list 100,000 as text", "ms", listing, "first line under 100, 10 x faster", (OpenSmtpd,), 2),
    Row("start100k", "start with 100,000 until 220", "ms", partial(beginning, 100_000), "under 1,000", _PEERS, 2),
    Row("start1m", "start with 1,000,000 until 220", "ms", partial(beginning, 1_000_000), "the same", _PEERS, 2),
    Row("idle", "memory, idle", "MiB", idle, "under 70"),
    Row("peak", "memory, accept to a sink, highest", "MiB", partial(peak, Load(4000)), "under 160"),
    Row("connection", "memory a session of 10 MB, 20 of them", "KiB", partial(connection, _LARGE), "under 256"),
)  # fmt: skip
