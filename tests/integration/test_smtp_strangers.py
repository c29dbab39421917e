"""What clients that do nothing cost a whole daemon; `bench.strangers` measures the same with thousands."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from tests.tools.daemon import Daemon, wait_for

#: Sessions, and KiB that one of them may cost.
MANY = 200
MOST = 20
#: KiB that a second crowd may add to what the first one left: noise.
MORE = 1024
CONFIGURATION = 'listen on "127.0.0.1" port $port\naction "in" maildir "/Maildir"\nmatch for local action "in"\n'


def own_kib(pid: int) -> int:
    """Memory that this process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def greeted(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 5)
    client.recv(1000)
    client.sendall(b"EHLO idle.example\r\n")
    assert client.recv(1000).startswith(b"250-")
    return client


def come_and_go(port: int, count: int) -> None:
    with ExitStack() as clients:
        for _ in range(count):
            clients.enter_context(greeted(port))


def test_an_idle_session_costs_less_than_20_kib_and_its_memory_serves_the_next(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION) as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        # What the first sessions load stays, as it should.
        come_and_go(daemon.port, 20)
        wait_for(lambda: daemon.log.count("smtp disconnected") == 20, "the first to be gone")
        before, open_before = own_kib(pid), descriptors(pid)
        with ExitStack() as clients:
            for _ in range(MANY):
                clients.enter_context(greeted(daemon.port))
            assert descriptors(pid) == open_before + MANY
            assert (own_kib(pid) - before) / MANY < MOST
        wait_for(lambda: descriptors(pid) == open_before, "the descriptors")
        after = own_kib(pid)
        come_and_go(daemon.port, MANY)
        wait_for(lambda: descriptors(pid) == open_before, "the descriptors again")
        assert own_kib(pid) < after + MORE
