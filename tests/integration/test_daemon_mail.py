"""The way of one message through a whole daemon, and what an operator does to it."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.tools.daemon import Daemon, wait_for
from tests.tools.recording_sink import Act, RecordingSink

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "inbox" maildir "/Maildir" virtual { "@" = "root" }
action "away" relay host "smtp+notls://127.0.0.1:9"
match from any for domain "away.example" action "away"
match from any for any action "inbox"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, CONFIGURATION) as daemon:
        yield daemon


def arrived(daemon: Daemon) -> list[str]:
    return [path.read_text() for path in (daemon.root / "Maildir/new").glob("*")]


def wait_arrived(daemon: Daemon, text: str) -> None:
    wait_for(lambda: any(text in message for message in arrived(daemon)), f"{text!r} in the mailbox:\n{daemon.log}")


def send(daemon: Daemon, recipient: str, text: str) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("ann@example.org", [recipient], f"Subject: x\r\n\r\n{text}\r\n")


def test_mail_by_sendmail_and_by_smtp_reaches_the_mailbox(daemon: Daemon) -> None:
    daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\nby sendmail\n")
    send(daemon, "bob@example.org", "by smtp")
    wait_arrived(daemon, "by sendmail")
    wait_arrived(daemon, "by smtp")
    assert daemon.run("mailq").stdout == "Mail queue is empty\n"


def test_mail_that_waits_says_why(daemon: Daemon) -> None:
    send(daemon, "bob@away.example", "x")
    daemon.wait_log("Disabling route")
    (envelope,) = daemon.queue()
    assert "refused" in envelope["error"].lower()
    assert "refused" in daemon.run("mailq").stdout.lower()
    assert "connect" in daemon.smtpctl("show", "attempts", envelope["id"])
    assert envelope["destination"] in daemon.smtpctl("why", envelope["message"])


def test_held_mail_stays_until_it_is_released(daemon: Daemon) -> None:
    daemon.smtpctl("pause", "mda")
    send(daemon, "bob@example.org", "held back")
    daemon.wait_queue(1)
    assert daemon.smtpctl("hold", "all") == "1 envelope held\n"
    daemon.smtpctl("resume", "mda")
    send(daemon, "bob@example.org", "not held")
    wait_arrived(daemon, "not held")
    assert len(arrived(daemon)) == 1
    assert daemon.smtpctl("release", "all") == "1 envelope released\n"
    wait_arrived(daemon, "held back")


def test_what_was_paused_stays_paused_beyond_a_restart(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    with daemon:
        daemon.smtpctl("pause", "mda")
    with daemon:
        wait_for(lambda: "MDA paused" in daemon.smtpctl("show", "status"), "the pause to be recalled")
        daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\npaused\n")
        daemon.wait_queue(1)
        daemon.smtpctl("resume", "mda")
        wait_arrived(daemon, "paused")


def test_removed_mail_is_gone_and_its_history_says_so(daemon: Daemon) -> None:
    send(daemon, "bob@away.example", "x")
    (envelope,) = daemon.wait_queue(1)
    assert daemon.smtpctl("remove", envelope["message"]) == "1 envelope removed\n"
    daemon.wait_queue(0)
    assert "removed by the operator" in daemon.smtpctl("why", envelope["message"])


def test_figures_count_what_was_delivered(daemon: Daemon) -> None:
    send(daemon, "bob@example.org", "x")
    wait_arrived(daemon, "x")
    wait_for(lambda: "scheduler.delivery.ok=1\n" in daemon.smtpctl("show", "stats"), "the delivery to be counted")


def test_a_trace_is_heard_while_it_is_on(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION, arguments=("-d",)) as daemon:
        send(daemon, "bob@example.org", "first")
        assert "debug: " not in daemon.log
        daemon.smtpctl("trace", "expand")
        send(daemon, "bob@example.org", "second")
        assert "debug: policy.expand: " in daemon.log


def test_mail_left_while_nothing_ran_is_taken_in_at_the_start(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    with daemon:
        pass
    daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\nkept meanwhile\n")
    assert arrived(daemon) == []
    with daemon:
        wait_arrived(daemon, "kept meanwhile")


def test_while_smtp_is_paused_sendmail_leaves_its_mail_for_later(daemon: Daemon) -> None:
    daemon.smtpctl("pause", "smtp")
    with pytest.raises(smtplib.SMTPConnectError, match="Service is paused"):
        smtplib.SMTP("127.0.0.1", daemon.port, timeout=10)
    daemon.sendmail("-i", "bob@example.org", message="Subject: x\n\nin the drop\n")
    assert daemon.queue() == []
    daemon.smtpctl("resume", "smtp")
    send(daemon, "bob@example.org", "again")
    wait_arrived(daemon, "again")
    wait_arrived(daemon, "in the drop")


def test_what_cannot_be_delivered_comes_back_to_its_sender(tmp_path: Path) -> None:
    sink = RecordingSink()
    sink.on("RCPT", Act("550 5.1.1 nobody here"), times=None)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sink),
        Daemon(tmp_path, CONFIGURATION.replace(":9", f":{sink.port}")) as daemon,
    ):
        send(daemon, "bob@away.example", "nobody reads this")
        wait_arrived(daemon, "multipart/report")
        daemon.wait_queue(0)
    (report,) = arrived(daemon)
    assert "To: <ann@example.org>" in report or "To: ann@example.org" in report
    assert "Status: 5.1.1" in report
    assert "550 5.1.1 nobody here" in report
