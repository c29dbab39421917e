"""A crowd that holds connections: what a whole daemon does when three quarters of them are used, and afterwards.

The attack is older than its name (Slowloris): connections cost an attacker nothing, and a server that waits five minutes for
each of them has none left for mail. The wall: limits by address, by rate and by pace (see
`tests/integration/test_smtp_limits.py`), and when they do not suffice, shorter ones for everybody until the crowd is gone.
"""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import ExitStack

import pytest

from control.separated.accounts import USERS
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder
from tests.tools.stranger import Stranger

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action in relay host "smtp+notls://127.0.0.1:9"
match from any for any action in
"""
#: Descriptors that the daemon may have; three quarters of them may be connections, and three quarters of those are stress.
DESCRIPTORS = 256
CROWD = DESCRIPTORS * 3 // 4 * 3 // 4 + 1


def has_users() -> bool:
    return set(USERS.values()) <= {entry.pw_name for entry in pwd.getpwall()}


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit(1)")
@pytest.mark.parametrize("one_process", [True, False], ids=["together", "separated"])
def test_a_crowd_of_idle_clients_is_stress_and_mail_flows(one_process: bool) -> None:
    if not one_process and (os.geteuid() or not has_users()):
        pytest.skip("only root has roles in processes of their own, as the daemon's users")
    limited = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
    with public_folder() as root, Daemon(root, CONFIGURATION, under=limited, one_process=one_process) as daemon:
        assert "stress" not in daemon.smtpctl("show", "status")
        with ExitStack() as crowd:
            for number in range(CROWD):
                client = crowd.enter_context(Stranger(daemon.port, f"127.0.1.{number % 250 + 1}"))
                assert client.reply().startswith("220 ")
            daemon.wait_log("smtp: stress begins: ")
            wait_for(lambda: "smtp is under stress: " in daemon.smtpctl("show", "status"), "the status to say so")
            with Stranger(daemon.port) as good:
                good.begin("bob@here.example")
                assert good.ask("Subject: through the crowd\r\n\r\nx\r\n.").startswith("250 ")
                # Fewer errors are borne.
                assert [good.ask("NONSENSE")[:4] for _ in range(2)] == ["500 "] * 2
                good.ask("NONSENSE")
                assert good.reply().startswith("421 4.7.0 ")
        daemon.wait_log("smtp: stress ends: ")
        wait_for(lambda: "stress" not in daemon.smtpctl("show", "status"), "the status to be calm")
