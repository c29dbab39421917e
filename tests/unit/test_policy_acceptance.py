"""What OpenSMTPD 7.8 accepts, refuses, and complains of: the same here, but where an explanation stands beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.pki import selfsigned
from tests.tools.configured import Configured

ANY_ORDER = "options may stand in any order"
SOONER = "OpenSMTPD accepts it, and every delivery is deferred"
REJECT = "match for any reject"


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Configured:
    configured = Configured(tmp_path_factory.mktemp("root"))
    configured.write("list", "a\nb\n")
    configured.write("pairs", "a b\n")
    pki = selfsigned(str(configured.folder), "mx.example.org")
    for suffix in ("crt", "key"):
        Path(pki.cert).with_suffix(f".{suffix}").rename(configured.folder / f"mx.{suffix}")
    return configured


#: Configuration, what OpenSMTPD says, and why we say something else.
MATRIX = [
    ("match tls for any reject", True, ""),
    ("action a mbox ttl 4d alias { x = y }\nmatch for any action a", False, ANY_ORDER),
    ("action a mbox alias { x = y } ttl 4d\nmatch for any action a", True, ""),
    (f'port = "25"\n{REJECT}', False, ""),
    (f'p = "2525"\nlisten on lo port $p\n{REJECT}', True, ""),
    ('d = "x"\nmatch for domain "$d" reject', True, ""),
    ("match for domain { a b } reject", True, ""),
    ("match for domain { a, b, } reject", False, ""),
    ("match for domain {\na\nb\n} reject", True, ""),
    (f"table t {{ k => v }}\n{REJECT}", True, ""),
    ("match ! from local for any reject", True, ""),
    ("action a mbox\nmatch for any action a reject", False, ""),
    ("match from 10.0.0.0/8 for any reject", False, ""),
    ("match from src 10.0.0.0/8 for any reject", True, ""),
    ("match from src [::1] for any reject", False, ""),
    ('match from src "[::1]" for any reject', True, ""),
    ("action a maildir /x\nmatch for any action a", False, ""),
    ('action a maildir "/x"\nmatch for any action a', True, ""),
    ("action a relay auth <pairs> host smtps://l@h.example\nmatch for any action a", False, ANY_ORDER),
    ("action a relay host smtps://l@h.example auth <pairs>\nmatch for any action a", True, ""),
    ("action a relay via x.example\nmatch for any action a", False, ""),
    ("action a relay host tls://x.example\nmatch for any action a", True, SOONER),
    ("action a relay host lmtp://h.example\nmatch for any action a", True, SOONER),
    (f"bounce warn-interval {{ 1h }}\n{REJECT}", False, ""),
    (f"bounce warn-interval 1h, 2h, 3h, 4h, 5h\n{REJECT}", True, ""),
    (f"queue ttl 0d\n{REJECT}", False, ""),
    (f'filter f phase connect match rdns fcrdns reject "550 no"\n{REJECT}', False, ""),
    (f"filter f phase commit match rdns junk\n{REJECT}", False, ""),
    (f"table t {{ }}\n{REJECT}", False, ""),
    (f"x = local\n{REJECT}", False, ""),
    ("match from any from local for any reject", False, ""),
    (f"listen on ::1\n{REJECT}", True, ""),
    (f"listen on all\n{REJECT}", False, ""),
    (f"listen on lo port 0\n{REJECT}", False, ""),
    (REJECT, True, ""),
]


@pytest.mark.parametrize(("text", "theirs", "why"), MATRIX)
def test_the_verdict_is_that_of_opensmtpd_or_explained(
    configured: Configured, text: str, theirs: bool, why: str
) -> None:
    assert (configured.errors(text) == []) is (theirs is not bool(why))


PKI = 'pki mx.example.org cert "/etc/smtpd/mx.crt"\npki mx.example.org key "/etc/smtpd/mx.key"\n'
FILTER = 'filter f phase connect match rdns reject "550 no"\n'
#: Each complaint that OpenSMTPD's parser has: a configuration that draws it, and ours, with its line and column.
CATALOGUE = {
    "syntax error": ("queue tll 4d", '1:7: unknown setting "queue tll"'),
    "no such table": ("match for domain <nowhere> reject", '1:18: no table "nowhere" is declared'),
    "no such dispatcher": ('match for any action "b"', '1:22: no action "b" is declared'),
    "dispatcher already declared": ("action a mbox\naction a mbox", '2:8: action "a" is declared already, at'),
    "table not for alias": ("action a mbox alias <list>", '1:21: table "list" is a list, but "alias" needs a mapping'),
    "table not for virtual": ("action a mbox virtual <list>", '1:23: table "list" is a list'),
    "table not for userbase": ("action a mbox userbase <list>", '1:24: table "list" is a list'),
    "table not for helo-source": ("action a relay helo-src <list>", '1:25: table "list" is a list'),
    "table not for source": ("action a relay src <list>", '1:1: table "list": "a" is no IP address to connect from'),
    "table not for host": ("action a relay host <pairs>", '1:21: table "pairs" is a mapping, but "host" needs a list'),
    "table not for domain": ("action a relay domain <list>", '1:23: table "list" is a list'),
    "table not for auth": ("action a relay host h.example auth <list>", '1:36: table "list" is a list'),
    "table not for tag": ("match tag <pairs> for any reject", '1:11: table "pairs" is a mapping'),
    "table not for helo": ("match helo <pairs> for any reject", '1:12: table "pairs" is a mapping'),
    "table not for from": ("match from src <pairs> for any reject", '1:16: table "pairs" is a mapping'),
    "table not for rdns": ("match from rdns <pairs> for any reject", '1:17: table "pairs" is a mapping'),
    "table not for for": ("match for domain <pairs> reject", '1:18: table "pairs" is a mapping'),
    "table not for regex": ("match mail-from regex <pairs> for any reject", '1:23: table "pairs" is a mapping'),
    "table not for hostnames": ("listen on lo hostnames <list>", '1:24: table "list" is a list'),
    "table not for senders": ("listen on lo senders <list>", '1:22: table "list" is a list'),
    "mapping already specified": ("action a mbox alias <pairs> alias <pairs>", '1:29: "alias" twice'),
    "alias and virtual": ("action a mbox alias <pairs> virtual <pairs>", "alias or virtual"),
    "option already specified": ("action a relay helo a.example helo b.example", '1:31: "helo" twice'),
    "backup and host": ("action a relay backup host h.example", "is given already, by"),
    "backup and domain": ("action a relay backup domain <pairs>", "is given already, by"),
    "auth without host": ("action a relay auth <pairs>", '1:16: "auth" is of no use without "host" or "domain"'),
    "srs without a key": ("action a relay srs", '1:16: not supported yet: "srs"'),
    "user for mbox": ("action a mbox user ann", '1:15: "user" cannot be given for mbox'),
    "user for forward-only": ("action a forward-only user ann", '1:23: "user" cannot be given for forward-only'),
    "user for expand-only": ("action a expand-only user ann", '1:22: "user" cannot be given for expand-only'),
    "no wrapper": ('action a mda "x" wrapper w', '1:26: no wrapper "w" is declared'),
    "wrapper already declared": (
        'mda wrapper w "x %{mda}"\nmda wrapper w "x %{mda}"',
        '2:13: wrapper "w" is declared already, at',
    ),
    "tag already specified": ("match tag a tag b for any reject", '1:13: "tag" twice in one rule'),
    "helo already specified": ("match helo a helo b for any reject", '1:14: "helo" twice in one rule'),
    "tls already specified": ("match tls tls for any reject", '1:11: "tls" twice in one rule'),
    "auth already specified": ("match auth auth for any reject", '1:12: "auth" twice in one rule'),
    "mail-from already specified": ("match mail-from a mail-from b for any reject", '"mail-from" twice in one rule'),
    "rcpt-to already specified": ("match rcpt-to a rcpt-to b for any reject", '"rcpt-to" twice in one rule'),
    "from already specified": ("match from any from any for any reject", '1:16: "from" twice in one rule'),
    "for already specified": ("match for any for any reject", '1:15: "for" twice in one rule'),
    "listener option twice": ("listen on lo tag a tag b", '1:20: "tag" twice in a listener'),
    "address family twice": (
        "listen on lo inet4 inet6",
        '1:20: address family of a listener is given already, by "inet4"',
    ),
    "TLS mode twice": (f"{PKI}listen on lo tls smtps pki mx.example.org", "TLS mode of a listener is given already"),
    "too long a tag": (f"listen on lo tag {'a' * 33}", "1:18: a tag has 1 to 32 characters"),
    "invalid port": ("listen on lo port 65536", '1:19: "65536" is not a port'),
    "socket twice": ("listen on socket\nlisten on socket", "2:1: the socket listener is configured already"),
    "auth without tls": ("listen on lo auth <pairs>", "1:14:"),
    "tls without pki": ("listen on lo tls", '1:14: "tls" needs a certificate'),
    "pki without tls": (f"{PKI}listen on lo pki mx.example.org", '3:14: "pki" is of no use without'),
    "unknown pki": ("listen on lo tls pki other.example", '1:22: no pki "other.example" is declared'),
    "no filter": ("listen on lo filter g", '1:21: no filter "g" is declared'),
    "filter twice": (f"{FILTER}{FILTER}", '2:8: filter "f" is declared already, at'),
    "no processor": ('filter f proc "p"', "not supported yet"),
    "filter twice in a chain": (f"{FILTER}filter c chain {{ f, f }}", '"f" twice'),
    "invalid ttl": ("queue ttl 4x", '1:11: "4x" is not a delay'),
    "invalid bounce delay": ("bounce warn-interval 0h", '1:22: "0h" is not a delay'),
    "invalid size": ("smtp max-message-size 3T", '1:23: "3T" is not a size'),
    "invalid DHE keyword": (f"{PKI}pki mx.example.org dhe some", '3:24: unknown setting "dhe some"'),
    "invalid mta limit": ("mta limit max-con 3", '1:11: unknown limit "max-con" of mta'),
    "invalid session limit": ("smtp limit max-mail 3", '1:12: unknown limit "max-mail" of smtp'),
    "invalid scheduler limit": ("scheduler limit max-flight 3", '1:17: unknown limit "max-flight" of scheduler'),
    "delimiter of two characters": (
        'smtp sub-addr-delim "ab"',
        "1:21: the sub-address delimiter must be one character",
    ),
    "delimiter at": ('smtp sub-addr-delim "@"', '1:21: "@" cannot be the sub-address delimiter'),
    "invalid domain name of a pki": ('pki "a b" cert "/x"', '1:5: "a b" is not a valid name here'),
}


@pytest.mark.parametrize("what", CATALOGUE)
def test_what_opensmtpd_complains_of_is_complained_of_in_its_place(configured: Configured, what: str) -> None:
    text, complaint = CATALOGUE[what]
    complaints = configured.errors(f"{text}\n{REJECT}")
    assert any(complaint in each for each in complaints), complaints


def test_a_chain_may_stand_in_a_chain_though_opensmtpd_wants_none(configured: Configured) -> None:
    assert (
        configured.errors(f"{FILTER}filter c chain {{ f }}\nfilter d chain {{ c }}\nlisten on lo filter d\n{REJECT}")
        == []
    )
