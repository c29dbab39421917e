"""The log of a process that can connect nowhere, when the log daemon is started anew."""

from __future__ import annotations

import logging
import os
import socket
import threading
from pathlib import Path

import pytest

from control.journal import Journal, SyslogHandler, syslog_socket
from control.walls.landlock import landlock_version
from control.walls.presets import ingress_wall
from control.walls.raising import raise_walls
from control.walls.seccomp import has_seccomp
from tests.tools.walled import in_child

pytestmark = pytest.mark.skipif(landlock_version() < 6 or not has_seccomp(), reason="the kernel lacks some walls")


def log_daemon(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    listening.settimeout(10)
    return listening


def speak_behind_the_wall(path: Path, listening: socket.socket, far: socket.socket) -> tuple[bool, bool]:
    """Say one thing, lose one thing, and one thing by a socket that somebody else connected; when it was cut off."""
    journal = Journal(SyslogHandler(str(path)))
    log = logging.getLogger("ingress")
    listening.close()
    raise_walls(ingress_wall(), None)
    log.info("before")
    far.sendall(b"x")
    _, (descriptor,), _, _ = socket.recv_fds(far, 1, 1)
    log.info("lost")
    was_cut_off = journal.is_cut_off
    journal.reconnect(socket.socket(fileno=descriptor))
    log.info("after")
    return was_cut_off, journal.is_cut_off


def test_a_log_daemon_that_is_started_anew_is_reached_by_a_socket_that_somebody_else_connects(tmp_path: Path) -> None:
    path = tmp_path / "log"
    near, far = socket.socketpair()
    listening = log_daemon(path)
    heard = []

    def restart() -> None:
        nonlocal listening
        near.recv(1)
        heard.append(listening.recv(1000))
        listening.close()
        listening = log_daemon(path)
        with syslog_socket(str(path)) as connected:
            socket.send_fds(near, [b"x"], [connected.fileno()])

    restarting = threading.Thread(target=restart)
    restarting.start()
    with near, far:
        assert in_child(lambda: speak_behind_the_wall(path, listening, far)) == (True, False)
        restarting.join()
    with listening:
        heard += [listening.recv(1000), listening.recv(1000)]
    assert [line.rpartition(b": ")[2] for line in heard] == [b"before", b"syslog did not take them", b"after"]
    assert b"1 log lines are missing" in heard[1]
    assert os.path.exists(path)
