"""What an older configuration decided is what the migrated one decides, client by client.

The rules of before are read here by themselves: nothing of the translation is used for them.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from policy.config import Config, Facts
from policy.lexer import Source
from policy.migrate.translation import migrate
from policy.pki import selfsigned
from policy.ruleset import match
from spool.address import NULL_SENDER, Address, parse_address
from tests.tools.configured import Configured

TABLES = {
    "lan": ["10.0.0.0/8"],
    "near": ["10.0.0.0/8", "local"],
    "ours": ["example.org", "example.com"],
    "evil": ["@evil.example", "mallory@example.net"],
}
HEAD = """pki mail.example.org cert "/mail.example.org.crt"
pki mail.example.org key "/mail.example.org.key"
""" + "".join(f"table {name} {{ {', '.join(map(repr, keys))} }}\n" for name, keys in TABLES.items())
LOGINS = 'listen on eth0 smtps pki mail.example.org auth { "ann" = "x" }\n'

OLD = {
    "local and any": """
accept for local deliver to mbox
accept from any for domain <ours> deliver to mbox
accept for any relay
""",
    "addresses": """
reject from source "10.6.6.6" for any
accept from source <lan> for any relay
accept from source <near> for domain "example.net" relay backup
accept from any for domain "example.org" deliver to maildir
""",
    "addresses turned round": """
reject from ! source <lan> sender <evil> for any
accept from ! local for domain <ours> deliver to mbox
accept from ! source <near> for domain "example.net" deliver to maildir
accept for any relay
""",
    "senders and recipients": """
reject from any sender <evil> for any
reject from any for any recipient { "root@example.org", "@example.com" }
accept from any recipient ! "nobody@example.org" for domain <ours> deliver to mbox
accept sender "@example.org" for any relay via smtps://mx.example.net verify
accept sender ! "ann@example.com" for any relay
""",
    "tags": """
accept tagged inside from any for any relay
accept tagged ! inside from local for domain <ours> deliver to mbox
reject from any for any
""",
    "authenticated": """
accept authenticated from any for domain "example.net" relay
accept authenticated sender "@example.org" for any deliver to mbox
reject ! authenticated from any sender "@example.org" for any
accept ! authenticated from ! local for domain <ours> deliver to maildir
accept ! authenticated for local deliver to mbox
accept for ! domain <ours> relay
""",
    "nothing said": """
reject sender "@evil.example"
accept deliver to mbox
accept from any relay
""",
}


@dataclass(frozen=True)
class Client:
    address: str
    login: str | None
    tag: str
    #: The recipient came out of an alias.
    is_internal: bool

    @property
    def key(self) -> str:
        """Before 6.4, whoever had logged in was local; what comes out of an alias is so to this day."""
        return "local" if self.login is not None or self.is_internal else self.address


def _clients() -> list[Client]:
    addresses = ("local", "127.0.0.1", "192.0.2.25", "10.1.2.3", "10.6.6.6", "198.51.100.7")
    return [
        Client(address, "" if address == "local" else login, tag, is_internal)
        for address, login, tag, is_internal in itertools.product(
            addresses, (None, "ann"), ("", "inside"), (False, True)
        )
    ]


SENDERS = [
    NULL_SENDER,
    *map(parse_address, ("ann@example.org", "ann@example.com", "mallory@example.net", "x@evil.example")),
]
RECIPIENTS = [
    *map(parse_address, ("root@example.org", "nobody@example.org", "bob@example.com", "x@example.net", "me@localhost")),
    parse_address("y@elsewhere.example"),
]


def _elements(text: str) -> list[str]:
    named = re.fullmatch(r"<(\w+)>", text)
    return TABLES[named[1]] if named else re.findall(r'"([^"]+)"', text)


def _clause(rule: str, word: str) -> tuple[bool, str] | None:
    """What stands behind ``word``: whether turned round, and any, local or a table."""
    found = re.search(rf"\b{word} (! )?(?:source |domain )?(any\b|local\b|<\w+>|{{[^}}]*}}|\S+)", rule)
    return (bool(found[1]), found[2]) if found else None


def _is_from(rule: str, key: str) -> bool:
    negated, what = _clause(rule, "from") or (False, "local")
    if what == "any":
        return not negated
    if what == "local":
        found = key in ("local", "127.0.0.1", "192.0.2.25")
    elif key == "local":
        found = "local" in _elements(what)
    else:
        networks = [each for each in _elements(what) if each != "local"]
        found = any(ipaddress.ip_address(key) in ipaddress.ip_network(each) for each in networks)
    return found is not negated


def _is_for(rule: str, domain: str) -> bool:
    negated, what = _clause(rule, "for") or (False, "local")
    if what == "any":
        return not negated
    return (domain in (["localhost", "mail.example.org"] if what == "local" else _elements(what))) is not negated


def _has(rule: str, word: str, address: Address) -> bool:
    negated, what = _clause(rule, word) or (True, '""')
    text = f"{address.local}@{address.domain}"
    return any(text == each or (each[0] == "@" and text.endswith(each)) for each in _elements(what)) is not negated


def old_decision(rules: list[str], client: Client, sender: Address, recipient: Address) -> int | None:
    """The index of the rule that decided before 6.4."""
    for index, rule in enumerate(rules):
        tagged = re.search(r"tagged (! )?(\w+)", rule)
        logged_in = re.search(r"(! )?authenticated", rule)
        if (
            (tagged is None or (client.tag == tagged[2]) is not bool(tagged[1]))
            and (logged_in is None or (client.login is not None) is not bool(logged_in[1]))
            and _is_from(rule, client.key)
            and _is_for(rule, recipient.domain)
            and _has(rule, "sender", sender)
            and _has(rule, "recipient", recipient)
        ):
            return index
    return None


def _present_decision(
    config: Config, first_line: list[int], client: Client, sender: Address, recipient: Address
) -> int | None:
    facts = Facts(client.address, sender, tag=client.tag, login=client.login, is_internal=client.is_internal)
    rule = match(config, facts, recipient)
    if rule is None:
        return None
    line = int(rule.place.rpartition(":")[2])
    return sum(first <= line for first in first_line) - 1


@pytest.mark.parametrize("takes_logins", [True, False])
@pytest.mark.parametrize("name", OLD)
def test_every_client_gets_the_decision_that_it_got_before(tmp_path: Path, name: str, takes_logins: bool) -> None:
    configured = Configured(tmp_path)
    selfsigned(str(tmp_path), "mail.example.org")
    text = HEAD + (LOGINS if takes_logins else "listen on eth0\n") + OLD[name].strip() + "\n"
    migration = migrate(Source("old", text))
    config = configured.load(_supported(migration.text))
    rules = OLD[name].strip().splitlines()
    first_line, line = [], 1
    for passage in migration.passages:
        if passage.old in rules:
            first_line.append(line + passage.before.count("\n"))
        line += passage.text.count("\n")
    for client, sender, recipient in itertools.product(_clients(), SENDERS, RECIPIENTS):
        if client.login and not takes_logins:
            continue
        before = old_decision(rules, client, sender, recipient)
        assert _present_decision(config, first_line, client, sender, recipient) == before, (client, sender, recipient)


def _supported(text: str) -> str:
    """The rules are asked here, not their actions: what an action does not offer yet is of no concern."""
    return re.sub(r'^(action "[^"]+") relay .*$', r"\1 relay", text, flags=re.MULTILINE)
