"""A disk that fails: the daemon ends at once, without a word to its clients, and the next start has what was promised."""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, wait_for

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "away" relay host "smtp+notls://127.0.0.1:9"
match from any for any action "away"
"""
MESSAGE = "Subject: x\r\n\r\nx\r\n"


@contextmanager
def failing_disk(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Every fsync of the process fails, which may end it before anybody asks it for something."""

    def is_traced() -> bool:
        return "TracerPid:\t0\n" not in Path(f"/proc/{process.pid}/status").read_text()

    calls = "fsync,fdatasync"
    command = ["strace", "-f", "-q", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO"]
    with subprocess.Popen([*command, "-p", str(process.pid)]) as tracer:
        try:
            wait_for(lambda: is_traced() or process.poll() is not None, "strace to be there")
            yield
        finally:
            tracer.terminate()


def test_after_a_failed_fsync_it_ends_within_a_second_and_answers_nobody(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    daemon.start()
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("ann@example.org", ["kept@example.org"], MESSAGE)
        process = daemon.process
        assert process is not None
        with failing_disk(process):
            with pytest.raises(smtplib.SMTPServerDisconnected):
                client.sendmail("ann@example.org", ["doubtful@example.org"], MESSAGE)
            assert process.wait(1) == os.EX_IOERR
    assert "a write to the spool may be lost: look for trouble with the disk" in daemon.log
    daemon.start()
    assert "kept@example.org" in {envelope["destination"] for envelope in daemon.queue()}
    assert daemon.stop() == 0


@pytest.mark.reliability("2 faults")
def test_after_an_unclean_stop_the_database_is_written_again_before_anybody_can_connect(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    daemon.start()
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("ann@example.org", ["kept@example.org"], MESSAGE)
    daemon.kill()
    trace = tmp_path / "trace"
    daemon.under = ("strace", "-D", "-f", "-y", "-o", str(trace), "-e", "trace=pwrite64,fsync,fdatasync,listen")
    daemon.start()
    daemon.kill()
    calls = trace.read_text().splitlines()
    written = [number for number, call in enumerate(calls) if "pwrite64(" in call and "/state.db>" in call]
    synced = [number for number, call in enumerate(calls) if "sync(" in call and "/state.db>" in call]
    heard = next(number for number, call in enumerate(calls) if "listen(" in call)
    assert written[0] < synced[0] < heard
