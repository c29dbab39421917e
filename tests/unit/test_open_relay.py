"""Which configurations are called an open relay, and which are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.open_relay import open_relay
from policy.pki import selfsigned
from tests.tools.configured import Configured

OPEN = """listen on eth0
action "out" relay
match {} action "out"
"""

AUTH_LISTENER = """pki mail.example.org cert "/mail.example.org.crt"
pki mail.example.org key "/mail.example.org.key"
listen on eth0 tls pki mail.example.org {auth} <creds>
action "out" relay
match from any for any action "out"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    configured = Configured(tmp_path)
    selfsigned(str(tmp_path), "mail.example.org")
    configured.write("creds", "ann $6$x$y\n")
    configured.write("domains", "example.org\n")
    return configured


@pytest.mark.parametrize(
    "rule",
    [
        "from any for any",
        'from any mail-from "@example.org" for any',
        'from mail-from "@example.org" for any',
        "from any ! auth for any",
        "from any tls for any",
        'from any helo "mx.example.org" for any',
        'from src "0.0.0.0/0" for any',
        "! from local for any",
        '! from src "10.0.0.0/8" for any',
        "from any ! for local",
        "from any ! for domain <domains>",
        'from any for domain "*"',
        'from any for rcpt-to "@"',
        'from any for domain regex "."',
    ],
)
def test_a_rule_that_relays_for_everybody_is_called_an_open_relay(configured: Configured, rule: str) -> None:
    (warning,) = configured.warnings(OPEN.format(rule))
    assert warning.startswith("3: this makes an open relay: anybody who reaches ")


@pytest.mark.parametrize(
    "text",
    [
        'listen on lo\naction "out" relay\nmatch from any for any action "out"\n',
        'listen on eth0\naction "out" relay\nmatch from any auth for any action "out"\n',
        'listen on eth0\naction "out" relay\nmatch from auth for any action "out"\n',
        'listen on eth0\naction "out" relay\nmatch for any action "out"\n',
        'listen on eth0 tag A\naction "out" relay\nmatch from any tag B for any action "out"\n',
        'listen on eth0\naction "out" relay\nmatch from any for domain <domains> action "out"\n',
        'listen on eth0\naction "out" relay\nmatch from src "192.168.0.0/16" for any action "out"\n',
        'listen on eth0\naction "out" relay\nmatch ! from src "10.0.0.0/8" for any reject\n'
        'match from any for any action "out"\n',
        'filter f phase connect match ! src "10.0.0.0/8" disconnect "550 No"\nlisten on eth0 filter f\n'
        'action "out" relay\nmatch from any for any action "out"\n',
        'listen on eth0\naction "in" mbox\nmatch from any for any action "in"\n',
        'listen on eth0\naction "out" relay backup\nmatch from any for any action "out"\n',
    ],
)
def test_what_keeps_strangers_from_relaying_is_no_open_relay(configured: Configured, text: str) -> None:
    assert open_relay(configured.load(text)) is None
    assert not any("open relay" in warning for warning in configured.warnings(text))


def test_a_rejection_that_depends_on_what_a_client_says_keeps_nobody_out(configured: Configured) -> None:
    text = 'listen on eth0\naction "out" relay\nmatch from any mail-from "@spam.example" for any reject\n'
    (warning,) = configured.warnings(text + 'match from any for any action "out"\n')
    assert warning.startswith("4: this makes an open relay")


def test_the_tag_of_the_listener_counts(configured: Configured) -> None:
    text = 'listen on eth0 tag A\naction "out" relay\nmatch from any tag A for any action "out"\n'
    (warning,) = configured.warnings(text)
    assert warning.startswith("3: this makes an open relay")


def test_behind_a_proxy_on_this_machine_there_may_be_the_world(configured: Configured) -> None:
    (warning,) = configured.warnings('listen on lo proxy-v2\naction "out" relay\nmatch from any for any action "out"\n')
    assert warning.startswith("3: this makes an open relay")


def test_a_listener_that_demands_logins_is_no_open_relay(configured: Configured) -> None:
    assert configured.warnings(AUTH_LISTENER.format(auth="auth")) == []


def test_a_listener_that_only_offers_logins_is(configured: Configured) -> None:
    (warning,) = configured.warnings(AUTH_LISTENER.format(auth="auth-optional"))
    assert warning.startswith("5: this makes an open relay")
