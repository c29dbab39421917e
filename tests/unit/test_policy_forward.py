"""A user's .forward: how it is read, when it counts, and what it may say."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.admit import MAX_FETCHES, Admitted, Refused, admit
from policy.config import REPORT_FACTS, Config
from policy.expand import MAX_DESTINATIONS, expand
from policy.forward import (
    MAX_OCTETS,
    MAX_TARGETS,
    NO_FORWARDS,
    Forward,
    ForwardAnswer,
    ForwardDeferred,
    ForwardRefused,
    NoForward,
    Pending,
    parse_forward,
)
from policy.tables.passwd import Found, User
from policy.target import TargetSyntaxError
from spool.address import Address, parse_address
from spool.lane import Lane
from spool.message import Destination, Recipient
from spool.reply import Reply
from tests.tools.configured import Configured
from tests.tools.forwarding import FakeForwards, forward

pytestmark = pytest.mark.anyio

OFFICE = """
action "local" mbox alias <aliases>
action "out" relay
match from any for local action "local"
match for any action "out"
"""
SHARED = """
action "shared" maildir user "ann" alias <aliases>
action "out" relay
match for local action "shared"
match for any action "out"
"""


class Users:
    """Three users, and root."""

    def known(self, name: str) -> Found:
        uid = {"root": 0, "ann": 1001, "bob": 1002, "cid": 1003}.get(name)
        return Found(None if uid is None else User(name, uid, uid, f"/home/{name}"))

    async def fetch(self, name: str) -> Found:
        return self.known(name)


class Crowd:
    """Everybody exists."""

    def known(self, name: str) -> Found:
        return Found(User(name, 1000, 1000, f"/home/{name}"))

    async def fetch(self, name: str) -> Found:
        return self.known(name)


USERS = Users()


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def office(configured: Configured, aliases: str = "", text: str = OFFICE) -> Config:
    configured.write("aliases", aliases)
    return configured.load(text)


async def ask(config: Config, address: str, files: dict[str, ForwardAnswer]) -> Admitted | Refused:
    return await admit(config, REPORT_FACTS, Recipient(parse_address(address)), USERS, FakeForwards(files))


async def destinations(config: Config, address: str, **files: ForwardAnswer | str) -> list[Destination]:
    answer = await ask(config, address, as_answers(files))
    assert isinstance(answer, Admitted), answer
    return [envelope.destination for envelope in answer.envelopes]


async def ends(config: Config, address: str, **files: ForwardAnswer | str) -> list[str]:
    found = await destinations(config, address, **files)
    return [each.target or each.user or str(each.address) for each in found]


async def refusal(config: Config, address: str, **files: ForwardAnswer | str) -> Refused:
    answer = await ask(config, address, as_answers(files))
    assert isinstance(answer, Refused), answer
    return answer


def as_answers(files: dict[str, ForwardAnswer | str]) -> dict[str, ForwardAnswer]:
    return {name: forward(each) if isinstance(each, str) else each for name, each in files.items()}


# How it is read


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("", []),
        ("\n\n# on holiday\n", []),
        ("zoe@example.net", ["zoe@example.net"]),
        ("ann, zoe@example.net\nbob\n", ["ann", "zoe@example.net", "bob"]),
        ("ann, # me too\nbob#x@example.net\n", ["ann", "bob#x@example.net"]),
        ("ann, \\\n  bob\r\n", ["ann", "bob"]),
        ("ann,\n,bob,\n", ["ann", "bob"]),
        ('"|vacation -m \\"#1\\" ann, bob"', ['|vacation -m "#1" ann, bob']),
        ("\\ann", ["ann"]),
    ],
)
def test_a_forward_is_lines_of_targets_with_comments_and_continuations(text: str, targets: list[str]) -> None:
    assert [str(target) for target in parse_forward(text.encode())] == targets


@pytest.mark.parametrize("text", ["no such thing!", 'ann, "bob', "ann\0", "\udcff".encode("utf-8", "surrogateescape")])
def test_a_forward_that_makes_no_sense_has_no_meaning_at_all(text: str | bytes) -> None:
    with pytest.raises(TargetSyntaxError):
        parse_forward(text if isinstance(text, bytes) else text.encode())


def test_a_forward_may_have_so_many_octets_and_targets_and_no_more() -> None:
    assert len(parse_forward(b"\n".join([b"ann"] * MAX_TARGETS))) == MAX_TARGETS
    assert parse_forward(b"ann#".replace(b"#", b" #").ljust(MAX_OCTETS, b"."))
    with pytest.raises(TargetSyntaxError, match="targets"):
        parse_forward(b",".join([b"ann"] * (MAX_TARGETS + 1)))
    with pytest.raises(TargetSyntaxError, match="octets"):
        parse_forward(b"ann #".ljust(MAX_OCTETS + 1, b"."))


@given(st.binary(max_size=200) | st.text("ab,\\\"'#|/@:\n error:550include", max_size=80).map(str.encode))
def test_any_content_is_targets_or_one_error(content: bytes) -> None:
    with contextlib.suppress(TargetSyntaxError):
        assert isinstance(parse_forward(content), tuple)


# When it counts


async def test_mail_for_a_user_goes_where_the_forward_says(configured: Configured) -> None:
    assert await ends(office(configured), "ann@localhost", ann="zoe@example.net, bob") == ["zoe@example.net", "bob"]


@pytest.mark.parametrize("answer", [NoForward(), Forward(b""), Forward(b"# later\n")])
async def test_mail_stays_with_a_user_whose_forward_is_absent_or_empty(
    configured: Configured, answer: ForwardAnswer
) -> None:
    assert await ends(office(configured), "ann@localhost", ann=answer) == ["ann"]


@pytest.mark.parametrize("own", ["ann", "\\ann", "ANN", "me", "\\me", "ann@localhost"])
async def test_the_own_name_in_a_forward_keeps_a_copy(configured: Configured, own: str) -> None:
    config = office(configured, "ann ann\n")
    assert await ends(config, "ann@localhost", ann=f"{own}, zoe@example.net") == ["ann", "zoe@example.net"]


async def test_the_own_name_in_a_forward_keeps_the_tag_by_which_the_mail_came(configured: Configured) -> None:
    found = await destinations(office(configured), "ann+work@localhost", ann="me, ann+copy, bob")
    assert [(each.user, each.extension) for each in found] == [("ann", "work"), ("ann", "copy"), ("bob", "")]


async def test_the_forward_of_an_alias_s_user_counts_too(configured: Configured) -> None:
    config = office(configured, "ann ann, bob\n")
    assert await ends(config, "ann@localhost", ann="zoe@example.net") == ["zoe@example.net", "bob"]


async def test_the_forward_of_a_user_in_a_forward_counts_too(configured: Configured) -> None:
    assert await ends(office(configured), "ann@localhost", ann="bob", bob="cid", cid="me") == ["cid"]


async def test_forwards_that_lead_back_to_each_other_are_refused(configured: Configured) -> None:
    refused = await refusal(office(configured), "ann@localhost", ann="bob", bob="ann")
    assert refused.reply == Reply(550, "5.2.4", "Mailing list expansion problem: <ann@localhost>")
    assert "ann -> bob -> ann" in refused.reason


async def test_where_one_user_receives_for_all_only_this_user_s_forward_counts(configured: Configured) -> None:
    config = office(configured, "", SHARED)
    assert await ends(config, "bob@localhost", bob="zoe@example.net") == ["bob"]
    assert await ends(config, "ann@localhost", ann="zoe@example.net") == ["zoe@example.net"]


async def test_a_relayed_address_is_nobody_s_to_forward(configured: Configured) -> None:
    assert await ends(office(configured), "ann@example.net", ann="bob") == ["ann@example.net"]


# What it may say


async def test_commands_and_files_of_a_forward_belong_to_its_user_and_wait_apart(configured: Configured) -> None:
    config = office(configured)
    answer = await ask(config, "ann+x@localhost", {"ann": forward('"|vacation ann", /home/ann/copy, me')})
    assert isinstance(answer, Admitted)
    address, root = Address("ann+x", "localhost"), configured.layout.root
    assert [envelope.destination for envelope in answer.envelopes] == [
        Destination(address, "ann", "x", "|vacation ann"),
        Destination(address, "ann", "x", f"{root}/home/ann/copy"),
        Destination(address, "ann", "x"),
    ]
    assert [envelope.lane for envelope in answer.envelopes] == [
        Lane("local", "ann|vacation ann"),
        Lane("local", f"ann{root}/home/ann/copy"),
        Lane("local", "ann"),
    ]


async def test_commands_of_an_alias_that_a_forward_names_are_the_alias_s(configured: Configured) -> None:
    config = office(configured, 'log "|logger"\n')
    (found,) = await destinations(config, "ann@localhost", ann="log")
    assert (found.user, found.target) == ("", "|logger")


@pytest.mark.parametrize("target", ["|sh", "/tmp/x"])
async def test_root_s_forward_runs_no_commands_and_writes_no_files(configured: Configured, target: str) -> None:
    refused = await refusal(office(configured), "root@localhost", root=target)
    assert refused.reply == Reply(451, "4.2.4", "Mailing list expansion problem: <root@localhost>")
    assert "root may not use commands and files" in refused.reason


async def test_root_s_forward_forwards(configured: Configured) -> None:
    assert await ends(office(configured), "root@localhost", root="ann") == ["ann"]


async def test_a_forward_includes_nothing(configured: Configured) -> None:
    (Path(configured.layout.root) / "list").write_text("bob\n")
    assert await ends(office(configured), "ann@localhost", ann=":include:/list, cid") == ["cid"]


async def test_a_forward_may_refuse_with_its_own_words(configured: Configured) -> None:
    refused = await refusal(office(configured), "ann@localhost", ann='"error:550 5.1.6 Gone, for good"')
    assert refused.reply == Reply(550, "5.1.6", "Gone, for good: <ann@localhost>")


# What cannot be used


async def test_a_forward_that_cannot_be_understood_is_trouble_for_now_and_the_log_hears_why(
    configured: Configured,
) -> None:
    refused = await refusal(office(configured), "ann@localhost", ann="zoe at example.net")
    assert refused.reply == Reply(451, "4.2.4", "Mailing list expansion problem: <ann@localhost>")
    assert refused.reason.startswith('<ann@localhost>: the .forward of ann: "zoe at example.net" is neither')


async def test_a_forward_that_cannot_be_trusted_is_refused_for_good(configured: Configured) -> None:
    refused = await refusal(office(configured), "ann@localhost", ann=ForwardRefused("others may write to it"))
    assert refused.reply == Reply(550, "5.2.4", "Mailing list expansion problem: <ann@localhost>")
    assert refused.reason == "<ann@localhost>: the .forward of ann: others may write to it"


async def test_a_forward_that_cannot_be_read_now_is_trouble_for_now(configured: Configured) -> None:
    refused = await refusal(office(configured), "ann@localhost", ann=ForwardDeferred("no answer in time"))
    assert refused.reply == Reply(451, "4.2.4", "Mailing list expansion problem: <ann@localhost>")
    assert refused.reason == "<ann@localhost>: the .forward of ann: no answer in time"


# How it is asked for


def test_an_expansion_names_every_file_it_lacks_at_once(configured: Configured) -> None:
    config = office(configured, "team ann, bob, ann, zoe@example.net\n")
    with pytest.raises(Pending) as pending:
        expand(config, REPORT_FACTS, USERS, Address("team", "localhost"), FakeForwards({}))
    assert [user.name for user in pending.value.users] == ["ann", "bob"]


def test_an_expansion_that_knows_everything_waits_for_nothing(configured: Configured) -> None:
    files = FakeForwards({"ann": forward("bob")}, known_at_once=True)
    (final,) = expand(office(configured), REPORT_FACTS, USERS, Address("ann", "localhost"), files)
    assert (final.destination.user, files.fetched) == ("bob", [])


async def test_each_file_is_fetched_once_for_a_recipient_whatever_is_forgotten_meanwhile(
    configured: Configured,
) -> None:
    files = FakeForwards({"ann": forward("bob, me"), "bob": forward("cid")})
    recipient = Recipient(Address("ann", "localhost"))
    answer = await admit(office(configured), REPORT_FACTS, recipient, USERS, files)
    assert isinstance(answer, Admitted)
    assert files.fetched == ["ann", "bob", "cid"]


async def test_the_files_of_a_list_are_fetched_together_but_so_many_at_once(configured: Configured) -> None:
    files = FakeForwards({})
    config = office(configured, f"team {', '.join(f'user{number}' for number in range(50))}\n")
    await admit(config, REPORT_FACTS, Recipient(Address("team", "localhost")), Crowd(), files)
    assert (len(files.fetched), files.most_at_once) == (50, MAX_FETCHES)


async def test_more_users_than_a_list_server_s_are_refused_before_any_file_is_fetched(configured: Configured) -> None:
    files = FakeForwards({})
    config = office(configured, f"team {', '.join(f'u{number}' for number in range(MAX_DESTINATIONS + 1))}\n")
    answer = await admit(config, REPORT_FACTS, Recipient(Address("team", "localhost")), Crowd(), files)
    assert isinstance(answer, Refused)
    assert (answer.reply.status, files.fetched) == ("5.2.4", [])


async def test_where_nobody_s_forward_is_looked_at_mail_stays(configured: Configured) -> None:
    user = User("ann", 1001, 1001, "/home/ann")
    assert NO_FORWARDS.known(user) == await NO_FORWARDS.fetch(user) == NoForward()
    (final,) = expand(office(configured), REPORT_FACTS, USERS, Address("ann", "localhost"))
    assert final.destination.user == "ann"


# Actions without mailboxes

FORWARD_ONLY = """
action "away" forward-only alias <aliases>
action "out" relay
match for local action "away"
match for any action "out"
"""
EXPAND_ONLY = FORWARD_ONLY.replace("forward-only", "expand-only")


@pytest.mark.parametrize("text", [FORWARD_ONLY, EXPAND_ONLY])
async def test_an_action_without_mailboxes_forwards_what_aliases_and_forwards_send_away(
    configured: Configured, text: str
) -> None:
    config = office(configured, "list zoe@example.net, ann\n", text)
    assert await ends(config, "list@localhost", ann="yan@example.net") == ["zoe@example.net", "yan@example.net"]


@pytest.mark.parametrize("own", ["", "me", "me, zoe@example.net"])
@pytest.mark.parametrize(("text", "code"), [(FORWARD_ONLY, (451, "4.2.4")), (EXPAND_ONLY, (550, "5.2.4"))])
async def test_an_action_without_mailboxes_keeps_no_copy(
    configured: Configured, text: str, code: tuple[int, str], own: str
) -> None:
    refused = await refusal(office(configured, "", text), "ann@localhost", ann=own)
    assert refused.reply == Reply(*code, "Mailing list expansion problem: <ann@localhost>")
    assert "only: ann is a user" in refused.reason


@pytest.mark.parametrize("target", ["|logger", "/var/log/mail.txt", '"error:550 5.1.6 Gone"'])
async def test_forward_only_takes_no_commands_files_and_errors(configured: Configured, target: str) -> None:
    config = office(configured, f"log {target}\n", FORWARD_ONLY)
    assert (await refusal(config, "log@localhost")).reply.status == "4.2.4"
    assert (await refusal(config, "ann@localhost", ann=target)).reply.status == "4.2.4"


async def test_expand_only_takes_commands_and_files(configured: Configured) -> None:
    config = office(configured, "log |logger, /dev/null\n", EXPAND_ONLY)
    assert await ends(config, "log@localhost") == ["|logger", f"{configured.layout.root}/dev/null"]
    assert await ends(config, "ann@localhost", ann="|vacation") == ["|vacation"]


# Users out of a table


PEOPLE = """
action "people" maildir userbase { ann = "4001:4002:/srv/ann", su = "0:0:/srv/su" } alias { team = "ann, zoe" }
match for local action "people"
"""


async def test_the_users_of_an_action_may_come_out_of_a_table(configured: Configured) -> None:
    config = configured.load(PEOPLE)
    assert await ends(config, "ann+x@localhost") == ["ann"]
    refused = await refusal(config, "bob@localhost")
    assert refused.reply == Reply(550, "5.1.1", "Invalid recipient: <bob@localhost>")
    assert refused.reason.startswith('<bob@localhost>: there is no user "bob" in table ')
    assert (await refusal(config, "team@localhost")).reply.status == "5.1.1"


async def test_the_forward_of_a_user_out_of_a_table_lies_in_the_home_that_the_table_names(
    configured: Configured,
) -> None:
    files = FakeForwards({})
    recipient = Recipient(Address("ann", "localhost"))
    await admit(configured.load(PEOPLE), REPORT_FACTS, recipient, USERS, files)
    assert set(files.asked) == {User("ann", 4001, 4002, "/srv/ann")}


async def test_nobody_with_root_s_number_uses_commands_in_a_forward(configured: Configured) -> None:
    assert (await refusal(configured.load(PEOPLE), "su@localhost", su="|sh")).reply.status == "4.2.4"
