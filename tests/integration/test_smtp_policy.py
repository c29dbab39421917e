"""RCPT as an operator's configuration answers it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from policy.admit import admit
from spool.lane import Lane
from spool.writer import SpoolWriter
from tests.tools.configured import Configured, FakeUsers
from tests.tools.smtp_client import begin, connected, give, greet
from tests.tools.smtp_server import Setting, smtp_server
from tests.tools.spooled import take

pytestmark = pytest.mark.anyio

CONFIG = """
table aliases "{folder}/aliases"
listen on lo
action "local" mbox alias <aliases>
action "out" relay host smtp://smarthost.example
match for local action "local"
match for domain "partner.example" action "out"
"""
REAL = Setting(admit=partial(admit, users=FakeUsers("ann", "bob")))


async def test_recipients_are_answered_by_rules_and_aliases(spool: SpoolWriter, tmp_path: Path) -> None:
    configured = Configured(tmp_path / "machine")
    aliases = configured.write("aliases", "staff: ann, bob, carl@partner.example\n")
    async with smtp_server(spool, REAL) as server, connected(server) as client:
        server.config = configured.load(CONFIG.format(folder="/etc/smtpd"))
        await greet(client)
        await client.ask("MAIL FROM:<sender@example.net>")
        assert (await client.ask("RCPT TO:<carol@localhost>")).startswith("550 5.1.1")
        assert (await client.ask("RCPT TO:<x@elsewhere.example>")).startswith("550 5.")
        aliases.rename(aliases.with_name("away"))
        assert (await client.ask("RCPT TO:<ann@localhost>")).startswith("451 4.3.0")
        aliases.with_name("away").rename(aliases)
        await begin(client, "staff@localhost", sender="sender@example.net")
        assert (await give(client, b"Subject: x\r\n\r\n")).startswith("250 ")
    lanes = [claimed.envelope.lane for claimed in await take(spool)]
    assert sorted(lanes, key=str) == [Lane("local", "ann"), Lane("local", "bob"), Lane("out", "")]
