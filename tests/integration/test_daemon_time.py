"""A whole daemon whose clocks jump, begin in 1970, and sleep: mail flows, waits, and is told of as ever."""

from __future__ import annotations

import email
import json
import re
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from scheduler.runner import TICK
from tests.tools.daemon import Daemon, free_port, wait_for

pytestmark = pytest.mark.reliability("3 time")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "inbox" maildir "/Maildir" virtual { "@" = "root" }
action "away" relay host "smtp+notls://127.0.0.1:SINK"
match from any for domain "away.example" action "away"
match from any for any action "inbox"
"""
MOVED_CLOCKS = Path(__file__).parents[1] / "tools/moved_clocks"
HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400


class Clocks:
    """Moves the clocks of the daemon and of its commands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.move(0, 0)

    def move(self, wall: float, boot: float = 0) -> None:
        self.wall, self.boot = wall, boot
        new = self._path.with_suffix(".new")
        new.write_text(f"{wall} {boot}")
        new.rename(self._path)

    def now(self) -> float:
        return time.time() + self.wall


@pytest.fixture
def clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    monkeypatch.setenv("PYTHONPATH", str(MOVED_CLOCKS))
    monkeypatch.setenv("MAILSPOOL_CLOCKS", str(tmp_path / "clocks"))
    monkeypatch.setenv("TZ", "UTC")
    return Clocks(tmp_path / "clocks")


@pytest.fixture
def sink() -> int:
    return free_port()


@pytest.fixture
def daemon(tmp_path: Path, clocks: Clocks, sink: int) -> Iterator[Daemon]:
    clocks.move(-time.time() + 30)
    with Daemon(tmp_path / "root", CONFIGURATION.replace("SINK", str(sink))) as daemon:
        yield daemon


def send(daemon: Daemon, recipient: str, text: str) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("ann@example.org", [recipient], f"Subject: {text}\r\n\r\n{text}\r\n")


def wait_arrived(daemon: Daemon, text: str) -> Path:
    def found() -> list[Path]:
        return [path for path in (daemon.root / "Maildir/new").glob("*") if f"Subject: {text}\n" in path.read_text()]

    wait_for(found, f"{text!r} in the mailbox")
    return found()[0]


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def must_wait_as_ever(daemon: Daemon, clocks: Clocks) -> None:
    """The mail for the dead host still waits, for some minutes until the next try and for days at most."""
    (envelope,) = daemon.queue()
    now = clocks.now()
    assert envelope["state"] == "ready"
    assert now - 60 < instant(envelope["next_try"]) < now + HOUR
    assert now + DAY < instant(envelope["expires"]) < now + 4 * DAY + 60
    for attempt in attempts(daemon, envelope):
        assert 0 <= instant(attempt["ended"]) - instant(attempt["started"]) < 60
        assert now - 120 < instant(attempt["ended"]) <= now + 5


def attempts(daemon: Daemon, envelope: dict[str, Any]) -> list[dict[str, Any]]:
    lines = daemon.smtpctl("show", "attempts", envelope["id"], "--json").splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def test_a_machine_that_believes_in_1970_takes_and_delivers_mail(daemon: Daemon, clocks: Clocks) -> None:
    send(daemon, "bob@example.org", "by smtp")
    daemon.sendmail("-i", "bob@example.org", message="Subject: by sendmail\n\nx\n")
    for text in ("by smtp", "by sendmail"):
        path = wait_arrived(daemon, text)
        message = email.message_from_string(path.read_text())
        assert re.search(r"01 Jan 1970 00:0\d:\d\d \+0000", str(message["Received"])), message["Received"]
        assert re.fullmatch(r"\d{1,3}\.M\w+E1\.\w+", path.name)
    assert re.search(r"01 Jan 1970 00:0\d:\d\d \+0000$", str(message["Date"]))
    assert message["Message-ID"]
    assert re.search(r"\|\d\d\|\d\d\|delivered\|", daemon.smtpctl("show", "attempts", path.name.partition("M")[2][:20]))


def test_whatever_the_wall_clock_jumps_mail_flows_and_what_waits_does_so_as_ever(
    daemon: Daemon, clocks: Clocks
) -> None:
    send(daemon, "bob@away.example", "waits")
    daemon.wait_log("Disabling route")
    must_wait_as_ever(daemon, clocks)
    clocks.move(0)
    must_wait_as_ever(daemon, clocks)
    for number, jump in enumerate((HOUR, -HOUR, YEAR, -50 * YEAR)):
        clocks.move(jump)
        send(daemon, "bob@example.org", f"after{number}")
        wait_arrived(daemon, f"after{number}")
        must_wait_as_ever(daemon, clocks)
    assert daemon.stop() == 0
    clocks.move(-YEAR)
    daemon.start()
    must_wait_as_ever(daemon, clocks)
    for words in (["show", "queue"], ["show", "lanes"], ["show", "status"]):
        assert daemon.smtpctl(*words)
    assert daemon.run("mailq").returncode == 0


class Sink(threading.Thread):
    """Takes one message, so much later."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.mail = b""
        self._listener = socket.create_server(("127.0.0.1", port))

    def run(self) -> None:
        self._listener.settimeout(60)
        with self._listener, self._listener.accept()[0] as peer, peer.makefile("rwb") as wire:
            wire.write(b"220 sink\r\n")
            wire.flush()
            for line in wire:
                verb = line[:4].upper()
                wire.write({b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 ok\r\n"))
                wire.flush()
                if verb == b"DATA":
                    self._take(wire)
                    return

    def _take(self, wire: Any) -> None:
        while (line := wire.readline()) not in (b".\r\n", b""):
            self.mail += line
        wire.write(b"250 taken\r\n")
        wire.flush()


def test_after_a_suspend_what_came_due_meanwhile_is_tried_soon_and_nothing_expires_untried(
    daemon: Daemon, clocks: Clocks, sink: int, thorough: bool
) -> None:
    # A year is long after the deadline.
    for asleep in [3 * HOUR, YEAR] if thorough else [YEAR]:
        send(daemon, "bob@away.example", f"asleep{asleep}")
        wait_for(lambda: [envelope["error"] for envelope in daemon.queue()] not in ([], [""], [None]), "a failed try")
        (envelope,) = daemon.queue()
        taker = Sink(sink)
        taker.start()
        clocks.move(clocks.wall + asleep, clocks.boot + asleep)
        taker.join()
        wait_for(lambda: not daemon.queue(), "the record", TICK)
        assert f"Subject: asleep{asleep}" in taker.mail.decode()
        first, *_, last = attempts(daemon, envelope)
        # For those who look at it later, the first try was before the sleep.
        assert abs(instant(last["ended"]) - instant(first["ended"])) > asleep - HOUR
    # The sender may be told of a delay, if a try failed as the clocks moved; of no failure.
    assert not any("Action: failed" in path.read_text() for path in (daemon.root / "Maildir").rglob("*.*"))
