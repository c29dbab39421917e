"""Relay URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.config import RelayTls, Smarthost
from policy.smarthost import SmarthostSyntaxError, parse_smarthost

OPPORTUNISTIC, REQUIRED, NEVER, IMPLICIT, LMTP = RelayTls


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("h.example", Smarthost(OPPORTUNISTIC, "h.example", 25)),
        ("h.example:2525", Smarthost(OPPORTUNISTIC, "h.example", 2525)),
        ("smtp://h.example", Smarthost(OPPORTUNISTIC, "h.example", 25)),
        ("SMTP://h.example", Smarthost(OPPORTUNISTIC, "h.example", 25)),
        ("smtp+tls://h.example", Smarthost(REQUIRED, "h.example", 25)),
        ("smtp+tls://isp@h.example:587", Smarthost(REQUIRED, "h.example", 587, "isp")),
        ("smtp+notls://h.example", Smarthost(NEVER, "h.example", 25)),
        ("smtps://h.example", Smarthost(IMPLICIT, "h.example", 465)),
        ("smtps://isp@h.example", Smarthost(IMPLICIT, "h.example", 465, "isp")),
        ("lmtp://localhost:24", Smarthost(LMTP, "localhost", 24)),
        ("smtp://[192.0.2.1]:26", Smarthost(OPPORTUNISTIC, "192.0.2.1", 26)),
        ("smtp://192.0.2.1", Smarthost(OPPORTUNISTIC, "192.0.2.1", 25)),
        ("smtp://[IPv6:2001:db8::1]", Smarthost(OPPORTUNISTIC, "2001:db8::1", 25)),
        ("smtps://isp@[2001:DB8::1]:466", Smarthost(IMPLICIT, "2001:db8::1", 466, "isp")),
    ],
)
def test_a_url_names_scheme_label_host_and_port(url: str, expected: Smarthost) -> None:
    assert parse_smarthost(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("smpt://h.example", 'did you mean "smtp"'),
        ("secure://h.example", 'it is called "smtps" now'),
        ("lmtps://h.example:24", "unknown scheme"),
        ("lmtp://h.example", "needs a port"),
        ("smtp://isp@h.example", "needs TLS"),
        ("smtp+notls://isp@h.example", "needs TLS"),
        ("isp@h.example", "needs TLS"),
        ("smtps://@h.example", "is not a label"),
        ("smtps://user:password@h.example", "is not a label"),
        ("smtps://", "host is missing"),
        ("", "host is missing"),
        ("smtp://h example", "no host name"),
        ("smtp://h.example:", "no port"),
        ("smtp://h.example:0", "no port"),
        ("smtp://h.example:65536", "no port"),
        ("smtp://2001:db8::1", "no port"),
        ("smtp://[h.example]", "no IP address"),
        ("smtp://[::1", "no IP address"),
        ("smtp://h.example/path", "no host name"),
    ],
)
def test_what_is_no_url_says_why(url: str, reason: str) -> None:
    with pytest.raises(SmarthostSyntaxError, match=reason):
        parse_smarthost(url)


@given(st.text())
def test_any_text_is_a_smarthost_or_a_syntax_error(text: str) -> None:
    try:
        host = parse_smarthost(text)
    except SmarthostSyntaxError:
        return
    assert 0 < host.port < 65536
