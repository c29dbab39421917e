"""The configuration as frozen values: what the operator wrote, understood and checked.

The parser makes these, `policy.check` has looked them over; nobody changes them afterwards. A reload makes a new `Config`.
Delays are in milliseconds, sizes in octets.

smtpd.conf(5) of OpenSMTPD 7.8 names every option.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from policy.filters import Filter
from policy.limits import Limits
from policy.queue_key import Encryption
from policy.secret_file import SecretFile
from policy.tables.table import Table
from spool.address import NULL_SENDER, Address
from spool.seal import Compression


class ListenerTls(enum.Enum):
    """How a listener speaks TLS."""

    NONE = "none"
    #: STARTTLS is offered (``tls``).
    OFFERED = "tls"
    #: STARTTLS is demanded before MAIL (``tls-require``).
    REQUIRED = "tls-require"
    #: TLS from the first octet (``smtps``).
    IMPLICIT = "smtps"


class Auth(enum.Enum):
    """Whether a listener wants its clients to authenticate."""

    NONE = "none"
    OPTIONAL = "auth-optional"
    REQUIRED = "auth"


@dataclass(frozen=True, slots=True)
class Pki:
    """A certificate and its key, by the name of its ``pki`` lines."""

    name: str
    cert: str
    key: str
    #: Whether keys are exchanged without elliptic curves too, by servers (``dhe``).
    dhe: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """One ``listen on`` line and one address of it."""

    #: IP address to bind, or empty for the submission socket.
    address: str
    port: int
    tls: ListenerTls = ListenerTls.NONE
    pki: tuple[Pki, ...] = ()
    auth: Auth = Auth.NONE
    #: Logins and password hashes; None means the system's users.
    credentials: Table | None = None
    tag: str = ""
    #: The name in greeting and trace headers; empty means the server name.
    hostname: str = ""
    #: Names in place of ``hostname``, by our address.
    hostnames: Table | None = None
    mask_src: bool = False
    no_dsn: bool = False
    #: Whether trace headers tell the login.
    received_auth: bool = False
    #: Login to the senders it may use; None means any.
    senders: Table | None = None
    #: Whether the addresses of From become the sender of a client that has logged in.
    masquerade: bool = False
    #: Clients need a certificate.
    verify: bool = False
    #: File of the certificates that clients' are verified against, in place of the system's.
    ca: str = ""
    #: As in openssl-ciphers(1); empty for the usual ones.
    ciphers: str = ""
    #: As in tls_config_set_protocols(3); empty for TLS 1.2 and newer.
    protocols: str = ""
    #: A proxy connects, and says first who the client is.
    proxy_v2: bool = False
    #: Addresses and networks of the proxies; None means this machine's loopback.
    proxies: Table | None = None
    #: Asked in this order.
    filters: tuple[Filter, ...] = ()

    @property
    def is_socket(self) -> bool:
        """Whether this is the local submission socket."""
        return not self.address


class RelayTls(enum.Enum):
    """What a relay demands of the next hop, by the scheme of its URL."""

    #: STARTTLS when offered, not verified (``smtp://`` and MX).
    OPPORTUNISTIC = "smtp"
    #: STARTTLS or nothing, verified (``smtp+tls://``).
    REQUIRED = "smtp+tls"
    #: Plain text on purpose (``smtp+notls://``).
    NEVER = "smtp+notls"
    #: TLS from the first octet, verified (``smtps://``).
    IMPLICIT = "smtps"
    #: LMTP in plain text (``lmtp://``).
    LMTP = "lmtp"


@dataclass(frozen=True, slots=True)
class Smarthost:
    """A relay URL: ``[scheme://][label@]host[:port]``."""

    tls: RelayTls
    #: A host name, or an IP address without brackets.
    host: str
    port: int
    #: The credentials' label, or empty.
    label: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.tls.value}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Squares:
    """Retries ``base`` times 1, 4, 9, 16 ... after the arrival (``retry DELAY``)."""

    base: int

    @property
    def first(self) -> int:
        """The first wait."""
        return self.base


@dataclass(frozen=True, slots=True)
class Waits:
    """The waits after the first failure, the second, and so on; the last one repeats (``retry { DELAY, ... }``)."""

    delays: tuple[int, ...]

    @property
    def first(self) -> int:
        """The first wait."""
        return self.delays[0]

    def after(self, failures: int) -> int:
        """The wait after the last of so many failures."""
        return self.delays[min(max(failures, 1), len(self.delays)) - 1]


Retry: TypeAlias = Squares | Waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What every action has. ``ttl`` None means the queue's, ``retry`` None the scheduler's."""

    name: str
    ttl: int | None = None
    retry: Retry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAction(Action):
    """What every delivery on this machine has."""

    alias: Table | None = None
    virtual: Table | None = None
    #: The command that is run in place of a command, which stands in it as ``%{mda}``; empty for none.
    wrapper: str = ""
    #: Deliver everything as this system user; empty means as the recipient.
    user: str = ""
    #: Who the recipients are, as ``uid:gid:home``, in place of the system's users.
    userbase: Table | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mbox(LocalAction):
    """Append to ``/var/mail/USER``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maildir(LocalAction):
    """Write into a Maildir; ``path`` may begin with ``~/`` and hold format specifiers."""

    path: str = "~/Maildir"
    #: What a header marks as spam goes to the folder ``.Junk``, which is made when missing.
    junk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(LocalAction):
    """Give the message to a program (``mda``)."""

    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lmtp(LocalAction):
    """Give the message to an LMTP server at ``/socket``, ``host:port`` or ``[v6]:port``."""

    destination: str
    #: RCPT with the expanded address instead of the user's name.
    rcpt_to: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOnly(LocalAction):
    """Nobody has a mailbox here: every recipient must expand to addresses that another action takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandOnly(LocalAction):
    """Nobody has a mailbox here: every recipient must expand to addresses, or to commands and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay(Action):
    """Send the message to another server: by MX, or to one of ``hosts`` in turn."""

    hosts: tuple[Smarthost, ...] = ()
    #: Where ``hosts`` were read when the configuration was, if that may say something else by now.
    host_table: Table | None = None
    #: Label to ``user:password``.
    auth: Table | None = None
    #: Replaces parts of the envelope sender: ``user``, ``@domain`` or ``user@domain``; never the null sender.
    mail_from: str = ""
    helo: str = ""
    #: TLS is required: verified, unless ``no_verify``.
    require_tls: bool = False
    no_verify: bool = False
    #: File of trusted certificates in place of the system's.
    ca: str = ""
    pki: Pki | None = None
    #: Local addresses to connect from.
    src: Table | None = None
    #: Relay URLs by the domain of the recipient, in place of ``hosts``.
    domain: Table | None = None
    #: Our name in EHLO by the address that we connect from, before ``helo``.
    helo_src: Table | None = None
    #: Only servers that are preferred over us, or over ``backup_mx``, take mail from a backup.
    backup: bool = False
    backup_mx: str = ""
    #: What is allowed of TLS, empty for what is usual.
    ciphers: str = ""
    protocols: str = ""


AnyLocalAction: TypeAlias = Mbox | Maildir | Command | Lmtp | ForwardOnly | ExpandOnly
AnyAction: TypeAlias = AnyLocalAction | Relay


@dataclass(frozen=True, slots=True)
class From:
    """The ``from`` of a rule. Exactly one of the forms: ``any``, ``local``, ``socket``, ``src``, ``auth``, ``rdns``."""

    form: str
    table: Table | None = None
    negated: bool = False
    #: The table holds regular expressions.
    is_regex: bool = False


@dataclass(frozen=True, slots=True)
class For:
    """The ``for`` of a rule. Exactly one of the forms: ``any``, ``local``, ``domain``, ``rcpt-to``."""

    form: str
    table: Table | None = None
    negated: bool = False
    #: The table holds regular expressions.
    is_regex: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """A further condition of a rule: ``auth``, ``tls``, ``tag``, ``helo``, ``mail-from`` or ``rcpt-to``."""

    what: str
    table: Table | None = None
    negated: bool = False
    #: The table holds regular expressions.
    is_regex: bool = False


AnyCondition: TypeAlias = From | For | Condition

#: The order in which conditions are asked, as in OpenSMTPD; ``from`` and ``for`` stand behind the tag.
_ASKED_FIRST: Final = ("tag",)
_ASKED_LAST: Final = ("helo", "auth", "tls", "mail-from", "rcpt-to")


@dataclass(frozen=True, slots=True)
class Rule:
    """One ``match`` line. ``action`` is a name, empty for ``reject``."""

    source: From
    destination: For
    conditions: tuple[Condition, ...]
    action: str
    #: ``file:line`` of the rule, for logs and explanations.
    place: str
    #: Every condition, in the order in which they are asked: it decides which table that is out of order is noticed.
    asked: tuple[AnyCondition, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        first = (each for each in self.conditions if each.what in _ASKED_FIRST)
        last = sorted(
            (each for each in self.conditions if each.what not in _ASKED_FIRST),
            key=lambda each: _ASKED_LAST.index(each.what),
        )
        object.__setattr__(self, "asked", (*first, self.source, self.destination, *last))

    @property
    def rejects(self) -> bool:
        """Whether a match refuses the recipient."""
        return not self.action


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that one configuration says, defaults filled in."""

    path: str
    server_name: str
    listeners: tuple[Listener, ...]
    actions: Mapping[str, AnyAction]
    rules: tuple[Rule, ...]
    tables: Mapping[str, Table] = field(default_factory=dict)
    queue_ttl: int = 4 * 24 * 3600 * 1000
    warn_intervals: tuple[int, ...] = (4 * 3600 * 1000,)
    max_message_size: int = 35 * 1024 * 1024
    max_mails: int = 100
    max_recipients: int = 1000
    sub_addr_delim: str = "+"
    #: Names and addresses that ``for local`` means, lower-case.
    local_names: frozenset[str] = frozenset()
    #: Addresses that ``from local`` means, beside the socket.
    local_addresses: frozenset[str] = frozenset()
    #: The folder that stands before absolute paths of files in tables; empty for none.
    root: str = ""
    limits: Limits = field(default_factory=Limits)
    #: Commands that ``wrapper`` options name.
    wrappers: Mapping[str, str] = field(default_factory=dict)
    #: How the bodies of waiting mail are compressed.
    compression: Compression = Compression.NONE
    #: The keys that they are encrypted with; None leaves them readable.
    encryption: Encryption | None = None
    #: Where passwords, or hashes of them, stand.
    secret_files: tuple[SecretFile, ...] = ()
    #: How many processes serve clients, and how many deliver, where the roles have processes of their own.
    smtp_processes: int = 1
    mta_processes: int = 1

    def ttl_of(self, action: str) -> int:
        """How long mail for the action ``action`` may wait, in milliseconds."""
        found = self.actions.get(action)
        return self.queue_ttl if found is None or found.ttl is None else found.ttl


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a client and its transaction when a rule is asked."""

    #: IP address as text, or ``local`` for the submission socket.
    source: str
    mail_from: Address
    helo: str = ""
    #: The confirmed name of the client in the reverse DNS; empty when it has none, or when nobody knows.
    rdns: str = ""
    #: Whether the DNS gave an answer.
    is_rdns_known: bool = True
    tag: str = ""
    tls: bool = False
    #: The login, or None; local-socket submissions count as authenticated with an empty login.
    login: str | None = None
    #: The address in question came out of an alias, so it counts as ours, whoever the client is.
    is_internal: bool = False


#: What is known when we send a report of our own to a return path.
REPORT_FACTS: Final = Facts("local", NULL_SENDER, login="")
