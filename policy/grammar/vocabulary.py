"""The words of the language: which options each directive has, what they take, and which are not supported yet.

The manual page smtpd.conf(5) is held against these tables by a test.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Takes(enum.Enum):
    """What stands behind an option's word."""

    # One for each kind is all there is; the usual hash is a call of Python for each option.
    __hash__ = object.__hash__

    NOTHING = "nothing"
    STRING = "a string"
    #: A string may be left out.
    MAYBE_STRING = "a string or nothing"
    #: ``<name>``, ``{ ... }`` or a string.
    TABLE = "a table"
    MAYBE_TABLE = "a table or nothing"
    #: A table, and ``regex`` may stand before it.
    PATTERNS = "a table of patterns"
    MAYBE_PATTERNS = "a table of patterns or nothing"
    DELAY = "a delay"
    #: A delay, or delays in braces.
    DELAYS = "delays"
    PORT = "a port"
    #: A string, or strings in braces.
    NAMES = "names"
    #: ``mx NAME`` or nothing.
    MAYBE_MX = "mx and a name, or nothing"


@dataclass(frozen=True, slots=True)
class Option:
    """One word that may stand in a directive."""

    word: str
    takes: Takes = Takes.NOTHING
    #: Options of one group exclude one another; empty means a group of its own.
    group: str = ""
    repeats: bool = False
    #: A word that may stand behind the argument and changes the meaning.
    modifier: str = ""
    #: What is not supported yet; empty when it is. ``modifier_later`` says it of the modifier alone.
    later: str = ""
    modifier_later: str = ""


def _vocabulary(*options: Option) -> Mapping[str, Option]:
    return {option.word: option for option in options}


SOCKET_OPTIONS: Final = _vocabulary(
    Option("tag", Takes.STRING),
    Option("mask-src"),
    Option("no-dsn"),
    Option("filter", Takes.NAMES),
)

LISTEN_OPTIONS: Final = {
    **SOCKET_OPTIONS,
    **_vocabulary(
        Option("inet4", group="address family"),
        Option("inet6", group="address family"),
        Option("port", Takes.PORT),
        Option("tls", group="TLS mode"),
        Option("tls-require", group="TLS mode", modifier="verify"),
        Option("smtps", group="TLS mode", modifier="verify"),
        Option("pki", Takes.STRING, repeats=True),
        Option("auth", Takes.MAYBE_TABLE, group="auth"),
        Option("auth-optional", Takes.MAYBE_TABLE, group="auth"),
        Option("hostname", Takes.STRING),
        Option("hostnames", Takes.TABLE),
        Option("ca", Takes.STRING),
        Option("ciphers", Takes.STRING),
        Option("protocols", Takes.STRING),
        Option("received-auth"),
        Option("proxy-v2", Takes.MAYBE_TABLE),
        Option("senders", Takes.TABLE, modifier="masquerade"),
    ),
}

METHODS: Final = _vocabulary(
    Option("mbox"),
    Option("maildir", Takes.MAYBE_STRING, modifier="junk"),
    Option("mda", Takes.STRING),
    Option("lmtp", Takes.STRING, modifier="rcpt-to"),
    Option("relay"),
    Option("forward-only"),
    Option("expand-only"),
)

_ACTION_OPTIONS: Final = _vocabulary(Option("ttl", Takes.DELAY), Option("retry", Takes.DELAYS))

LOCAL_OPTIONS: Final = {
    **_ACTION_OPTIONS,
    **_vocabulary(
        Option("alias", Takes.TABLE, group="alias or virtual"),
        Option("virtual", Takes.TABLE, group="alias or virtual"),
        Option("user", Takes.STRING),
        Option("userbase", Takes.TABLE),
        Option("wrapper", Takes.STRING),
    ),
}

RELAY_OPTIONS: Final = {
    **_ACTION_OPTIONS,
    **_vocabulary(
        Option("host", Takes.TABLE, group="host, domain or backup"),
        Option("domain", Takes.TABLE, group="host, domain or backup"),
        Option("backup", Takes.MAYBE_MX, group="host, domain or backup"),
        Option("auth", Takes.TABLE),
        Option("mail-from", Takes.STRING),
        Option("helo", Takes.STRING),
        Option("tls", modifier="no-verify"),
        Option("ca", Takes.STRING),
        Option("pki", Takes.STRING),
        Option("src", Takes.TABLE),
        Option("helo-src", Takes.TABLE),
        Option("ciphers", Takes.STRING),
        Option("protocols", Takes.STRING),
        Option("filter", Takes.NAMES, later="filters of relays"),
        Option("srs", later="the sender rewriting scheme"),
    ),
}

CONDITIONS: Final = _vocabulary(
    Option("tag", Takes.PATTERNS),
    Option("helo", Takes.PATTERNS),
    Option("auth", Takes.MAYBE_PATTERNS),
    Option("tls"),
    Option("mail-from", Takes.PATTERNS),
    Option("rcpt-to", Takes.PATTERNS),
)

FROM_FORMS: Final = _vocabulary(
    Option("any"),
    Option("local"),
    Option("socket"),
    Option("src", Takes.PATTERNS),
    Option("auth", Takes.MAYBE_PATTERNS),
    Option("mail-from", Takes.PATTERNS),
    Option("rdns", Takes.MAYBE_PATTERNS),
)

FOR_FORMS: Final = _vocabulary(
    Option("any"),
    Option("local"),
    Option("domain", Takes.PATTERNS),
    Option("rcpt-to", Takes.PATTERNS),
)

#: What a filter asks.
FILTER_QUESTIONS: Final = _vocabulary(
    Option("fcrdns"),
    Option("rdns", Takes.MAYBE_PATTERNS),
    Option("src", Takes.PATTERNS),
    Option("helo", Takes.PATTERNS),
    Option("auth", Takes.MAYBE_PATTERNS),
    Option("mail-from", Takes.PATTERNS),
    Option("rcpt-to", Takes.PATTERNS),
)

#: What it does then.
FILTER_DEEDS: Final = _vocabulary(
    Option("reject", Takes.STRING),
    Option("disconnect", Takes.STRING),
    Option("rewrite", Takes.STRING),
    Option("report", Takes.STRING),
    Option("junk"),
    Option("bypass"),
)

#: And when.
FILTER_PHASES: Final = ("connect", "helo", "ehlo", "auth", "mail-from", "rcpt-to", "data", "commit")
FILTER_KINDS: Final = ("phase", "chain")

PKI_OPTIONS: Final = _vocabulary(
    Option("cert", Takes.STRING),
    Option("key", Takes.STRING),
    Option("dhe", Takes.STRING),
)

#: Directives that are read; the second word of those that have one.
DIRECTIVES: Final[Mapping[str, tuple[str, ...]]] = {
    "action": (),
    "bounce": ("warn-interval",),
    "ca": ("cert",),
    "filter": FILTER_KINDS,
    "include": (),
    "listen": ("on",),
    "match": ("reject", "action", "from", "for"),
    "mda": ("limit", "wrapper"),
    "mta": ("limit", "max-deferred", "processes"),
    "pki": (),
    "queue": ("compression", "encryption", "ttl"),
    "scheduler": ("limit",),
    "smtp": ("ciphers", "limit", "max-message-size", "processes", "sub-addr-delim"),
    "table": (),
}

#: How bodies can be compressed, the usual way first.
COMPRESSIONS: Final = ("zstd", "gzip")
#: What stands before keys that only open.
OLD_KEYS: Final = "old"
#: What stands for a key that is read from standard input.
KEY_PLACES: Final = ("stdin", "-")

#: More than the cores of any machine that this is for; it catches slips of the hand.
MAX_PROCESSES: Final = 64

#: Keys of ``smtp limit``.
SMTP_LIMITS: Final = ("max-mails", "max-rcpt")

#: Directives, and second words of directives, that are not supported yet.
LATER: Final[Mapping[str, str]] = {
    "admd": "programs as filters",
    "filter proc": "programs as filters",
    "filter proc-exec": "programs as filters",
    "proc": "programs as filters",
    "srs": "the sender rewriting scheme",
}
