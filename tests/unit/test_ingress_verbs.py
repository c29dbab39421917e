"""What a session understands is ours, and what the log and the peers' addresses are made of."""

from __future__ import annotations

import pytest

from ingress.auth import Authentication
from ingress.logline import MAX_QUOTED, quoted
from ingress.peer import customer, plain_address
from ingress.session import Session


def test_no_verb_is_aiosmtpd_s_own() -> None:
    ours = vars(Session) | vars(Authentication)
    assert set(Session.verbs.values()) - set(ours) == set()


def test_only_login_is_asked_for_as_aiosmtpd_does() -> None:
    assert Session.mechanisms == {
        "LOGIN": "auth_LOGIN",
        "PLAIN": "auth_PLAIN",
        "SCRAM-SHA-256": "auth_SCRAM__SHA__256",
    }
    assert "auth_LOGIN" not in vars(Session) | vars(Authentication)


def test_the_tables_are_made_once_for_all_sessions() -> None:
    assert "verbs" in vars(Session)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"),
     ("2001:DB8::1", "2001:db8::1")],
)  # fmt: skip
def test_an_address_has_one_form(text: str, plain: str) -> None:
    assert plain_address(text) == plain


def test_ipv6_customers_are_told_apart_by_their_network() -> None:
    assert customer("2001:db8::1") == customer("2001:db8::ffff") != customer("2001:db8:0:1::1")
    assert customer("192.0.2.1") != customer("192.0.2.2")
    assert customer("local") == "local"


@pytest.mark.parametrize("text", ["x\r\ny", 'a" b="c', "\\", "\x1b[2J", "%s%n{0}", "\u2028", "a\0b"])
def test_a_quoted_text_is_one_line_that_does_not_end_its_quotes(text: str) -> None:
    line = quoted(text)
    inside = line[1:-1].replace("\\\\", "").replace('\\"', "")
    assert line[0] == line[-1] == '"'
    assert '"' not in inside
    assert "\\" not in inside
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_a_quoted_text_has_an_end() -> None:
    assert len(quoted("x" * 100_000)) == MAX_QUOTED + 2
