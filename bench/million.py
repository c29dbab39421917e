"""Print what it costs to have a million envelopes queued, for one dead destination and for a hundred thousand.

Runs with and without them take turns, each begins after a crash, and every figure is the median of `RUNS` runs. Messages
for a live destination are sent one after the other; "arrives" is the time from its MAIL to its end at the next hop.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import IO

from bench.system import BIN, PATIENCE, System
from tests.tools.million import Multitude, build

RUNS = 3
MESSAGES = 300
ENVELOPES = 1_000_000
#: By how many destinations they are shared; 0: there are none.
KINDS = {"an empty queue": 0, "a million for one dead destination": 1, "a million for 100,000 of them": 100_000}
CONFIGURATION = """
action "out" relay
action "live" relay host "smtp+notls://127.0.0.1:{port}"
match from any for domain "live.example" action "live"
match from any for any action "out"
"""
ASKED = (["show", "queue"], ["show", "queue", "--count", "--by", "domain"], ["show", "lanes"], ["show", "stats"])


class Sink(threading.Thread):
    """A next hop that takes one message after the other and says when."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.taken = threading.Event()
        self.start()

    def run(self) -> None:
        """Serve each connection in a thread of its own."""
        while True:
            connection, _ = self._listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb", buffering=0) as stream:
            stream.write(b"220 sink\r\n")
            in_data = False
            for line in stream:
                if in_data and line != b".\r\n":
                    continue
                if in_data:
                    self.taken.set()
                in_data = line.upper().startswith(b"DATA")
                stream.write(b"354 go on\r\n" if in_data else b"250 fine\r\n")


class Client:
    """A session that sends small messages."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._stream: IO[bytes] = self._socket.makefile("rb")
        self._read()
        self._say(b"EHLO bench.example")

    def send(self) -> None:
        """One message for the live destination; returns with its 250."""
        self._say(b"MAIL FROM:<bench@bench.example>")
        self._say(b"RCPT TO:<bob@live.example>")
        self._say(b"DATA")
        self._say(b"Subject: bench\r\n\r\nhello\r\n.")

    def _say(self, line: bytes) -> None:
        self._socket.sendall(line + b"\r\n")
        reply = self._read()
        if reply[:1] not in (b"2", b"3"):
            raise RuntimeError(f"{line!r} was answered {reply!r}")

    def _read(self) -> bytes:
        while (line := self._stream.readline())[3:4] == b"-":
            pass
        return line


@dataclass(slots=True)
class Run:
    """One run, in milliseconds and MiB."""

    start: float = 0.0
    accepts: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    #: Until the first line and until the last, for each of `ASKED`.
    answers: list[tuple[float, float]] = field(default_factory=list)
    memory: float = 0.0


def since(started: float) -> float:
    """Milliseconds."""
    return (time.monotonic() - started) * 1000


def p99(times: list[float]) -> float:
    """All but the slowest hundredth took no longer."""
    return sorted(times)[int(len(times) * 0.99)]


def send(client: Client, sink: Sink, run: Run, messages: int = MESSAGES) -> None:
    """Send one message after the other, each when the one before has arrived."""
    for _ in range(messages):
        sink.taken.clear()
        started = time.monotonic()
        client.send()
        run.accepts.append(since(started))
        if not sink.taken.wait(PATIENCE):
            raise RuntimeError("a message does not arrive")
        run.arrivals.append(since(started))


def ask(system: System, words: list[str]) -> tuple[float, float]:
    """Until the first line of the answer and until the last."""
    started = time.monotonic()
    command = [str(BIN / "smtpctl"), "--root", str(system.root), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = since(started)
        for _ in process.stdout:
            pass
    return first, since(started)


def measure(system: System, sink: Sink) -> Run:
    """Start, send, ask, crash."""
    run = Run()
    started = time.monotonic()
    system.start()
    client = Client(system.port)
    client.send()
    run.start = since(started)
    sink.taken.wait(PATIENCE)
    send(client, sink, run)
    run.answers = [ask(system, words) for words in ASKED]
    run.memory = system.resident_mib(peak=True)
    system.kill()
    return run


def remove(system: System, sink: Sink) -> str:
    """Remove the million while mail flows."""
    system.start()
    client, run = Client(system.port), Run()
    started = time.monotonic()
    command = [str(BIN / "smtpctl"), "--root", str(system.root), "remove", "--action", "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            send(client, sink, run, 10)
        assert process.stdout is not None
        said = process.stdout.read().strip()
    took = since(started) / 1000
    system.kill()
    return f"{said} in {took:.0f} s; meanwhile accept p99 {p99(run.accepts):.1f} ms, arrives p99 {p99(run.arrivals):.1f} ms"


def report(name: str, runs: list[Run], empty: list[Run]) -> None:
    """Medians of one kind, beside those of an empty queue."""

    def median(times: list[float]) -> float:
        return statistics.median(times)

    slowest = median([p99(run.arrivals) for run in runs])
    ratio = slowest / median([p99(run.arrivals) for run in empty])
    memory = median([run.memory for run in runs])
    grown = memory - median([run.memory for run in empty])
    print(f"{name}:")
    print(f"  start after a crash until a message is accepted {median([run.start for run in runs]):6.0f} ms")
    print(
        f"  accept p50 {median([median(run.accepts) for run in runs]):.1f} ms, "
        f"p99 {median([p99(run.accepts) for run in runs]):.1f} ms"
    )
    print(
        f"  arrives p50 {median([median(run.arrivals) for run in runs]):.1f} ms, p99 {slowest:.1f} ms ({ratio:.2f} times)"
    )
    print(f"  peak memory {memory:.0f} MiB, {grown:+.0f} MiB")
    for number, words in enumerate(ASKED):
        first = median([run.answers[number][0] for run in runs])
        last = median([run.answers[number][1] for run in runs])
        print(f"  smtpctl {' '.join(words):36} first line {first:6.0f} ms, last {last:6.0f} ms", flush=True)


def main() -> None:
    """Run everything and print it."""
    sink = Sink()
    systems = {name: System(CONFIGURATION.format(port=sink.port)) for name in KINDS}
    runs: dict[str, list[Run]] = {name: [] for name in KINDS}
    try:
        for name, system in systems.items():
            # Nobody answers there, so that every destination but one is dead.
            (system.root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
            if KINDS[name]:
                build(system.root, Multitude(ENVELOPES, KINDS[name]))
        for _ in range(RUNS):
            for name, system in systems.items():
                runs[name].append(measure(system, sink))
        empty = next(iter(KINDS))
        for name in KINDS:
            report(name, runs[name], runs[empty])
        print(remove(systems["a million for one dead destination"], sink))
    finally:
        for system in systems.values():
            system.remove()


if __name__ == "__main__":
    main()
