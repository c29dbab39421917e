"""Local delivery that ends, or meets an error, at every one of its calls: each message is in the mailbox once and whole."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.tools.local_steps import Order
from tests.tools.scorecard import Cases

pytestmark = [pytest.mark.reliability("4 local once"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
MAILDIR_READERS = ["", "read"]
MBOX_READERS = ["", "read", "read, new file", "append", "read, append"]
ERRORS = ["ENOSPC", "EDQUOT", "EIO", "ENOSPC+", "EIO+"]
#: `make test` tries every so many-th step: a prime, so that all kinds of calls come in turn.
SAMPLE = 11


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that another user can reach, in memory where there is room for it: processes die here, not machines."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="mailspool-steps-", dir=memory))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def tried(orders: list[Order], cases: Cases) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.local_steps", json.dumps([asdict(order) for order in orders])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(orders)
    assert sum(result["tried"] for result in results) > 0
    for result in results:
        cases.tried(result["tried"])
        for failure in result["failures"]:
            cases.failed(failure)


def orders(folder: Path, fates: list[str], *, repetition: bool = False) -> list[Order]:
    boxes = [("maildir", MAILDIR_READERS), ("mbox", MBOX_READERS)]
    return [
        Order(kind, str(folder / f"{kind} {fate} {between}"), fate, between, repetition=repetition)
        for kind, readers in boxes
        for fate in fates
        for between in readers
    ]


def chosen(orders: list[Order], *, thorough: bool) -> list[Order]:
    """All steps of all, or some steps of some."""
    if thorough:
        return orders
    return [replace(order, stride=SAMPLE, first=1 + number % SAMPLE) for number, order in enumerate(orders)][::3]


def test_killed_at_any_step_a_delivery_is_repeated_without_a_second_copy(
    folder: Path, cases: Cases, thorough: bool
) -> None:
    tried(chosen(orders(folder, ["kill", "torn"]), thorough=thorough), cases)


def test_a_repetition_killed_at_any_step_is_repeated_without_a_second_copy(
    folder: Path, cases: Cases, thorough: bool
) -> None:
    tried(chosen(orders(folder, ["torn"], repetition=True), thorough=thorough), cases)


def test_an_error_at_any_step_costs_no_message_and_makes_no_second_copy(
    folder: Path, cases: Cases, thorough: bool
) -> None:
    some = [order for order in orders(folder, ERRORS) if "read" not in order.between]
    tried(chosen(some, thorough=thorough), cases)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="agents become other users")
def test_agent_or_daemon_killed_at_any_step_of_the_agent_make_no_second_copy(
    folder: Path, cases: Cases, thorough: bool
) -> None:
    user = pwd.getpwnam("games").pw_name
    victims = ["agent", "daemon", "daemon, slowly", "both"]
    some = [
        Order(kind, str(folder / f"{kind} {victim}"), victim, stride=3, user=user)
        for kind in ("maildir", "mbox")
        for victim in victims
    ]
    tried(some if thorough else [replace(order, first=7, stride=29) for order in some[::3]], cases)
