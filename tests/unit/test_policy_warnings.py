"""What is allowed in a configuration and yet probably not meant."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from policy.parser import load_config
from policy.pki import selfsigned
from tests.tools.configured import Configured, FakeHost

ME = pwd.getpwuid(os.geteuid()).pw_name
AUTH_LISTENER = """pki mail.example.org cert "/mail.example.org.crt"
pki mail.example.org key "/mail.example.org.key"
listen on {on} tls pki mail.example.org auth <creds>
action "local" mbox
action "out" relay
match from any for domain "example.org" action "local"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    configured = Configured(tmp_path)
    selfsigned(str(tmp_path), "mail.example.org")
    configured.write("creds", "ann $6$x$y\n")
    configured.write("secrets", "isp user:password\n")
    configured.write("domains", "example.org\n")
    return configured


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("from any for any", "for local"),
        ("for any", "for local"),
        ("from local for any", "from socket for any"),
        ("for local", "for local"),
        ("for any", "for any tls"),
        ("for any tls", "for any tls auth"),
        ("for domain <domains>", "for domain <domains> tls"),
        ('for domain "a"', 'for domain { "a" }'),
        ("! from local for any", "! from local for local"),
    ],
)
def test_a_rule_behind_one_that_matches_all_it_does_never_matches(
    configured: Configured, earlier: str, later: str
) -> None:
    (warning,) = configured.warnings(f"match {earlier} reject\nmatch {later} reject\n")
    assert warning.startswith("2: this rule can never match")
    assert warning.endswith("smtpd.conf:1 already")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("for local", "for any"),
        ("for any", "from any for any"),
        ("for any tls", "for any"),
        ("for any tls", "for any ! tls"),
        ("for any tls", "for any auth"),
        ('for domain "a"', 'for domain "b"'),
        ("! for any tls", "for any"),
        ("! from local for any", "from local for any"),
        ("from socket for any", "from local for any"),
    ],
)
def test_a_rule_that_may_still_match_draws_no_warning(configured: Configured, earlier: str, later: str) -> None:
    warnings = configured.warnings(f"match {earlier} reject\nmatch {later} reject\n")
    assert [each for each in warnings if each.startswith("2:")] == []


@pytest.mark.parametrize("conditions", ["! from any for any", "! for any"])
def test_a_rule_for_nobody_never_matches(configured: Configured, conditions: str) -> None:
    (warning,) = configured.warnings(f"match {conditions} reject\n")
    assert warning == '1: this rule can never match: "any" leaves nothing to "!"'


@pytest.mark.parametrize(
    ("written", "meant"),
    [("@example.org", 'for domain "example.org"'), ("ann@example.org", 'for rcpt-to "ann@example.org"')],
)
def test_an_address_where_a_domain_is_wanted_is_noticed(configured: Configured, written: str, meant: str) -> None:
    warnings = configured.warnings(f'match from any for domain {{ a, "{written}" }} reject\n')
    assert warnings == [f'1: "{written}" is no domain, so it never matches; did you mean: {meant}?']


def test_an_action_that_no_rule_uses_is_noticed(configured: Configured) -> None:
    assert configured.warnings('action "a" mbox\nmatch for any reject\n') == ['1: no rule uses action "a"']


@pytest.mark.parametrize("retry", ["2h", "{ 1h, 5m }"])
def test_a_retry_that_the_ttl_leaves_no_room_for_draws_a_warning(configured: Configured, retry: str) -> None:
    text = f'queue ttl 1h\naction "a" mbox retry {retry}\nmatch for any action "a"\n'
    assert configured.warnings(text) == [
        '2: mail of action "a" is tried once more only: its ttl ends before that retry'
    ]
    assert configured.warnings(text.replace("ttl 1h", "ttl 4h")) == []


def test_a_filter_that_nothing_uses_is_noticed(configured: Configured) -> None:
    text = (
        "filter one phase connect match fcrdns junk\nfilter two phase connect match fcrdns junk\n"
        "filter three chain { one }\nfilter four phase connect match fcrdns junk\n"
        "listen on lo filter three\nlisten on lo port 26 filter { four }\nmatch for any reject\n"
    )
    assert configured.warnings(text) == ['2: nothing uses filter "two"']


def test_a_table_that_nothing_uses_is_noticed(configured: Configured) -> None:
    text = 'table used { "a" }\ntable spare { "b" }\nmatch from any for domain <used> reject\n'
    assert configured.warnings(text) == ['2: nothing uses table "spare"']


@pytest.mark.parametrize(
    "use",
    [
        "listen on lo smtps pki mail.example.org auth <t>\nmatch from any for any reject\n",
        'action "a" mbox alias <t>\nmatch for any action "a"\n',
        'action "a" relay host "smtps://isp@mx.example.net" auth <t>\nmatch for any action "a"\n',
        "match from any mail-from <t> for any reject\n",
    ],
)
def test_a_table_counts_as_used_wherever_it_can_stand(configured: Configured, use: str) -> None:
    pki = AUTH_LISTENER.partition("listen")[0]
    assert configured.warnings(f'{pki}table t {{ isp = "user:password" }}\n{use}') == []


def test_hashes_of_passwords_that_others_can_read_are_complained_about_once(configured: Configured) -> None:
    path = configured.write("creds", "ann $6$x$y\n", 0o644)
    text = AUTH_LISTENER.format(on="localhost") + "listen on eth0 smtps pki mail.example.org auth <creds>\n"
    found = [each for each in configured.warnings(f'{text}match from any for any action "out"\n') if "others" in each]
    assert found == [
        f'3: others can read the hashes of passwords in {path} (mode 0644, it belongs to {ME}): "chmod o= {path}"'
    ]


def test_secrets_that_others_can_read_are_complained_about_and_used(configured: Configured) -> None:
    path = configured.write("secrets", "isp user:password\n", 0o644)
    text = 'action "out" relay host "smtps://isp@h.example" auth <secrets>\nmatch for any action "out"\n'
    assert configured.warnings(text) == [
        f'1: others can read the passwords in {path} (mode 0644, it belongs to {ME}): "chmod o= {path}"'
    ]
    path.chmod(0o640)
    assert configured.warnings(text) == []


def test_passwords_in_the_configuration_itself_are_complained_about_when_others_can_read_it(
    configured: Configured,
) -> None:
    text = (
        'table secrets { isp = "user:password" }\n'
        'action "out" relay host "smtps://isp@h.example" auth <secrets>\nmatch for any action "out"\n'
    )
    path = configured.write("smtpd.conf", text, 0o644)
    warnings = load_config(str(path), configured.layout, {}, configured.host).warnings
    assert [f"{each.line}: {each.message}" for each in warnings] == [
        f'2: others can read the passwords in {path} (mode 0644, it belongs to {ME}): "chmod o= {path}"'
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_passwords_in_a_file_of_somebody_elses_are_complained_about(configured: Configured) -> None:
    path = configured.write("secrets", "isp user:password\n", 0o600)
    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    text = 'action "out" relay host "smtps://isp@h.example" auth <secrets>\nmatch for any action "out"\n'
    assert configured.warnings(text) == [
        f'1: nobody, whose file {path} is, can exchange the passwords in it: "chown root {path}"'
    ]


def test_a_label_that_its_table_does_not_know_is_noticed(configured: Configured) -> None:
    text = 'action "out" relay host "smtps://ips@h.example" auth <secrets>\nmatch for any action "out"\n'
    assert configured.warnings(text) == ['1: label "ips" is not in table "secrets"; did you mean "isp"?']


def test_a_table_of_passwords_that_no_host_uses_is_noticed(configured: Configured) -> None:
    text = 'action "out" relay host "smtps://h.example" auth <secrets>\nmatch for any action "out"\n'
    assert configured.warnings(text) == ['1: "auth" is not used: no host has a label, as in "smtps://label@host"']


def test_of_two_listeners_at_one_port_the_first_serves(configured: Configured) -> None:
    loaded = configured.read(
        'listen on localhost tag "first"\nlisten on "127.0.0.1" tag "second"\nmatch for any reject\n'
    )
    (warning,) = loaded.warnings
    assert "port 25 of 127.0.0.1 is listened on already" in warning.message
    assert [each.tag for each in loaded.config.listeners if each.address == "127.0.0.1"] == ["first"]


def test_a_listener_that_another_one_at_every_address_leaves_nothing_is_left_out(configured: Configured) -> None:
    loaded = configured.read('listen on 0.0.0.0\nlisten on eth0 inet4 tag "x"\nmatch for any reject\n')
    (warning,) = loaded.warnings
    assert warning.message.startswith("port 25 of 192.0.2.25 is listened on already, by ")
    assert [each.address for each in loaded.config.listeners] == ["", "0.0.0.0"]


def test_every_address_cannot_be_listened_on_behind_one_of_them(configured: Configured) -> None:
    (error,) = configured.errors("listen on eth0 inet4\nlisten on 0.0.0.0\nmatch for any reject\n")
    assert error.startswith("2:11: 0.0.0.0 is every address, and port 25 of 192.0.2.25 is listened on already, by ")


def test_every_address_of_one_family_leaves_the_other_alone(configured: Configured) -> None:
    text = "listen on 0.0.0.0\nlisten on ::\nlisten on lo port 26\nmatch for any reject\n"
    assert configured.warnings(text) == []


def test_people_who_log_in_and_can_send_nowhere_are_noticed_with_the_line_that_is_missing(
    configured: Configured,
) -> None:
    text = AUTH_LISTENER.format(on="eth0") + 'match for any action "out"\n'
    (warning,) = configured.warnings(text)
    assert warning.startswith("3: whoever logs in here")
    line = warning.partition("the missing line is: ")[2]
    assert line == 'match auth from any for any action "out"'
    assert configured.warnings(text + line) == []


@pytest.mark.parametrize(
    "rule",
    [
        'match from auth for any action "out"',
        'match from any auth for any action "out"',
        'match from any for any action "out"',
    ],
)
def test_a_rule_that_serves_logins_ends_that_warning(configured: Configured, rule: str) -> None:
    assert configured.warnings(f"{AUTH_LISTENER.format(on='eth0')}{rule}\n") == []


def test_logins_on_the_loopback_are_from_local_anyway(configured: Configured) -> None:
    assert configured.warnings(AUTH_LISTENER.format(on="localhost") + 'match for any action "out"\n') == []


def test_a_host_name_that_is_not_fully_qualified_is_noticed_with_the_file_to_set_it_in(tmp_path: Path) -> None:
    configured = Configured(tmp_path, FakeHost("laptop"))
    (warning,) = configured.warnings("match for any reject\n")
    assert warning == (
        '0: the server name "laptop" (the host name) is not fully qualified, and other servers may refuse it: '
        f"write the full name into {configured.folder}/mailname"
    )


def test_a_comment_that_swallows_the_next_line_is_noticed(configured: Configured) -> None:
    warnings = configured.warnings("match for any reject # and so on \\\nlisten on localhost\n")
    assert warnings == ["1: the backslash makes the next line part of this comment"]


def test_a_comment_right_behind_a_word_is_noticed(configured: Configured) -> None:
    warnings = configured.warnings('action "a" mda "x" user root#bar\nmatch for any action "a"\n')
    assert warnings == ['1: "#" begins a comment here, too; within quotes it is part of the word']


def test_a_user_who_does_not_exist_is_noticed(configured: Configured) -> None:
    actions = 'action "a" maildir user nosuchuser\naction "b" maildir user root\n'
    text = actions + 'match for local action "a"\nmatch for any action "b"\n'
    assert configured.warnings(text) == ['1: there is no user "nosuchuser": mail of action "a" waits until there is']


def test_a_comment_behind_a_brace_or_a_blank_is_meant(configured: Configured) -> None:
    assert configured.warnings("match reject for domain { a, b }# both\n # all\n#\n") == []


def test_a_macro_within_quotes_is_noticed(configured: Configured) -> None:
    text = 'd = "example.org"\nmatch for domain "$d" reject\nmatch for domain "$other" reject\n'
    assert configured.warnings(text) == [
        '2: "$d" stays what it is within quotes: the macro is read only outside of them'
    ]


def test_a_certificate_that_has_expired_is_a_warning_and_no_error(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy.pki.EXPIRY_WARNING", __import__("datetime").timedelta(days=400))
    (warning,) = configured.warnings(AUTH_LISTENER.format(on="localhost") + 'match for any action "out"\n')
    assert warning.startswith("1: the certificate in ")


def test_expressions_that_differ_in_case_alone_are_different_rules(configured: Configured) -> None:
    text = 'match from any for domain regex "^{}$" reject\n'
    assert configured.warnings(text.format("\\s") + text.format("\\S")) == []
    (warning,) = configured.warnings(text.format("\\s") * 2)
    assert "can never match" in warning
