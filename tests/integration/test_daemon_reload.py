"""SIGHUP: a new generation as a whole, or nothing of it."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, free_port

LISTEN = "listen on 127.0.0.1 port $port\n"
AWAY = 'action "out" relay host "smtp+notls://127.0.0.1:9"\nmatch from any for any action "out"\n'
INBOX = 'action "out" maildir "/Maildir" virtual { "@" = "root" }\nmatch from any for any action "out"\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, LISTEN + AWAY) as daemon:
        yield daemon


def test_listeners_are_added_and_removed(daemon: Daemon) -> None:
    other = free_port()
    daemon.configure(LISTEN + f"listen on 127.0.0.1 port {other}\n" + AWAY)
    daemon.reload()
    with smtplib.SMTP("127.0.0.1", other, timeout=10) as client:
        assert client.noop()[0] == 250
        daemon.configure(LISTEN + AWAY)
        daemon.reload()
        assert client.noop()[0] == 250, "a session that is open goes on"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", other), 5)
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        assert client.noop()[0] == 250


def test_queued_mail_follows_the_corrected_action(daemon: Daemon) -> None:
    daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\nfollows\n")
    daemon.wait_queue(1)
    daemon.configure(LISTEN + AWAY.replace(":9", f":{free_port()}"))
    daemon.reload()
    daemon.smtpctl("schedule", "all")
    daemon.wait_log("smtp-out: ")
    assert len(daemon.queue()) == 1


def test_a_lane_whose_action_is_gone_waits_with_the_reason(daemon: Daemon) -> None:
    daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\nx\n")
    daemon.wait_queue(1)
    daemon.configure(LISTEN + INBOX.replace('"out"', '"inbox"'))
    daemon.reload()
    (envelope,) = daemon.queue()
    assert 'no action "out"' in envelope["error"]
    assert "out||1|parked|" in daemon.smtpctl("show", "lanes")
    daemon.configure(LISTEN + AWAY)
    daemon.reload()
    assert "parked" not in daemon.smtpctl("show", "lanes")


def test_a_wrong_configuration_changes_nothing_and_every_finding_is_logged(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, LISTEN + AWAY)
    daemon.start()
    daemon.configure("bogus\n" + LISTEN + AWAY.replace("relay host", "relai host"))
    daemon.reload()
    assert "smtpd.conf:1:1: " in daemon.log
    assert "smtpd.conf:3:14: " in daemon.log
    assert "the configuration was not reloaded: nothing has changed" in daemon.log
    daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\nx\n")
    assert daemon.wait_queue(1)[0]["action"] == "out"
    assert daemon.stop() == 0


def test_a_listener_that_cannot_be_bound_changes_nothing(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, LISTEN + AWAY)
    daemon.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon.configure(LISTEN.replace("$port", str(port)) + INBOX)
        daemon.reload()
    assert f"cannot listen on 127.0.0.1 port {port}" in daemon.log
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("ann@example.org", ["bob@example.org"], "Subject: x\r\n\r\nx\r\n")
    assert daemon.wait_queue(1)[0]["action"] == "out"
    assert daemon.stop() == 0
