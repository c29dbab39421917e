from __future__ import annotations

import os
import pwd
from dataclasses import replace

import pytest

from delivery.deposit import Refused, ToCommand, ToMaildir, ToMbox
from delivery.identity import Identity
from delivery.planning import Plan, Planner, local_header
from policy.config import Command, LocalAction, Maildir, Mbox
from policy.tables.inline import InlineTable
from spool.address import Address
from spool.intent import MboxIntent
from spool.layout import Layout
from spool.message import Claimed
from spool.outcome import Deferred, Failed
from tests.tools.claims import claimed

ME = pwd.getpwuid(os.geteuid())
LAYOUT = Layout("/r", "/r/etc", "/r/spool", "/r/run", "/r/var/mail")
#: A system user without privileges that every Debian has.
GAMES = pwd.getpwnam("games")


def plan(one: Claimed, action: LocalAction, earlier: MboxIntent | None = None, since: int = 0) -> Plan:
    return Planner(LAYOUT, "x1", since, "-", becomes_others=os.geteuid() == 0).plan(one, action, earlier)


def refused(one: Claimed, action: LocalAction) -> Deferred | Failed:
    with pytest.raises(Refused) as caught:
        plan(one, action)
    return caught.value.outcome


def maildir(one: Claimed, path: str = "~/Maildir") -> ToMaildir:
    method = plan(one, Maildir(name="local", path=path)).deposit.method
    assert isinstance(method, ToMaildir)
    return method


def test_a_maildir_lies_in_the_users_home_and_its_file_has_a_name_for_ever() -> None:
    method = maildir(claimed(ME.pw_name, ordinal=3))
    assert method.path == f"{ME.pw_dir}/Maildir"
    assert method.name == "1700000000.M00000000000000000001E3.x1"
    assert maildir(claimed(ME.pw_name, ordinal=3, attempts=4)) == method


def test_a_path_may_hold_specifiers_and_be_absolute() -> None:
    one = claimed(ME.pw_name, address=Address("Bob", "Example.ORG"))
    path = "/srv/%{dest.domain:lowercase}/%{dest.user}"
    assert maildir(one, path).path == "/srv/example.org/Bob"


@pytest.mark.parametrize(("extension", "folder"), [("lists", "lists"), ("a/b", "a:b"), (".", ""), ("..", ""), ("", "")])
def test_a_tag_names_a_folder_inside_the_maildir(extension: str, folder: str) -> None:
    assert maildir(claimed(ME.pw_name, extension=extension)).folder == folder


def test_strip_takes_off_what_the_configuration_calls_a_tag() -> None:
    one = claimed(ME.pw_name, address=Address("bob-lists+x", "example.org"))
    assert maildir(one, "/srv/%{dest.user:strip}").path == "/srv/bob"


def test_an_mbox_has_the_users_name_in_the_directory_of_mailboxes() -> None:
    method = plan(claimed(ME.pw_name), Mbox(name="local")).deposit.method
    assert method == ToMbox(f"/r/var/mail/{ME.pw_name}", "ann@example.com", 1_700_000_000.0)


def test_a_file_that_an_alias_names_is_an_mbox_whatever_the_action() -> None:
    one = claimed("", target="/r/srv/archive", sender="")
    for action in (Mbox(name="local"), Maildir(name="local"), Command(name="local", command="procmail")):
        method = plan(one, replace(action, user=ME.pw_name)).deposit.method
        assert method == ToMbox("/r/srv/archive", "MAILER-DAEMON", 1_700_000_000.0)


@pytest.mark.parametrize(
    ("target", "expected"), [("/dev/null", True), ("/r/dev/null", True), ("/r/x", False), ("", False)]
)
def test_the_null_device_is_itself_below_a_root_too(target: str, expected: bool) -> None:
    assert Planner(LAYOUT, "x1", 0, "-", becomes_others=False).goes_nowhere(claimed("", target=target)) is expected


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user handles aliases himself")
def test_what_aliases_name_waits_for_the_user_who_handles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delivery.planning.ALIAS_USER", "no-such-user-here")
    outcome = refused(claimed("", target="|/bin/cat"), Mbox(name="local"))
    assert isinstance(outcome, Deferred)
    assert "no-such-user-here" in outcome.reply.text
    assert "aliases" in outcome.reply.text


def test_a_command_has_exactly_the_promised_environment() -> None:
    one = claimed(GAMES.pw_name, recipient="list@lists.example.org", extension="tag")
    result = plan(one, Command(name="local", command="procmail -f %{sender}"))
    method = result.deposit.method
    assert isinstance(method, ToCommand)
    assert result.who.uid == GAMES.pw_uid
    assert method.arguments == ("procmail", "-f", "ann@example.com")
    assert method.folder == GAMES.pw_dir
    assert method.environment == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "DOMAIN": "lists.example.org",
        "HOME": GAMES.pw_dir,
        "ORIGINAL_RECIPIENT": "list@lists.example.org",
        "RECIPIENT": "games@example.org",
        "SHELL": "/bin/sh",
        "LOCAL": "list",
        "LOGNAME": "games",
        "USER": "games",
        "SENDER": "ann@example.com",
        "EXTENSION": "tag",
        "MESSAGE_ID": "00000000000000000001",
        "ENVELOPE_ID": "00000000000000000001.1",
    }


def test_the_null_sender_is_empty_in_the_environment_and_no_tag_means_no_extension() -> None:
    method = plan(claimed(GAMES.pw_name, sender=""), Command(name="local", command="x %{mbox.from}")).deposit.method
    assert isinstance(method, ToCommand)
    assert method.environment["SENDER"] == ""
    assert "EXTENSION" not in method.environment
    assert method.arguments == ("x", "MAILER-DAEMON")


@pytest.mark.parametrize("target", ["", "|procmail"])
def test_a_command_never_runs_as_root(target: str) -> None:
    outcome = refused(claimed("root", target=target), Command(name="local", command="procmail"))
    assert isinstance(outcome, Failed)
    assert outcome.reply.text == "MDA not allowed to deliver to: root"


@pytest.mark.parametrize(("target", "wrapped"), [("", ["procmail", "-f", "-"]), ("|vacation ann", ["vacation", "ann"])])
def test_a_wrapper_is_run_in_place_of_every_command(target: str, wrapped: list[str]) -> None:
    action = Command(name="local", command="procmail -f -", wrapper="spamc -u %{user.username} -e %{mda}")
    method = plan(claimed(GAMES.pw_name, target=target), action).deposit.method
    assert isinstance(method, ToCommand)
    assert list(method.arguments) == ["spamc", "-u", "games", "-e", *wrapped]


def test_an_action_with_a_user_delivers_as_that_user_for_recipients_of_its_own() -> None:
    action = Maildir(name="local", path="/srv/%{user.username}", user=GAMES.pw_name)
    result = plan(claimed("virtual"), action)
    assert result.who.name == "games"
    assert isinstance(result.deposit.method, ToMaildir)
    assert result.deposit.method.path == "/srv/virtual"


def test_mail_waits_for_the_user_of_an_action_whom_the_system_does_not_know() -> None:
    outcome = refused(claimed(ME.pw_name), Maildir(name="local", user="no-such-user-here"))
    assert isinstance(outcome, Deferred)
    assert "no-such-user-here" in outcome.reply.text


def test_a_user_who_is_gone_defers() -> None:
    outcome = refused(claimed("no-such-user-here"), Mbox(name="local"))
    assert isinstance(outcome, Deferred)
    assert "no-such-user-here" in outcome.reply.text


def test_a_wrong_specifier_defers_until_the_operator_has_mended_it() -> None:
    outcome = refused(claimed(ME.pw_name), Maildir(name="local", path="~/%{nonsense}"))
    assert isinstance(outcome, Deferred)
    assert outcome.reply.status == "4.3.5"


def test_an_address_that_leads_out_of_a_directory_fails() -> None:
    one = claimed(ME.pw_name, address=Address("..", "example.org"))
    outcome = refused(one, Maildir(name="local", path="/srv/%{dest.user}/Maildir"))
    assert isinstance(outcome, Failed)


def test_the_header_names_the_sender_and_the_recipient_as_given() -> None:
    assert local_header(claimed("bob", recipient="list@example.org")) == (
        b"Return-Path: <ann@example.com>\nDelivered-To: list@example.org\n"
    )
    assert local_header(claimed("bob", sender="")).startswith(b"Return-Path: <>\n")


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (claimed(ME.pw_name, arrived=2000), False),
        (claimed(ME.pw_name, arrived=2000, attempts=1), True),
        (claimed(ME.pw_name, arrived=2000, was_in_flight=True), True),
        (claimed(ME.pw_name, arrived=500), True),
    ],
)
def test_what_an_earlier_attempt_or_an_earlier_process_may_have_left_is_looked_for(
    one: Claimed, expected: bool
) -> None:
    assert plan(one, Mbox(name="local"), since=1000).deposit.tried_before is expected


USERBASE = InlineTable.of_mapping("people", {"boss": "0:0:/root", "ann": "4001:4002:/srv/ann", "bad": "ann"})


def test_a_userbase_says_who_a_recipient_is_and_where_the_home_is() -> None:
    action = Maildir(name="local", path="~/Mail", userbase=USERBASE)
    made = plan(claimed("ann"), action)
    assert made.who == Identity("ann", 4001, 4002, (4002,), "/srv/ann")
    assert isinstance(made.deposit.method, ToMaildir)
    assert made.deposit.method.path == "/srv/ann/Mail"


def test_a_command_of_a_forward_runs_as_its_user_in_the_userbase() -> None:
    action = Mbox(name="local", userbase=USERBASE)
    made = plan(claimed("ann", target="|vacation"), action)
    assert (made.who.name, made.who.uid) == ("ann", 4001)
    assert isinstance(made.deposit.method, ToCommand)
    assert made.deposit.method.folder == "/srv/ann"


def test_one_user_for_all_is_the_system_s_and_the_recipient_s_home_the_userbase_s() -> None:
    action = Maildir(name="local", path="%{user.directory}/Mail", user=ME.pw_name, userbase=USERBASE)
    made = plan(claimed("ann"), action)
    assert made.who.uid == ME.pw_uid
    assert isinstance(made.deposit.method, ToMaildir)
    assert made.deposit.method.path == "/srv/ann/Mail"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bob", 'no user "bob" in table people'),
        ("bad", 'table people: the value of "bad" is not uid:gid:home'),
        ("boss", '"boss" has uid 0 in table people, and nothing is delivered as root by a table'),
    ],
)
def test_a_user_whom_the_userbase_does_not_describe_any_more_waits(name: str, text: str) -> None:
    outcome = refused(claimed(name), Mbox(name="local", userbase=USERBASE))
    assert isinstance(outcome, Deferred)
    assert outcome.reply.text == text
