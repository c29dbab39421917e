"""The expansion is told as a tree, with the table that every step stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.explain import Node
from policy.explain_tree import MAX_ASKED
from policy.forward import ForwardRefused
from tests.tools.configured import Configured, FakeUsers
from tests.tools.explaining import Explaining
from tests.tools.forwarding import FakeForwards, forward

pytestmark = pytest.mark.anyio

CONF = """
action "local" mbox alias <aliases>
action "out" relay host smtp://127.0.0.1
match for local action "local"
match for any action "out"
"""


def drawn(node: Node, depth: int = 0) -> list[str]:
    """One line a node."""
    envelope = f" -> {node.envelope}" if node.envelope else ""
    line = f"{'.' * depth}{node.kind} {node.text}: {node.note}{envelope}"
    return [line, *(each for child in node.children for each in drawn(child, depth + 1))]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


async def tree(configured: Configured, aliases: str, recipient: str) -> list[str]:
    configured.write("aliases", aliases)
    told = await Explaining(configured, FakeUsers("ann", "bob")).explanation(CONF, recipient)
    assert told.tree is not None
    return [line.replace(configured.layout.root, "ROOT") for line in drawn(told.tree)]


async def test_a_name_that_stands_on_the_right_of_its_own_alias_is_the_user(configured: Configured) -> None:
    assert await tree(configured, "ann: ann, bob\n", "ann@localhost") == [
        "address ann@localhost: action local",
        ".name ann: <aliases>: ann, bob",
        "..user ann:  -> 1",
        "..name bob: user bob (not in <aliases>) -> 2",
    ]


async def test_commands_and_files_are_leaves_below_their_alias(configured: Configured) -> None:
    assert await tree(configured, 'x: "|archive -a", /var/archive\n', "x@localhost") == [
        "address x@localhost: action local",
        '.name x: <aliases>: "|archive -a", /var/archive',
        "..command |archive -a:  -> 1",
        "..file ROOT/var/archive:  -> 2",
    ]


async def test_a_list_in_a_file_stands_above_its_entries(configured: Configured) -> None:
    configured.write("list", "bob\n\nann@example.org\nbob\n")
    assert await tree(configured, "x: :include:/etc/smtpd/list\n", "x@localhost") == [
        "address x@localhost: action local",
        ".name x: <aliases>: :include:/etc/smtpd/list",
        "..include ROOT/etc/smtpd/list: ",
        "...name bob: user bob (not in <aliases>) -> 1",
        "...address ann@example.org: action out -> 2",
        "...repeated bob: expanded above already",
    ]


async def test_two_names_of_one_mailbox_lead_to_one_envelope(configured: Configured) -> None:
    assert await tree(configured, "x: y, z\ny: ann\nz: ann@localhost\n", "x@localhost") == [
        "address x@localhost: action local",
        ".name x: <aliases>: y, z",
        "..name y: <aliases>: ann",
        "...name ann: user ann (not in <aliases>) -> 1",
        "..name z: <aliases>: ann@localhost",
        "...address ann@localhost: action local",
        "....repeated ann: expanded above already",
    ]


async def test_a_forward_stands_below_its_user_and_is_told_once_however_often_it_is_fetched(
    configured: Configured,
) -> None:
    files = {"ann": forward("ann, bob, x@example.org\n"), "bob": forward("# nothing\n")}
    configured.write("aliases", "team: ann\n")
    told = await Explaining(configured, FakeUsers("ann", "bob"), forwards=FakeForwards(files)).explanation(
        CONF, "team@localhost"
    )
    assert told.tree is not None
    assert drawn(told.tree) == [
        "address team@localhost: action local",
        ".name team: <aliases>: ann",
        "..name ann: .forward of ann (not in <aliases>)",
        "...user ann:  -> 1",
        "...name bob: .forward of bob is empty; user bob (not in <aliases>) -> 2",
        "...address x@example.org: action out -> 3",
    ]


async def test_a_forward_that_nobody_may_trust_refuses_the_recipient(configured: Configured) -> None:
    configured.write("aliases", "team: ann\n")
    forwards = FakeForwards({"ann": ForwardRefused("others may write to it")})
    told = await Explaining(configured, FakeUsers("ann"), forwards=forwards).explanation(CONF, "ann@localhost")
    assert told.tree is not None
    assert drawn(told.tree)[-1] == "..error refused: the .forward of ann: others may write to it"


async def test_a_user_of_a_userbase_is_no_alias(configured: Configured) -> None:
    text = 'table ub { ann = "1000:1000:/srv/ann" }\naction "a" maildir userbase <ub>\nmatch for local action "a"\n'
    told = await Explaining(configured, FakeUsers()).explanation(text, "ann@localhost")
    assert told.tree is not None
    assert drawn(told.tree) == ["address ann@localhost: action a", ".name ann: in <ub>; user ann -> 1"]


async def test_a_table_that_is_written_in_place_is_not_repeated(configured: Configured) -> None:
    text = 'action "a" mbox virtual { "@" = ann, "bob@localhost" = carl }\nmatch for local action "a"\n'
    told = await Explaining(configured, FakeUsers("ann")).explanation(text, "x@localhost")
    assert told.tree is not None
    assert drawn(told.tree) == [
        'address x@localhost: action a; { ... } by "@": ann',
        ".name ann: user ann (not in { ... }) -> 1",
    ]


async def test_what_cannot_be_read_now_is_where_the_tree_ends(configured: Configured) -> None:
    configured.write("aliases", "x: :include:/nowhere\n")
    told = await Explaining(configured, FakeUsers("ann")).explanation(CONF, "x@localhost")
    assert told.refused is not None
    assert told.refused.reply == "451 4.3.0 Temporary failure"
    assert told.tree is not None
    last = drawn(told.tree)[-1]
    assert last.endswith("/nowhere: No such file or directory")
    assert last.startswith("...error temporary failure: ")


async def test_a_table_of_a_rule_that_is_gone_is_told_below_the_address(configured: Configured) -> None:
    path = configured.write("vdoms", "example.org\n")
    configured.write("aliases", "x: ann\n")
    config = configured.load(CONF.replace("match for local", "match for domain <vdoms> reject\nmatch for local"))
    path.unlink()
    told = await Explaining(configured, FakeUsers("ann")).by(config, "x@example.org")
    assert told.tree is not None
    assert [node.kind for node in told.tree.children] == ["error"]
    (asked,) = told.asked
    assert asked.trials[0].reason.endswith("nothing can be decided now")


async def test_a_long_list_tells_the_rules_of_its_first_addresses_alone(configured: Configured) -> None:
    configured.write("list", "".join(f"a{number}@example.org\n" for number in range(2 * MAX_ASKED)))
    configured.write("aliases", "x: :include:/etc/smtpd/list\n")
    told = await Explaining(configured, FakeUsers()).explanation(CONF, "x@localhost")
    assert len(told.asked) == MAX_ASKED
    assert len(told.envelopes) == 2 * MAX_ASKED
