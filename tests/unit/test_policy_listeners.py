"""``listen`` lines: what they come to, and what is doubtful in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.pki import selfsigned
from policy.tables.inline import InlineTable
from policy.tables.services import has_mailaddr_for, has_source, hostname_for
from spool.address import NULL_SENDER, parse_address
from tests.tools.configured import Configured

RULE = 'action "local" mbox\nmatch for local action "local"\n'
PKI = 'pki mx.example.org cert "/mx.example.org.crt"\npki mx.example.org key "/mx.example.org.key"\n'


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    configured = Configured(tmp_path)
    selfsigned(str(tmp_path), "mx.example.org")
    configured.write("creds", "ann $6$x$y\n")
    return configured


def test_a_listener_keeps_what_it_was_told(configured: Configured, tmp_path: Path) -> None:
    line = (
        "listen on 192.0.2.25 tls-require verify pki mx.example.org ca mine ciphers secure protocols tlsv1.3 "
        'auth <creds> senders { ann = "ann@example.org" } masquerade received-auth proxy-v2 '
        'hostnames { "192.0.2.25" = mx.example.org }\n'
    )
    config = configured.load(PKI + f'ca mine cert "/mx.example.org.crt"\n{line}' + RULE)
    listener = config.listeners[1]
    assert (listener.verify, listener.ca) == (True, str(tmp_path / "mx.example.org.crt"))
    assert (listener.ciphers, listener.protocols) == ("secure", "tlsv1.3")
    assert listener.masquerade
    assert listener.received_auth
    assert listener.proxy_v2
    assert listener.senders
    assert listener.senders.lookup("ann") == "ann@example.org"
    assert listener.hostnames
    assert hostname_for(listener.hostnames, "192.0.2.25") == "mx.example.org"


def test_the_ciphers_of_all_listeners_are_those_that_one_does_not_choose_itself(configured: Configured) -> None:
    lines = (
        "smtp ciphers compat\nlisten on 192.0.2.25 tls pki mx.example.org\n"
        "listen on 192.0.2.25 smtps pki mx.example.org ciphers secure\nlisten on 192.0.2.25 port 587\n"
    )
    _, first, second, plain = configured.load(PKI + lines + RULE).listeners
    assert (first.ciphers, second.ciphers, plain.ciphers) == ("compat", "secure", "")


PROXIES = "listen on 192.0.2.25 proxy-v2{}\n"


def test_proxies_that_are_believed_stand_behind_the_word(configured: Configured) -> None:
    loaded = configured.read(PROXIES.format(' { "192.0.2.1", "10.0.0.0/8" } tag behind') + RULE)
    listener = loaded.config.listeners[1]
    assert listener.proxies
    assert [has_source(listener.proxies, each) for each in ("192.0.2.1", "10.1.2.3", "192.0.2.2")] == [
        True,
        True,
        False,
    ]
    assert listener.tag == "behind"
    assert not loaded.warnings


def test_proxies_of_this_machine_alone_are_warned_of_where_others_could_come(configured: Configured) -> None:
    (warning,) = configured.warnings(PROXIES.format("") + RULE)
    assert warning.startswith("1: at 192.0.2.25 only proxies on this machine itself are believed; ")
    assert configured.warnings("listen on lo proxy-v2\n" + RULE) == []


def test_what_is_no_address_is_no_proxy(configured: Configured) -> None:
    (error,) = configured.errors(PROXIES.format(' { "proxy.example.org" }') + RULE)
    assert "proxy.example.org" in error


@pytest.mark.parametrize(("word", "is_given"), [("none", False), ("auto", True), ("legacy", True)])
def test_a_pki_says_how_keys_are_exchanged(configured: Configured, word: str, is_given: bool) -> None:
    loaded = configured.read(f"{PKI}pki mx.example.org dhe {word}\nlisten on 192.0.2.25 tls pki mx.example.org\n{RULE}")
    assert loaded.config.listeners[1].pki[0].dhe is is_given
    assert [warning.line for warning in loaded.warnings] == [3] * (word == "legacy")


def test_another_word_for_that_is_refused(configured: Configured) -> None:
    assert configured.errors(f"{PKI}pki mx.example.org dhe atuo\n{RULE}") == [
        '3:24: unknown setting "dhe atuo"; did you mean "auto"?'
    ]


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ("senders { ann = ann }", '"senders" is of no use without "auth" or "auth-optional"'),
        ("received-auth", '"received-auth" is of no use without "auth" or "auth-optional"'),
        ("ciphers secure", '"ciphers" is of no use without one of: tls, tls-require, smtps'),
        ("protocols all", '"protocols" is of no use without one of: tls, tls-require, smtps'),
        ("tls pki mx.example.org ca mine", '"ca" is of no use without "verify": no client is asked for a certificate'),
        (
            "smtps verify pki mx.example.org",
            'every certificate of a public authority is welcome here: "ca" names others',
        ),
    ],
)
def test_an_option_that_changes_nothing_is_doubted(configured: Configured, options: str, warning: str) -> None:
    text = PKI + 'ca mine cert "/mx.example.org.crt"\n' + f"listen on 192.0.2.25 {options}\n" + RULE
    assert configured.warnings(text) == [f"4: {warning}"]


def test_senders_are_patterns_with_commas_between_them() -> None:
    table = InlineTable.of_mapping("senders", {"ann": "ann@a.example,@b.example , boss"})
    for sender, may in {
        "ann@a.example": True,
        "x@b.example": True,
        "boss@c.example": True,
        "x@a.example": False,
    }.items():
        assert has_mailaddr_for(table, "Ann", parse_address(sender), "+") is may
    assert not has_mailaddr_for(table, "bob", parse_address("ann@a.example"), "+")
    assert not has_mailaddr_for(table, "ann", NULL_SENDER, "+")
    assert has_mailaddr_for(InlineTable.of_mapping("senders", {"ann": "@"}), "ann", NULL_SENDER, "+")


def test_an_ipv6_address_has_its_name_with_and_without_brackets() -> None:
    table = InlineTable.of_mapping(
        "names", {"[2001:db8::1]": "a.example", "2001:db8::2": "b.example", "192.0.2.1": "-"}
    )
    found = [hostname_for(table, address) for address in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1")]
    assert found == ["a.example", "b.example", None, None]
