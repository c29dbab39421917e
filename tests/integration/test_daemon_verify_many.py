"""``smtpctl verify`` beside a daemon with very many envelopes: mail flows meanwhile, and memory does not grow with them."""

from __future__ import annotations

import os
import smtplib
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.tools.daemon import BIN, Daemon
from tests.tools.million import Multitude, build
from tests.tools.scorecard import Cases

pytestmark = [pytest.mark.reliability("10 verify"), pytest.mark.timeout(300)]

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "out" relay
match from any for any action "out"
"""
ENVELOPES, MANY_ENVELOPES = 5_000, 300_000
#: KiB that the daemon may grow by while it looks: pages of SQLite's cache, and a hundred small bodies.
GROWTH = 48 * 1024
#: Seconds that a client may wait for its 250 meanwhile, on a machine under load.
SOON = 5.0


def correct_lanes(root: Path) -> None:
    """Have lanes know what they have to do next: their envelopes were made behind their backs."""
    with closing(sqlite3.connect(root / "var/spool/smtpd/state.db", isolation_level=None)) as connection:
        connection.execute(
            "UPDATE lane SET next_due = (SELECT min(due) FROM envelope WHERE lane = lane.id AND state = 0)"
        )


def test_very_many_envelopes_are_verified_while_mail_flows(tmp_path: Path, thorough: bool, cases: Cases) -> None:
    count = MANY_ENVELOPES if thorough else ENVELOPES
    build(tmp_path, Multitude(count, destinations=count // 10))
    correct_lanes(tmp_path)
    with Daemon(tmp_path, CONFIGURATION, arguments=("-d", "-P", "mta")) as daemon:
        before, most, slowest, began = daemon.resident_kib(), 0, 0.0, time.monotonic()
        environment = {**os.environ, "SMTPD_ROOT": str(tmp_path)}
        verify = subprocess.Popen([BIN / "smtpctl", "verify"], env=environment, stdout=subprocess.PIPE, text=True)
        while verify.poll() is None:
            sent = time.monotonic()
            with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
                client.sendmail("ann@example.org", ["bob@example.net"], "Subject: x\r\n\r\nx\r\n")
            slowest = max(slowest, time.monotonic() - sent)
            most = max(most, daemon.resident_kib())
            time.sleep(0.05)
        output, _ = verify.communicate()
        cases.tried()
        cases.note(
            f"{count} envelopes in {time.monotonic() - began:.1f} s, beside mail that took at most {slowest:.2f} s"
        )
    assert (verify.returncode, output.count("\n")) == (0, 1), output
    assert slowest < SOON
    assert most - before < GROWTH
