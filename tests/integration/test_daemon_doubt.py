"""When nobody knows whether the other side has it: it is sent again, and the history says why there may be two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.tools.daemon import Daemon, wait_for
from tests.tools.recording_sink import Act, RecordingSink

pytestmark = pytest.mark.reliability("5 outbound duplicates")

MESSAGE = "Subject: x\n\nx\n"
DOUBT = "if it was sent, no reply was seen"


@pytest.fixture
def sink() -> Iterator[RecordingSink]:
    sink = RecordingSink()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sink):
        yield sink


@pytest.fixture
def daemon(tmp_path: Path, sink: RecordingSink) -> Daemon:
    return Daemon(
        tmp_path,
        "listen on 127.0.0.1 port $port\n"
        f'action "out" relay host "smtp+notls://127.0.0.1:{sink.port}"\n'
        'match for any action "out"\n',
    )


def send(daemon: Daemon) -> str:
    """One message; its id."""
    daemon.sendmail("-f", "ann@box.example.net", "bob@remote.example", message=MESSAGE)
    wait_for(lambda: daemon.queue() and daemon.queue()[0]["state"] == "inflight", "it to be in flight")
    name: str = daemon.queue()[0]["message"]
    return name


def killed_past_the_dot(daemon: Daemon, sink: RecordingSink) -> str:
    """The other side has it, but its reply does not come before the daemon dies; the message's id."""
    sink.on("dot", Act(delay=1, cut=True))
    daemon.start()
    name = send(daemon)
    wait_for(lambda: "DATA" in sink.peers[0].commands, "the content")
    daemon.kill()
    wait_for(lambda: len(sink.messages) == 1, "the first copy")
    return name


def test_after_a_crash_past_the_dot_the_history_says_that_it_may_have_been_sent(
    daemon: Daemon, sink: RecordingSink
) -> None:
    name = killed_past_the_dot(daemon, sink)
    with daemon:
        daemon.smtpctl("schedule", "all")
        daemon.wait_queue(0)
        first, second = daemon.smtpctl("show", "attempts", name).splitlines()
    assert DOUBT in first
    assert "delivered" in second


def test_both_copies_have_the_same_message_id(daemon: Daemon, sink: RecordingSink) -> None:
    killed_past_the_dot(daemon, sink)
    with daemon:
        daemon.smtpctl("schedule", "all")
        daemon.wait_queue(0)
    names = {re.findall(rb"^Message-ID: (\S+)", message.body, re.MULTILINE)[0] for message in sink.messages}
    assert (len(sink.messages), len(names)) == (2, 1)


def test_a_reply_that_was_lost_is_said_in_the_history(daemon: Daemon, sink: RecordingSink) -> None:
    sink.on("dot", Act(reply=b"", cut=True))
    with daemon:
        daemon.sendmail("-f", "ann@box.example.net", "bob@remote.example", message=MESSAGE)
        wait_for(lambda: daemon.queue()[0]["attempts"] == 1, "an attempt")
        attempts = daemon.smtpctl("show", "attempts", daemon.queue()[0]["message"])
        assert "sent, no reply seen" in attempts
