"""A full or broken disk at each call that the accept of one message makes: n = 1, 2, 3 ... until one comes through unharmed.

A whole daemon, a real client, and strace that makes the n-th call fail between DATA's 354 and the reply to the final dot.
"""

from __future__ import annotations

import os
import smtplib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, wait_for
from tests.tools.injected import Fault, injected, met, needs_strace
from tests.tools.scorecard import Cases

pytestmark = [
    pytest.mark.reliability("2 faults"),
    needs_strace,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("accept-faults"),
]

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "away" relay host "smtp+notls://127.0.0.1:9"
match from any for any action "away"
"""
#: Octets: in the database, and in a file of its own that is written in several pieces.
SMALL, LARGE = 2_000, 200_000
LINE = b"all work and no play makes jack a dull boy\r\n"
#: What the client reads when its message was not taken, and the daemon goes on.
FULL, BROKEN = "452 4.3.1", "451 4.3.0"
#: Seconds within which the process ends once a write may be lost.
AT_ONCE = 1.0
#: Calls of a kind that the short run tries, and the kinds that it lets end the daemon.
FEW = 3
#: What ends the daemon, by the message's size; each time it starts again.
FATAL_IN_THE_SHORT_RUN = ((SMALL, "pwrite64"), (LARGE, "fsync"))
FATAL = (*FATAL_IN_THE_SHORT_RUN, (SMALL, "fdatasync"), (LARGE, "pwrite64"), (LARGE, "fdatasync"))


@dataclass
class Accepting:
    """A daemon that takes messages and delivers none, and what it has promised."""

    daemon: Daemon
    trace: Path
    promised: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    count: int = 0
    #: Seconds from a final dot that was not answered to the end of the daemon, at most.
    slowest_end: float = 0.0

    def send(self, size: int, fault: Fault | None = None) -> str:
        """Send a message of ``size`` octets, with the fault between DATA and the reply; the reply, or nothing."""
        self.count += 1
        recipient = f"m{self.count}@example.net"
        with smtplib.SMTP("127.0.0.1", self.daemon.port, timeout=20) as client:
            client.ehlo()
            client.mail("ann@example.org")
            assert client.rcpt(recipient)[0] == 250
            assert client.docmd("DATA")[0] == 354
            reply = self._content(client, size, fault)
        if reply.startswith("250"):
            self.promised.add(recipient)
        elif reply:
            self.refused.add(recipient)
        return reply

    def _content(self, client: smtplib.SMTP, size: int, fault: Fault | None) -> str:
        content = b"Subject: x\r\n\r\n" + LINE * (size // len(LINE)) + b".\r\n"
        if fault is None:
            return _reply(client, content)
        assert self.daemon.process is not None
        with injected(self.daemon.process, fault, self.trace):
            began = time.monotonic()
            reply = _reply(client, content)
            if not reply:
                self._end(began)
        return reply

    def _end(self, began: float) -> None:
        process = self.daemon.process
        assert process is not None
        status = process.wait(20)
        self.daemon.process = None
        self.slowest_end = max(self.slowest_end, time.monotonic() - began)
        assert status == os.EX_IOERR, self.daemon.log

    def calls(self, size: int, call: str) -> int:
        """How many such calls the accept of a message makes in the spool."""
        # A body is written in the loop, where replies and the log are written too: they come after it.
        self.send(size, Fault(call, "EIO", 65535, loop_only=call == "write"))
        return sum("/var/spool/" in line for line in self.trace.read_text().splitlines())

    def trouble(self) -> str:
        """What is wrong with what it keeps; empty when nothing is."""
        queued = {envelope["destination"] for envelope in self.daemon.queue()}
        if lost := self.promised - queued:
            return f"lost {lost}"
        if kept := self.refused & queued:
            return f"kept {kept}, and told the client that it did not"
        # A body that was not promised is an orphan until it is swept away, which is soon.
        wait_for(lambda: self.daemon.run("smtpctl", "verify").returncode == 0, "a spool in which nothing is wrong")
        return ""


def _reply(client: smtplib.SMTP, content: bytes) -> str:
    """The reply to the final dot; empty when the connection ends instead."""
    try:
        client.send(content)
        code, text = client.getreply()
    except (smtplib.SMTPServerDisconnected, OSError):
        return ""
    return f"{code} {text.decode()}"


@pytest.fixture(scope="module")
def accepting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accepting]:
    """One daemon for all: none of its faults may outlast it."""
    folder = tmp_path_factory.mktemp("faults")
    daemon = Daemon(folder, CONFIGURATION, arguments=("-d", "-P", "mta"))
    daemon.start()
    yield Accepting(daemon, folder / "trace")
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def step(calls: int, thorough: bool) -> range:
    """The calls that are tried: all, or a few of them."""
    return range(1, calls + 1, 1 if thorough else max(1, calls // FEW))


@pytest.mark.parametrize(
    ("size", "call", "error", "reply"),
    [
        (SMALL, "pwrite64", "ENOSPC", FULL),
        (LARGE, "pwrite64", "ENOSPC", FULL),
        (LARGE, "write", "ENOSPC", FULL),
        (LARGE, "write", "EDQUOT", FULL),
        (LARGE, "write", "EIO", BROKEN),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_else(
    accepting: Accepting, cases: Cases, thorough: bool, size: int, call: str, error: str, reply: str
) -> None:
    calls = accepting.calls(size, call)
    assert calls > 1
    for nth in step(calls, thorough):
        # On a disk that is full once, and has room a moment later, the second try succeeds.
        fault = Fault(call, error, nth, lasts=call != "write", loop_only=call == "write")
        answer = accepting.send(size, fault)
        if not met(accepting.trace):
            continue
        cases.tried()
        if not answer.startswith(reply):
            cases.failed(f"{fault}: the client was told {answer!r}")
        if not accepting.send(size).startswith("250"):
            cases.failed(f"{fault}: the next message was refused")
    assert accepting.trouble() == ""


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_disk_that_is_full_for_a_moment_costs_at_most_a_retry(
    accepting: Accepting, cases: Cases, thorough: bool, size: int
) -> None:
    for nth in step(accepting.calls(size, "pwrite64"), thorough):
        answer = accepting.send(size, Fault("pwrite64", "ENOSPC", nth))
        cases.tried(bool(met(accepting.trace)))
        if not answer.startswith(("250", FULL)):
            cases.failed(f"number {nth}: the client was told {answer!r}")
    assert accepting.trouble() == ""


def test_after_a_write_that_may_be_lost_nobody_is_answered_and_the_next_start_has_what_was_promised(
    accepting: Accepting, cases: Cases, thorough: bool
) -> None:
    for size, call in FATAL if thorough else FATAL_IN_THE_SHORT_RUN:
        calls = accepting.calls(size, call)
        assert calls
        for nth in range(1, calls + 1, 1 if thorough else calls):
            answer = accepting.send(size, Fault(call, "EIO", nth))
            if not met(accepting.trace):
                continue
            cases.tried()
            if answer:
                cases.failed(f"{call} number {nth} of {size} octets: the client was told {answer!r}")
            if accepting.daemon.process is None:
                accepting.daemon.start()
            if trouble := accepting.trouble():
                cases.failed(f"{call} number {nth} of {size} octets: {trouble}")
    cases.note(f"from the final dot to the daemon's end at most {accepting.slowest_end:.2f} s")
    assert accepting.slowest_end < AT_ONCE
    assert accepting.daemon.log.count("look for trouble with the disk") == cases.count
