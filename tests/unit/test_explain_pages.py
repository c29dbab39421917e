"""``smtpctl explain`` as it is read: whole pages, for the mail that administrators ask about."""

from __future__ import annotations

import pwd
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.configured import Configured, FakeUsers
from tests.tools.dns_server import DnsServer
from tests.tools.explaining import Explaining

pytestmark = pytest.mark.anyio

PAGES = Path(__file__).parents[1] / "explained"
NOBODY = pwd.getpwnam("nobody")
ZONES = {
    "example.org": {"MX": ["20 mx2.example.org.", "10 mx1.example.org."]},
    "mx1.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "mx2.example.org": {"A": ["192.0.2.2"]},
    "nomail.example": {"MX": ["0 ."]},
    "plain.example": {"A": ["192.0.2.3"]},
}
HYBRID = """
table aliases { postmaster = root, root = "nobody, ann@example.org", one = two, two = one, \\
    bad = "error:550 5.1.6 She has left", lost = "nobody, nobody, who" }
action "local" mbox alias <aliases>
action "out" relay ttl 1d
match for local action "local"
match for any action "out"
"""
VIRTUAL = """
table vdoms { "example.com" }
table vusers { "info@example.com" = nobody, "@example.com" = "nobody" }
action "receive" maildir "~/Mail/%{dest.domain}" virtual <vusers>
action "send" relay
match from any for domain <vdoms> action "receive"
match auth from any for any action "send"
"""
SMARTHOST = """
table secrets { isp = "user:very-secret" }
action "local" mda "/usr/bin/procmail -f -"
action "out" relay host { "smtps://isp@127.0.0.1", "smtp+tls://other@[::1]:587" } auth <secrets> \\
    mail-from "@example.com" helo "home.example.com" src 127.0.0.1
match for local action "local"
match for any action "out"
"""
BY_DOMAIN = """
table hosts { "example.org" = "smtps://isp@127.0.0.1", "example.com" = "smtp+notls://[::1]:26" }
action "out" relay domain <hosts> auth { isp = "user:very-secret" } helo-src { "127.0.0.1" = "lo.example.net" } \\
    ciphers "HIGH"
match for any action "out"
"""
FROM_AFAR = {"client": "198.51.100.7", "login": None, "helo": "mx.example.net"}

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "alias": (HYBRID, "postmaster", {}),
    "loop": (HYBRID, "one@localhost", {}),
    "error": (HYBRID, "bad@localhost", {}),
    "unknown": (HYBRID, "lost@localhost", {}),
    "null-mx": (HYBRID, "bob@nomail.example", {}),
    "no-mx": (HYBRID, "bob@plain.example", {}),
    "dns-trouble": (HYBRID, "bob@broken.example", {}),
    "catch-all": (VIRTUAL, "whoever@example.com", FROM_AFAR),
    "refused": (VIRTUAL, "bob@example.org", FROM_AFAR),
    "logged-in": (VIRTUAL, "bob@example.org", {**FROM_AFAR, "login": "ann", "tls": True}),
    "smarthost": (SMARTHOST, "bob@example.org", {}),
    "by-domain": (BY_DOMAIN, "bob@example.org", {}),
    "in-no-table": (BY_DOMAIN, "bob@example.net", {}),
    "program": (SMARTHOST, "nobody@localhost", {"sender": ""}),
}


@pytest.fixture
async def explaining(tmp_path: Path) -> AsyncIterator[Explaining]:
    async with DnsServer(ZONES, rcodes={"broken.example": "SERVFAIL"}) as dns:
        yield Explaining(Configured(tmp_path), FakeUsers("nobody", "root"), dns.port)


@pytest.mark.parametrize("name", CASES)
async def test_a_page_says_what_would_become_of_the_mail_and_why(explaining: Explaining, name: str) -> None:
    text, recipient, question = CASES[name]
    page = await explaining.page(text, recipient, **question)
    user = f"uid {NOBODY.pw_uid}, home {NOBODY.pw_dir}"
    assert (
        page.replace(user, "uid UID, home HOME").replace(NOBODY.pw_dir, "HOME") == (PAGES / f"{name}.txt").read_text()
    )


def test_every_page_is_of_a_case() -> None:
    assert {path.stem for path in PAGES.iterdir()} == set(CASES)


async def test_no_password_is_told(explaining: Explaining) -> None:
    told = await explaining.explanation(SMARTHOST, "bob@example.org")
    assert "very-secret" not in repr(told)
    assert told.envelopes[0].relay is not None
    assert told.envelopes[0].relay.hops[0].label == "isp"
