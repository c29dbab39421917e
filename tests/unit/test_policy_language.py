"""What the language accepts, and what it means."""

from __future__ import annotations

import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.config import (
    Auth,
    Command,
    Condition,
    For,
    From,
    Lmtp,
    Maildir,
    Mbox,
    Relay,
    RelayTls,
    Smarthost,
    Squares,
    Waits,
)
from policy.errors import ConfigError, TableUnavailable
from policy.lexer import KEYWORDS
from policy.parser import load_config
from policy.pki import selfsigned
from policy.tables.table import Table
from tests.tools.configured import Configured

HOUR = 3_600_000


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    configured = Configured(tmp_path)
    configured.write("aliases", "root ann\n")
    configured.write("secrets", "isp user:password\n")
    return configured


def with_rule(text: str) -> str:
    return f"{text}\nmatch for any reject\n"


def entries(table: Table | None) -> list[str]:
    assert table is not None
    return list(table.keys())


# Beyond what OpenSMTPD's own acceptance says (`test_policy_acceptance.py`).

ACCEPTED = [
    "match !from local for any reject",
    'listen on "::1"\nmatch for any reject',
    "match reject for any",
    'match action "later" for any\naction "later" mbox alias <also-later>\ntable also-later { a = b }',
    "match for any action a\naction a relay host h.example",
    "smtp limit\nmatch for any reject",
    "action 'quoted word' mbox\nmatch for any action \"quoted word\"",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_right_configuration_is_accepted(configured: Configured, text: str) -> None:
    assert configured.errors(text) == []
    assert configured.errors(text + "\n") == []


def test_what_is_not_said_has_the_defaults_of_the_language(configured: Configured) -> None:
    config = configured.load("match for any reject")
    assert config.queue_ttl == 4 * 24 * HOUR
    assert config.warn_intervals == (4 * HOUR,)
    assert config.max_message_size == 36_700_160
    assert (config.max_mails, config.max_recipients) == (100, 1000)
    assert config.sub_addr_delim == "+"
    assert [each.is_socket for each in config.listeners] == [True]


def test_settings_are_what_was_said(configured: Configured) -> None:
    config = configured.load(
        with_rule(
            "queue ttl 12h\nbounce warn-interval 2d, 90s\nsmtp max-message-size 10M\n"
            'smtp limit max-rcpt 5 max-mails 7\nsmtp sub-addr-delim "-"'
        )
    )
    assert config.queue_ttl == 12 * HOUR
    assert config.warn_intervals == (90_000, 48 * HOUR)
    assert config.max_message_size == 10 << 20
    assert (config.max_mails, config.max_recipients) == (7, 5)
    assert config.sub_addr_delim == "-"


def test_each_role_that_may_have_several_processes_has_one_unless_more_are_asked_for(configured: Configured) -> None:
    plain = configured.load(with_rule(""))
    config = configured.load(with_rule("smtp processes 3\nmta processes 2"))
    assert (plain.smtp_processes, plain.mta_processes) == (1, 1)
    assert (config.smtp_processes, config.mta_processes) == (3, 2)


def test_so_many_processes_are_taken_for_a_slip(configured: Configured) -> None:
    (error,) = configured.errors(with_rule("smtp processes 400"))
    assert error.endswith("400 processes are too many: at most 64")


@pytest.mark.parametrize(
    ("written", "octets"), [("1000", 1000), ("2k", 2048), ("3K", 3072), ("35M", 36_700_160), ('"1G"', 1 << 30)]
)
def test_sizes_count_in_powers_of_1024(configured: Configured, written: str, octets: int) -> None:
    assert configured.load(with_rule(f"smtp max-message-size {written}")).max_message_size == octets


# Macros and includes


def test_macros_of_the_command_line_go_before_the_file_s(configured: Configured) -> None:
    text = with_rule('ttl-of-mail = 2d\nqueue ttl 1d\nd = "3d"\nqueue ttl $d')
    assert configured.read(text, {}).config.queue_ttl == 72 * HOUR
    assert configured.read(text, {"d": "5h"}).config.queue_ttl == 5 * HOUR


def test_an_include_is_read_in_its_place_beside_the_file_that_names_it(configured: Configured) -> None:
    configured.write("parts/first.conf", 'd = "3d"\ninclude "second.conf"')
    configured.write("parts/second.conf", "queue ttl $d")
    assert configured.load(with_rule('include "parts/first.conf"')).queue_ttl == 72 * HOUR


def test_an_absolute_include_lies_below_the_root(configured: Configured) -> None:
    configured.write("../shared.conf", "queue ttl 1h")
    assert configured.load(with_rule('include "/etc/shared.conf"')).queue_ttl == HOUR


def test_an_error_in_an_included_file_has_that_file_s_place(configured: Configured) -> None:
    path = configured.write("part.conf", "\nqueue ttl 1x\n")
    with pytest.raises(ConfigError) as raised:
        configured.load(with_rule('include "part.conf"'))
    (finding,) = raised.value.findings
    assert (finding.path, finding.line) == (str(path), 2)


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_file_that_includes_itself_comes_to_an_end(configured: Configured, end: str) -> None:
    configured.write("self.conf", f'include "self.conf"{end}')
    (message,) = configured.errors(with_rule('include "self.conf"'))
    assert "more than 16 deep" in message


def test_a_configuration_that_is_not_there_says_so(configured: Configured) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config("/nowhere/smtpd.conf", configured.layout, {}, configured.host)
    assert str(raised.value) == "/nowhere/smtpd.conf: No such file or directory"


# Actions


def test_local_actions_are_what_was_said(configured: Configured) -> None:
    config = configured.load(
        with_rule(
            'action "mbox" mbox alias <aliases>\n'
            'action "home" maildir virtual { "@" = ann }\n'
            'action "there" maildir "/srv/%{dest.domain}" user vmail ttl 1h\n'
            'action "tilde" maildir retry { 1m, 5m\n2h } ttl 2d\n'
            'action "program" mda "procmail -f -"\n'
            'action "socket" lmtp "/run/lmtp" rcpt-to\n'
            'action "server" lmtp "localhost:2424"\n'
        )
    )
    root = configured.layout.root
    actions = config.actions
    assert actions["mbox"] == Mbox(name="mbox", alias=config.tables["aliases"])
    home = actions["home"]
    assert isinstance(home, Maildir)
    assert (home.path, entries(home.virtual)) == ("~/Maildir", ["@"])
    assert actions["there"] == Maildir(name="there", path=f"{root}/srv/%{{dest.domain}}", user="vmail", ttl=HOUR)
    assert actions["tilde"] == Maildir(name="tilde", ttl=48 * HOUR, retry=Waits((60_000, 300_000, 2 * HOUR)))
    assert actions["program"] == Command(name="program", command="procmail -f -")
    assert actions["socket"] == Lmtp(name="socket", destination=f"{root}/run/lmtp", rcpt_to=True)
    assert actions["server"] == Lmtp(name="server", destination="localhost:2424")


@pytest.mark.parametrize(
    "destination", ["localhost", "localhost:24", "192.0.2.1", "192.0.2.1:24", "[2001:db8::1]", "[::1]:24"]
)
def test_an_lmtp_server_is_a_host_or_address_with_or_without_a_port(configured: Configured, destination: str) -> None:
    config = configured.load(with_rule(f'action "a" lmtp "{destination}"'))
    assert config.actions["a"] == Lmtp(name="a", destination=destination)


def test_a_relay_is_what_was_said(configured: Configured) -> None:
    pki = selfsigned(configured.layout.root, "client.example.org")
    certificates = "".join(
        f'{line} "/client.example.org.{suffix}"\n'
        for line, suffix in [("pki c cert", "crt"), ("pki c key", "key"), ("ca a cert", "crt")]
    )
    relay = configured.load(
        certificates + "action out relay host { smtps://isp@one.example, smtp+tls://isp@two.example:587 } "
        'tls no-verify auth <secrets> mail-from "@example.org" helo "me.example.org" ca a pki C src 192.0.2.25 ttl 2h '
        "retry 5m\n"
        "match for any action out\n"
    ).actions["out"]
    assert isinstance(relay, Relay)
    assert relay.hosts == (
        Smarthost(RelayTls.IMPLICIT, "one.example", 465, "isp"),
        Smarthost(RelayTls.REQUIRED, "two.example", 587, "isp"),
    )
    assert (relay.require_tls, relay.no_verify, relay.ttl, relay.retry) == (True, True, 2 * HOUR, Squares(300_000))
    assert (relay.mail_from, relay.helo, relay.ca) == ("@example.org", "me.example.org", pki.cert)
    assert relay.pki is not None
    assert (relay.pki.cert, relay.pki.key) == (pki.cert, pki.key)
    assert entries(relay.src) == ["192.0.2.25"]


def test_a_table_of_hosts_is_read_when_the_configuration_is(configured: Configured) -> None:
    configured.write("hosts", "one.example\nsmtp+notls://two.example\n")
    relay = configured.load("action out relay host <hosts>\nmatch for any action out\n").actions["out"]
    assert isinstance(relay, Relay)
    assert [str(host) for host in relay.hosts] == ["smtp://one.example:25", "smtp+notls://two.example:25"]


def test_smarthosts_are_asked_again_where_a_file_has_them_and_kept_where_they_are_written(
    configured: Configured,
) -> None:
    configured.write("hosts", "one.example\n")
    text = 'action a relay host <hosts>\naction b relay host { "one.example" }\nmatch for any action a\n'
    actions = configured.load(text).actions
    (file, written) = (action for action in actions.values() if isinstance(action, Relay))
    assert file.host_table is not None
    assert written.host_table is None
    assert file.hosts == written.hosts


# Rules


def test_a_rule_is_what_was_said(configured: Configured) -> None:
    configured.write("domains", "example.org\n")
    config = configured.load('action a mbox\nmatch tls ! tag "x" ! from local for domain <domains> action a\n')
    (rule,) = config.rules
    assert (rule.source, rule.destination) == (From("local", None, True), For("domain", config.tables["domains"]))
    assert [(each.what, each.negated) for each in rule.conditions] == [("tls", False), ("tag", True)]
    assert (rule.action, rule.rejects) == ("a", False)


def test_what_a_rule_does_not_say_is_local(configured: Configured) -> None:
    (rule,) = configured.load("action a mbox\nmatch tls action a\n").rules
    assert (rule.source, rule.destination, rule.conditions) == (From("local"), For("local"), (Condition("tls"),))


def test_from_mail_from_is_from_any_and_a_condition(configured: Configured) -> None:
    (rule,) = configured.load('match ! from mail-from "@example.org" for any reject\n').rules
    assert rule.source == From("any")
    assert [(each.what, each.negated) for each in rule.conditions] == [("mail-from", True)]
    assert rule.rejects


# Listeners


def test_a_listener_is_what_was_said(configured: Configured) -> None:
    selfsigned(configured.layout.root, "out")
    configured.write("creds", "ann $6$x$y\n")
    config = configured.load(
        with_rule(
            'pki out cert "/out.crt"\npki out key "/out.key"\n'
            "listen on 192.0.2.25 port submission tls-require pki out auth-optional <creds> tag out "
            "hostname out.example.org mask-src no-dsn"
        )
    )
    listener = config.listeners[1]
    assert (listener.address, listener.port, listener.tag, listener.hostname) == (
        "192.0.2.25",
        587,
        "out",
        "out.example.org",
    )
    assert (listener.auth, listener.mask_src, listener.no_dsn) == (Auth.OPTIONAL, True, True)
    assert listener.credentials is config.tables["creds"]
    assert [pki.name for pki in listener.pki] == ["out"]


def test_the_socket_has_options_too_and_stays_one(configured: Configured) -> None:
    config = configured.load(with_rule("listen on localhost\nlisten on socket tag inside mask-src no-dsn"))
    assert [each.address for each in config.listeners] == ["", "127.0.0.1", "::1"]
    socket = config.listeners[0]
    assert (socket.tag, socket.mask_src, socket.no_dsn) == ("inside", True, True)


@pytest.mark.parametrize(
    ("on", "addresses"),
    [
        ("eth0", ["192.0.2.25", "2001:db8::25", "fe80::25%2"]),
        ("eth0 inet4", ["192.0.2.25"]),
        ("eth0 inet6", ["2001:db8::25", "fe80::25%2"]),
        ("lo", ["127.0.0.1", "::1"]),
        ("localhost", ["127.0.0.1", "::1"]),
        ("localhost inet4", ["127.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("0.0.0.0", ["0.0.0.0"]),
    ],
)
def test_listen_on_takes_interfaces_addresses_and_names(configured: Configured, on: str, addresses: list[str]) -> None:
    listeners = configured.load(with_rule(f"listen on {on}")).listeners
    assert [(each.address, each.port) for each in listeners[1:]] == [(address, 25) for address in addresses]


# Whatever the text


FRAGMENTS = st.one_of(
    st.sampled_from(sorted(KEYWORDS)),
    st.sampled_from(
        [
            '"',
            "'",
            "{",
            "}",
            "<",
            ">",
            "!",
            "=",
            "=>",
            ",",
            "\\",
            "\n",
            "#",
            "$",
            "$x",
            "x",
            "<aliases>",
            "25",
            "4d",
            "smtp://h",
        ]
    ),
    st.text(string.printable, max_size=5),
    st.text(max_size=5),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAGMENTS, max_size=40).map(" ".join))
def test_any_words_are_a_configuration_or_a_config_error(configured: Configured, text: str) -> None:
    configured.errors(text.encode(errors="replace").decode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_octets_are_a_configuration_or_a_config_error(configured: Configured, octets: bytes) -> None:
    path = configured.folder / "any.conf"
    path.write_bytes(octets)
    with contextlib.suppress(ConfigError):
        load_config(str(path), configured.layout, {}, configured.host)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_wrong_word_in_a_right_configuration_never_hides_another_error(
    configured: Configured, data: st.DataObject
) -> None:
    lines = [
        "listen on localhost",
        "action a mbox alias <aliases>",
        "queue ttl 1d",
        "match for local action a",
        "smtp limit max-mails 3",
    ]
    index = data.draw(st.integers(0, len(lines) - 1))
    broken = list(lines)
    broken[index] += " surplus"
    found = configured.errors("\n".join([*broken, "frobnicate"]))
    assert [int(message.partition(":")[0]) for message in found] == [index + 1, len(lines) + 1]


def test_a_table_that_vanishes_while_the_configuration_is_read_is_an_error_and_no_crash(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*_: object) -> None:
        raise TableUnavailable("gone")

    monkeypatch.setattr("policy.tables.file.FileTable._current", vanish)
    assert configured.errors('action "a" mbox alias <aliases>\nmatch for any action "a"\n') == ["0:0: gone"]
