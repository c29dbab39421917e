"""Print what clients that do nothing cost good ones, and the daemon: ``python -m bench.strangers``.

Two thousand connections are silent after EHLO, two hundred send one octet a second, half of them in commands and half in
messages. Beside them twenty good clients send messages of 1 KB, a session each. Runs with and without the strangers
alternate; the medians of the p99 are compared. Deliveries are paused, so that only the SMTP server is measured; the load
generator shares the machine with it, so that only figures of one run compare."""

from __future__ import annotations

import asyncio
import getpass
import resource
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.crowd import expect
from bench.system import System
from tests.tools.certificates import CertificateAuthority

RUNS: Final = 3
IDLE: Final = 2000
SLOW: Final = 200
GOOD: Final = 20
#: Messages of one run: enough for a p99 of some worth.
MESSAGES: Final = 1500
SIZE: Final = 1024
#: Connections that a TLS figure is taken of.
SECURED: Final = 500
#: Seconds in which a daemon gives back what it held.
_SETTLE: Final = 3.0
USER: Final = getpass.getuser()
_CONFIGURATION: Final = 'action "in" maildir "/Maildir"\nmatch from any for local action "in"\n'
_TEXT: Final = b"Subject: a good message\r\n\r\n" + b"all work and no play makes\r\n" * (SIZE // 28)
_MESSAGE: Final = _TEXT + b".\r\n"


class Crowd:
    """Strangers, in a process of their own, so that they cost nobody time but the daemon. ``trust``: they come by TLS."""

    def __init__(self, port: int, idle: int, slow: int = 0, trust: str = "") -> None:
        self._words = (str(port), str(idle), str(slow), trust)
        self._process: asyncio.subprocess.Process | None = None

    async def come(self) -> None:
        """All of them, until the last is there."""
        command = (sys.executable, "-m", "bench.crowd", *self._words)
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"here\n"

    async def leave(self) -> None:
        """All at once."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await asyncio.sleep(_SETTLE)


async def _good_session(port: int) -> float:
    """Send one message; seconds from the connection to the last reply."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await expect(reader, b"220")
    said = (b"EHLO good.example", b"MAIL FROM:<good@g.example>", b"RCPT TO:<%s@localhost>" % USER.encode())
    for line in said:
        writer.write(line + b"\r\n")
        await expect(reader, b"250")
    writer.write(b"DATA\r\n")
    await expect(reader, b"354")
    writer.write(_MESSAGE)
    await expect(reader, b"250")
    writer.write(b"QUIT\r\n")
    await expect(reader, b"221")
    took = time.perf_counter() - began
    writer.close()
    return took


async def p99(port: int) -> float:
    """What `GOOD` clients at a time wait for a session with one message, in ms: one in a hundred waits longer."""
    times: list[float] = []

    async def client() -> None:
        while len(times) < MESSAGES:
            times.append(await _good_session(port))

    await asyncio.gather(*(client() for _ in range(GOOD)))
    return statistics.quantiles(times, n=100)[98] * 1000


@dataclass(frozen=True, slots=True)
class Cost:
    """What connections cost the daemon: KiB and descriptors each, and what is left when they have gone."""

    kib: float
    descriptors: float
    kib_left: float
    descriptors_left: int


async def _cost(system: System, crowd: Crowd, count: int) -> Cost:
    """Let ``count`` idle connections come and go."""
    before, open_before = system.tree_kib(), system.tree_descriptors()
    await crowd.come()
    await asyncio.sleep(1)
    during, open_during = system.tree_kib(), system.tree_descriptors()
    await crowd.leave()
    left = system.tree_kib() - before
    return Cost(
        (during - before) / count, (open_during - open_before) / count, left, system.tree_descriptors() - open_before
    )


def _tell(name: str, found: Cost) -> None:
    print(
        f"{name}: {found.kib:.1f} KiB and {found.descriptors:.2f} descriptors each; "
        f"when all have gone, {found.kib_left:.0f} KiB and {found.descriptors_left} descriptors are left"
    )


async def _loads(system: System) -> None:
    alone, beside = [], []
    await p99(system.port)
    for _ in range(RUNS):
        alone.append(await p99(system.port))
        crowd = Crowd(system.port, IDLE, SLOW)
        await crowd.come()
        beside.append(await p99(system.port))
        await crowd.leave()
    quiet, loaded = statistics.median(alone), statistics.median(beside)
    print(f"p99 of a session with one message: {quiet:.1f} ms alone ({_row(alone)}), ", end="")
    print(f"{loaded:.1f} ms beside {IDLE} idle and {SLOW} slow clients ({_row(beside)}): {loaded / quiet:.2f} times")


async def _costs(system: System, name: str, count: int, trust: str) -> None:
    for turn in ("first", "again"):
        _tell(
            f"{count} idle {name} sessions, {turn}", await _cost(system, Crowd(system.port, count, trust=trust), count)
        )


def _row(figures: list[float]) -> str:
    return ", ".join(f"{figure:.1f}" for figure in figures)


def main() -> None:
    """The command."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with System(_CONFIGURATION, paused="mda") as system:
        asyncio.run(_costs(system, "plain", IDLE, ""))
        asyncio.run(_loads(system))
    with tempfile.TemporaryDirectory() as folder:
        authority = CertificateAuthority(Path(folder))
        with System(_CONFIGURATION, paused="mda", secured=authority.issue("bench.example")) as system:
            asyncio.run(_costs(system, "TLS", SECURED, authority.path))


if __name__ == "__main__":
    main()
