"""One RCPT: what is admitted, to which destinations, and what is refused with which words."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path

import pytest

from policy.admit import Admitted, Refused, admit
from policy.config import REPORT_FACTS, Config, Facts
from policy.errors import TableUnavailable
from policy.expand import MAX_DESTINATIONS
from policy.tables.sources import PROGRAM_LIFETIME
from spool.address import Address, parse_address
from spool.lane import Lane
from spool.message import Destination, Notify, Recipient
from spool.reply import Reply
from tests.tools.configured import Configured, FakeUsers

pytestmark = pytest.mark.anyio

SENDER = Address("sender", "example.net")
SOCKET = Facts("local", SENDER, login="")
STRANGER = Facts("198.51.100.7", SENDER)
USERS = FakeUsers("ann", "bob", "root", "lists")

HYBRID = """
action "local" mbox alias <aliases>
action "out" relay
match from any for local action "local"
match for any action "out"
"""
VIRTUAL = """
action "virtual" maildir virtual <vusers>
action "out" relay
match from any for domain { "example.com", "example.org" } action "virtual"
match for any action "out"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def hybrid(configured: Configured, aliases: str) -> Config:
    configured.write("aliases", aliases)
    return configured.load(HYBRID)


def virtual(configured: Configured, vusers: str) -> Config:
    configured.write("vusers", vusers)
    return configured.load(VIRTUAL)


async def ask(config: Config, address: str, facts: Facts = SOCKET) -> Admitted | Refused:
    return await admit(config, facts, Recipient(parse_address(address)), USERS)


async def ends(config: Config, address: str, facts: Facts = SOCKET) -> list[str]:
    """Where mail for ``address`` ends: users, commands and files by name, other addresses in full."""
    answer = await ask(config, address, facts)
    assert isinstance(answer, Admitted), answer
    destinations = [envelope.destination for envelope in answer.envelopes]
    return [each.user or each.target or str(each.address) for each in destinations]


async def refusal(config: Config, address: str, facts: Facts = SOCKET) -> Reply:
    answer = await ask(config, address, facts)
    assert isinstance(answer, Refused), answer
    return answer.reply


# Rules


async def test_a_local_user_gets_one_envelope_with_the_action_s_name_and_the_user_s_lane(
    configured: Configured,
) -> None:
    config = hybrid(configured, "")
    answer = await ask(config, "Ann@localhost")
    assert isinstance(answer, Admitted)
    (envelope,) = answer.envelopes
    assert envelope.recipient == Recipient(Address("Ann", "localhost"))
    assert envelope.destination == Destination(Address("Ann", "localhost"), "ann")
    assert envelope.lane == Lane("local", "ann")
    assert (envelope.ttl, envelope.warn_after) == (config.queue_ttl, config.warn_intervals[0])


async def test_a_relayed_address_waits_in_the_lane_of_its_domain(configured: Configured) -> None:
    answer = await ask(hybrid(configured, ""), "zoe@Example.NET")
    assert isinstance(answer, Admitted)
    assert answer.envelopes[0].lane == Lane("out", "example.net")


async def test_mail_through_a_smarthost_waits_in_one_lane_whatever_its_domain(configured: Configured) -> None:
    config = configured.load('action "out" relay host "smtp://h.example"\nmatch for any action "out"\n')
    answer = await ask(config, "zoe@example.net")
    assert isinstance(answer, Admitted)
    assert answer.envelopes[0].lane == Lane("out", "")


async def test_the_ttl_of_an_action_goes_before_the_queue_s(configured: Configured) -> None:
    config = configured.load('queue ttl 2d\naction "out" relay ttl 1h\nmatch for any action "out"\n')
    answer = await ask(config, "zoe@example.net")
    assert isinstance(answer, Admitted)
    assert answer.envelopes[0].ttl == 3_600_000


async def test_an_unknown_user_is_refused_at_once(configured: Configured) -> None:
    reply = await refusal(hybrid(configured, ""), "nobody@localhost")
    assert reply == Reply(550, "5.1.1", "Invalid recipient: <nobody@localhost>")


async def test_relaying_for_strangers_is_refused(configured: Configured) -> None:
    answer = await ask(hybrid(configured, ""), "zoe@example.net", STRANGER)
    assert isinstance(answer, Refused)
    assert answer.reply == Reply(550, "5.7.1", "Invalid recipient: <zoe@example.net>")
    assert answer.reason == "<zoe@example.net>: no rule accepts <zoe@example.net>"


async def test_a_rule_that_rejects_refuses_and_the_log_hears_which(configured: Configured) -> None:
    config = configured.load(
        'action "out" relay\nmatch mail-from "@example.net" for any reject\nmatch for any action "out"\n'
    )
    answer = await ask(config, "zoe@example.net")
    assert isinstance(answer, Refused)
    assert answer.reply.status == "5.7.1"
    assert "smtpd.conf:2 rejects" in answer.reason


async def test_a_report_of_ours_finds_its_way_like_local_mail(configured: Configured) -> None:
    config = hybrid(configured, "root ann\n")
    assert await ends(config, "root@localhost", REPORT_FACTS) == ["ann"]
    assert await ends(config, "zoe@example.net", REPORT_FACTS) == ["zoe@example.net"]


# Delay notices


@pytest.mark.parametrize("notify", [Notify.NEVER, Notify.FAILURE, Notify.SUCCESS])
async def test_nobody_is_warned_who_did_not_ask_for_delay(configured: Configured, notify: Notify) -> None:
    recipient = Recipient(Address("ann", "localhost"), notify=notify, notify_given=True)
    answer = await admit(hybrid(configured, ""), SOCKET, recipient, USERS)
    assert isinstance(answer, Admitted)
    assert answer.envelopes[0].warn_after is None


async def test_a_null_sender_is_never_warned(configured: Configured) -> None:
    answer = await ask(hybrid(configured, ""), "ann@localhost", REPORT_FACTS)
    assert isinstance(answer, Admitted)
    assert answer.envelopes[0].warn_after is None


# Aliases


async def test_an_alias_becomes_its_targets_in_their_order(configured: Configured) -> None:
    assert await ends(hybrid(configured, "team bob, ann\n"), "team@localhost") == ["bob", "ann"]


async def test_aliases_are_found_whatever_the_case_and_the_local_domain(configured: Configured) -> None:
    config = hybrid(configured, "Team: ANN\n")
    assert await ends(config, "TEAM@localhost") == ["ann"]
    assert await ends(config, "team@mail.example.org") == ["ann"]


async def test_an_alias_of_an_alias_is_followed(configured: Configured) -> None:
    assert await ends(hybrid(configured, "a b\nb c\nc ann\n"), "a@localhost") == ["ann"]


async def test_a_target_that_is_reached_twice_gets_one_copy(configured: Configured) -> None:
    config = hybrid(configured, "all ann, team, ann@localhost\nteam bob, ann\n")
    assert await ends(config, "all@localhost") == ["ann", "bob"]


async def test_one_address_reached_twice_is_relayed_once_whatever_the_case_of_its_domain(
    configured: Configured,
) -> None:
    config = hybrid(configured, "all zoe@example.net, zoe@EXAMPLE.net\n")
    assert await ends(config, "all@localhost") == ["zoe@example.net"]


async def test_a_name_within_its_own_alias_is_the_user_of_that_name(configured: Configured) -> None:
    assert await ends(hybrid(configured, "ann ann, bob\n"), "ann@localhost") == ["ann", "bob"]


async def test_an_alias_to_its_own_address_is_the_user_of_that_name(configured: Configured) -> None:
    assert await ends(hybrid(configured, "ann ann@localhost, bob\n"), "ann@localhost") == ["ann", "bob"]


async def test_an_alias_for_itself_without_such_a_user_is_refused(configured: Configured) -> None:
    reply = await refusal(hybrid(configured, "self self, ann\n"), "self@localhost")
    assert reply == Reply(550, "5.1.1", "Invalid recipient: <self@localhost>")


async def test_a_stranger_s_mail_is_forwarded_where_the_stranger_could_not_send(configured: Configured) -> None:
    assert await ends(hybrid(configured, "away zoe@example.net\n"), "away@localhost", STRANGER) == ["zoe@example.net"]


async def test_a_forward_that_no_rule_accepts_refuses_the_recipient(configured: Configured) -> None:
    configured.write("aliases", "away zoe@example.net\n")
    config = configured.load('action "local" mbox alias <aliases>\nmatch for local action "local"\n')
    assert await refusal(config, "away@localhost") == Reply(550, "5.7.1", "Invalid recipient: <away@localhost>")


async def test_rules_look_at_the_address_of_the_moment_and_not_at_the_recipient(configured: Configured) -> None:
    configured.write("aliases", "list: bob@example.com\n")
    rules = 'match for any rcpt-to "list@localhost" action "local"\nmatch for any rcpt-to "bob" action "out"\n'
    config = configured.load(f'action "local" mbox alias <aliases>\naction "out" relay\n{rules}')
    verdict = await ask(config, "list@localhost")
    assert isinstance(verdict, Admitted)
    assert [envelope.lane for envelope in verdict.envelopes] == [Lane("out", "example.com")]


async def test_one_bad_branch_refuses_the_whole_recipient(configured: Configured) -> None:
    assert (await refusal(hybrid(configured, "team ann, nobody\n"), "team@localhost")).status == "5.1.1"


async def test_without_an_alias_table_users_are_asked_directly(configured: Configured) -> None:
    config = configured.load('action "local" mbox\nmatch for local action "local"\n')
    assert await ends(config, "ann@localhost") == ["ann"]


# Virtual addresses


async def test_the_most_exact_virtual_entry_wins(configured: Configured) -> None:
    entries = ["x+t@example.com a1", "x@example.com ann", "x+t a3", "x bob", "@example.com lists", "@ root"]
    order = []
    for index in range(len(entries)):
        config = virtual(configured, "\n".join(entries[index:]).replace("a1", "ann").replace("a3", "ann"))
        order.append((await ends(config, "x+t@example.com"))[0])
    assert order == ["ann", "ann", "ann", "bob", "lists", "root"]


async def test_a_virtual_address_belongs_to_its_domain(configured: Configured) -> None:
    config = virtual(configured, "info@example.com ann\ninfo@example.org bob\n")
    assert await ends(config, "info@example.com") == ["ann"]
    assert await ends(config, "info@example.org") == ["bob"]


async def test_a_virtual_address_that_is_not_in_the_table_is_refused(configured: Configured) -> None:
    reply = await refusal(virtual(configured, "info@example.com ann\n"), "ann@example.com")
    assert reply == Reply(550, "5.1.1", "Invalid recipient: <ann@example.com>")


async def test_a_catch_all_takes_every_address_but_no_name_on_the_right(configured: Configured) -> None:
    config = virtual(configured, "@example.com nobody\n@ ann\n")
    assert await ends(config, "whoever@example.org") == ["ann"]
    assert (await refusal(config, "whoever@example.com")).status == "5.1.1"


async def test_a_name_on_the_right_is_looked_up_as_name_at_nothing_and_as_name(configured: Configured) -> None:
    assert await ends(virtual(configured, "a@example.com list\nlist bob\n"), "a@example.com") == ["bob"]
    assert await ends(virtual(configured, "a@example.com list\nlist@ bob\n"), "a@example.com") == ["bob"]


async def test_virtual_addresses_lead_to_users_to_each_other_and_away(configured: Configured) -> None:
    config = virtual(configured, "a@example.com ann,b@example.org,zoe@example.net\nb@example.org bob\n")
    assert await ends(config, "a@example.com", STRANGER) == ["ann", "bob", "zoe@example.net"]


async def test_the_envelope_keeps_the_nearest_address_and_the_recipient_as_given(configured: Configured) -> None:
    config = virtual(configured, "a@example.com b@example.org\nb@example.org bob\n")
    answer = await ask(config, "a@example.com")
    assert isinstance(answer, Admitted)
    (envelope,) = answer.envelopes
    assert envelope.destination == Destination(Address("b", "example.org"), "bob")
    assert envelope.recipient.address == Address("a", "example.com")


# Sub-addresses


async def test_a_tag_reaches_the_user_as_extension(configured: Configured) -> None:
    answer = await ask(hybrid(configured, ""), "ann+Work@localhost")
    assert isinstance(answer, Admitted)
    assert answer.envelopes[0].destination == Destination(Address("ann+Work", "localhost"), "ann", "work")


async def test_an_alias_with_the_tag_goes_before_the_one_without(configured: Configured) -> None:
    config = hybrid(configured, "ann+work bob\nann root\n")
    assert await ends(config, "ann+work@localhost") == ["bob"]
    assert await ends(config, "ann+other@localhost") == ["root"]


async def test_the_delimiter_is_the_configuration_s(configured: Configured) -> None:
    config = configured.load('smtp sub-addr-delim "-"\naction "local" mbox\nmatch for local action "local"\n')
    assert await ends(config, "ann-work@localhost") == ["ann"]
    assert (await refusal(config, "ann+work@localhost")).status == "5.1.1"


# Other targets


async def test_commands_and_files_become_envelopes_of_their_own(configured: Configured) -> None:
    config = hybrid(configured, "log \"|/usr/bin/logger -t 'a, b'\", /var/log/mail.txt\n")
    answer = await ask(config, "log@localhost")
    assert isinstance(answer, Admitted)
    assert [(each.destination.user, each.destination.target) for each in answer.envelopes] == [
        ("", "|/usr/bin/logger -t 'a, b'"),
        ("", f"{configured.layout.root}/var/log/mail.txt"),
    ]
    assert answer.envelopes[0].lane == Lane("local", "|/usr/bin/logger -t 'a, b'")


async def test_an_error_target_refuses_with_its_own_words(configured: Configured) -> None:
    config = hybrid(configured, "gone error:550 5.1.6 She moved away\nlater :error:451 Come again\n")
    assert await refusal(config, "gone@localhost") == Reply(550, "5.1.6", "She moved away: <gone@localhost>")
    assert await refusal(config, "later@localhost") == Reply(451, "4.0.0", "Come again: <later@localhost>")


async def test_an_included_list_is_read_line_by_line_and_bad_lines_are_passed_over(configured: Configured) -> None:
    path = Path(configured.layout.root) / "list"
    path.write_text("# members\nann\n\nbob, zoe@example.net\nno such thing!\n")
    assert await ends(hybrid(configured, "all :include:/list\n"), "all@localhost") == ["ann", "bob", "zoe@example.net"]


async def test_a_bad_line_of_an_included_list_is_not_shown_in_the_log(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(configured.layout.root) / "list").write_text("ann\nroot:$6$secret:19000::\n")
    await ends(hybrid(configured, "all :include:/list\n"), "all@localhost")
    assert "list:2: no list of targets" in caplog.text
    assert "secret" not in caplog.text


async def test_an_included_list_that_is_gone_is_trouble_for_now(configured: Configured) -> None:
    with pytest.raises(TableUnavailable):
        await ask(hybrid(configured, "all include:/nowhere\n"), "all@localhost")


async def test_an_alias_that_expands_to_nothing_is_refused(configured: Configured) -> None:
    (Path(configured.layout.root) / "list").write_text("# nobody yet\n")
    reply = await refusal(hybrid(configured, "all include:/list\n"), "all@localhost")
    assert reply == Reply(550, "5.2.4", "Mailing list expansion problem: <all@localhost>")


async def test_a_value_that_is_no_list_of_targets_is_trouble_for_now(configured: Configured) -> None:
    reply = await refusal(hybrid(configured, "bad ann # the boss\n"), "bad@localhost")
    assert reply == Reply(451, "4.2.4", "Mailing list expansion problem: <bad@localhost>")


# Bounds


@pytest.mark.parametrize(
    "aliases", ["a b\nb a\n", "a b\nb c, ann\nc a\n", "a b@localhost\nb a@localhost\n", "a :include:/list\n"]
)
async def test_aliases_that_lead_back_to_themselves_are_refused(configured: Configured, aliases: str) -> None:
    (Path(configured.layout.root) / "list").write_text(":include:/list\n")
    answer = await ask(hybrid(configured, aliases), "a@localhost")
    assert isinstance(answer, Refused)
    assert answer.reply == Reply(550, "5.2.4", "Mailing list expansion problem: <a@localhost>")
    assert "leads back to itself" in answer.reason


async def test_a_virtual_address_that_is_its_own_target_is_refused(configured: Configured) -> None:
    assert (await refusal(virtual(configured, "a@example.com a@example.com\n"), "a@example.com")).status == "5.2.4"


async def test_a_chain_of_aliases_may_have_eight_links_and_not_nine(configured: Configured) -> None:
    chain = "".join(f"a{number} a{number + 1}\n" for number in range(9)) + "a9 ann\n"
    config = hybrid(configured, chain)
    assert await ends(config, "a2@localhost") == ["ann"]
    assert (await refusal(config, "a1@localhost")).status == "5.2.4"


async def test_more_destinations_than_a_list_server_s_are_refused(configured: Configured) -> None:
    path = Path(configured.layout.root) / "list"
    path.write_text("\n".join(f"u{number}@example.net" for number in range(MAX_DESTINATIONS + 1)))
    assert (await refusal(hybrid(configured, "all :include:/list\n"), "all@localhost")).status == "5.2.4"


# Tables that change


async def test_an_alias_is_followed_as_soon_as_it_is_written(configured: Configured) -> None:
    config = hybrid(configured, "root ann\n")
    configured.write("aliases", "root bob\n")
    assert await ends(config, "root@localhost") == ["bob"]


async def test_an_alias_table_that_is_gone_is_trouble_for_now(configured: Configured) -> None:
    config = hybrid(configured, "root ann\n")
    (configured.folder / "aliases").unlink()
    with pytest.raises(TableUnavailable):
        await ask(config, "ann@localhost")


async def test_a_large_table_that_has_changed_is_read_before_it_is_asked(configured: Configured) -> None:
    filler = "".join(f"filler{number} ann\n" for number in range(80_000))
    config = hybrid(configured, filler + "root ann\n")
    configured.write("aliases", filler + "root bob\n")
    assert await ends(config, "root@localhost") == ["bob"]


async def test_facts_are_never_changed_by_an_expansion(configured: Configured) -> None:
    before = dataclasses.replace(STRANGER)
    await ask(hybrid(configured, "away zoe@example.net\n"), "away@localhost", STRANGER)
    assert before == STRANGER


# Traces


async def test_a_trace_tells_every_step_from_the_recipient_to_its_destinations(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    config = hybrid(configured, "root ann\n")
    with caplog.at_level(logging.DEBUG, "policy"):
        await ask(config, "root@localhost")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("policy.ruleset", f"<root@localhost>: the rule at {configured.folder}/smtpd.conf:4 matched"),
        ("policy.tables.lookup", 'table aliases: "root" -> ann'),
        ("policy.tables.lookup", 'table aliases: "ann" -> None'),
        ("policy.expand", "<root@localhost>: root@localhost -> root -> ann -> action local"),
    ]


async def test_an_alias_to_its_own_address_means_the_user_on_whatever_way_it_is_reached(
    configured: Configured,
) -> None:
    config = hybrid(configured, "team bob@localhost, zoe@example.net\nbob bob@localhost, ann\n")
    assert await ends(config, "bob@localhost") == ["bob", "ann"]
    assert await ends(config, "team@localhost") == ["bob", "ann", "zoe@example.net"]


async def test_an_alias_to_an_address_literal_is_an_address(configured: Configured) -> None:
    config = hybrid(configured, "here bob@[192.0.2.25]\naway ann@[198.51.100.1]\n")
    assert await ends(config, "here@localhost") == ["bob"]
    assert await ends(config, "away@localhost") == ["ann@[198.51.100.1]"]


async def test_a_name_on_the_right_of_a_virtual_address_is_looked_up_with_its_tag_first(
    configured: Configured,
) -> None:
    entries = ["list+x@ ann", "list@ bob", "list+x root", "list lists"]
    order = []
    for index in range(len(entries)):
        config = virtual(configured, "\n".join(["a@example.com list+x", *entries[index:]]))
        order.append((await ends(config, "a@example.com"))[0])
    assert order == ["ann", "bob", "root", "lists"]


async def test_a_recipient_waits_for_no_vault_that_it_does_not_need(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = (
        f"table passwords \"exec:sh -c 'echo >>{tmp_path}/passwords; echo isp ann:x'\"\n"
        'action "smarthost" relay host "smtps://isp@relay.example.net" auth <passwords>\n'
        'match from any for domain "away.example" action "smarthost"\n'
    )
    aliases = f"table aliases \"exec:sh -c 'echo >>{tmp_path}/aliases; echo staff ann'\"\n"
    config = configured.load(aliases + passwords + HYBRID)
    for table in config.tables.values():
        monkeypatch.setattr(table, "_now", lambda: time.monotonic() + PROGRAM_LIFETIME)
    recipient = Recipient(parse_address("staff@mail.example.org"))
    assert isinstance(await admit(config, SOCKET, recipient, USERS), Admitted)
    assert [(tmp_path / name).stat().st_size for name in ("aliases", "passwords")] == [2, 1]


# -- wishes for reports ------------------------------------------------------------------------------------------------

ALL = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY


def wishing(address: str, notify: Notify) -> Recipient:
    return Recipient(parse_address(address), "rfc822;team@example.org", notify, notify_given=True)


@pytest.mark.reliability("6 reports")
@pytest.mark.parametrize(("given", "passed_on"), [(ALL, Notify.FAILURE | Notify.DELAY), (Notify.SUCCESS, Notify.NEVER)])
async def test_of_an_alias_of_several_only_the_expansion_is_a_success(
    configured: Configured, given: Notify, passed_on: Notify
) -> None:
    team = wishing("team@mail.example.org", given)
    answer = await admit(hybrid(configured, "team ann, carl@example.net\n"), SOCKET, team, USERS)
    assert isinstance(answer, Admitted)
    assert answer.expanded == team
    assert {one.recipient for one in answer.envelopes} == {dataclasses.replace(team, notify=passed_on)}


@pytest.mark.reliability("6 reports")
@pytest.mark.parametrize(
    ("aliases", "notify", "facts"),
    [
        ("team ann\n", ALL, SOCKET),
        ("team ann, bob\n", Notify.FAILURE, SOCKET),
        ("team ann, bob\n", Notify.NEVER, SOCKET),
        ("team ann, bob\n", ALL, REPORT_FACTS),
    ],
    ids=["one", "failures only", "never", "null sender"],
)
async def test_any_other_alias_leaves_wishes_as_they_are(
    configured: Configured, aliases: str, notify: Notify, facts: Facts
) -> None:
    team = wishing("team@mail.example.org", notify)
    answer = await admit(hybrid(configured, aliases), facts, team, USERS)
    assert isinstance(answer, Admitted)
    assert answer.expanded is None
    assert {one.recipient for one in answer.envelopes} == {team}
