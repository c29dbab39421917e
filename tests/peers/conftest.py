"""Real programs from Debian's packages. Where they are missing the tests are skipped, except under ``.ci/run``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.machine import Machine

#: What the tests in this folder start, as Debian's packages put it into the path.
PROGRAMS = (
    "cron", "dnsmasq", "dovecot", "fail2ban-regex", "gsasl", "ip", "msmtp", "nsenter", "openssl", "postfix", "procmail",
    "smtp-sink", "smtp-source", "swaks", "systemd-analyze", "systemd-sysusers", "systemd-tmpfiles", "unshare",
)  # fmt: skip


@pytest.fixture(scope="session")
def peers() -> None:
    """Root and every program, or a skip; under ``.ci/run``, or a failure."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0:
        lacking.append("root (to make namespaces and to become other users)")
    if not lacking:
        return
    reason = "needs " + ", ".join(lacking)
    if os.environ.get("MAILSPOOL_PEERS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def machine(peers: None, tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine") as machine:
        yield machine
