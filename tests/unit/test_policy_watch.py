"""Who looks on while a recipient is expanded: hears every question and answer, with its trail, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.admit import admit
from policy.config import REPORT_FACTS
from policy.errors import TableUnavailable
from policy.expand import expand
from spool.address import parse_address
from spool.message import Recipient
from tests.tools.configured import Configured, FakeUsers
from tests.tools.forwarding import FakeForwards, Heard, forward

pytestmark = pytest.mark.anyio

USERS = FakeUsers("ann", "bob")
OFFICE = """
action "local" mbox alias <aliases>
action "out" relay
match from any for local action "local"
match for any action "out"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


async def heard(configured: Configured, aliases: str, forwards: FakeForwards | None = None) -> list[str]:
    configured.write("aliases", aliases)
    watch = Heard()
    recipient = Recipient(parse_address("team@localhost"))
    await admit(configured.load(OFFICE), REPORT_FACTS, recipient, USERS, forwards or FakeForwards({}), watch)
    return watch.lines


async def test_a_watch_hears_rules_tables_names_forwards_and_destinations_in_the_order_of_the_tree(
    configured: Configured,
) -> None:
    files = FakeForwards({"ann": forward("me, zoe@example.net, :include:/list")})
    lines = await heard(configured, "team ann, bob, ann\n", files)
    assert [line.removeprefix("team@localhost").removeprefix(" -> ") for line in lines] == [
        "begins team@localhost",
        ": rule smtpd.conf:4",
        "team: name",
        "team: aliases[team] = ann, bob, ann",
        "team -> ann: name",
        "team -> ann: aliases[ann] = None",
        "team -> ann: Forward of ann",
        "team -> ann: found local",
        "team -> ann -> zoe@example.net: rule smtpd.conf:5",
        "team -> ann -> zoe@example.net: found out",
        "team -> ann: passed over :include:/list: a .forward includes nothing",
        "team -> bob: name",
        "team -> bob: aliases[bob] = None",
        "team -> bob: NoForward of bob",
        "team -> bob: found local",
        "team: repeated ann",
    ]


async def test_a_watch_hears_last_which_branch_was_refused(configured: Configured) -> None:
    lines = await heard(configured, "team ann, nobody, bob\n")
    assert lines[-1] == "team@localhost -> team -> nobody: refused 550 5.1.1 Invalid recipient: <team@localhost>"


async def test_a_watch_hears_where_a_table_could_not_be_asked(configured: Configured) -> None:
    configured.write("aliases", "team :include:/nowhere\n")
    watch = Heard()
    with pytest.raises(TableUnavailable):
        expand(configured.load(OFFICE), REPORT_FACTS, USERS, parse_address("team@localhost"), watch=watch)
    assert watch.lines[-1].startswith("team@localhost -> team -> :include:/nowhere: unavailable: ")
