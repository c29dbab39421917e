"""The limits of the SMTP server, all of them, each with its reason.

They protect the machine from strangers; what an operator sets in smtpd.conf (message size, recipients, messages a session)
is in `policy.config.Config`. Seconds and octets.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """One set of limits; tests make smaller ones."""

    #: Connections at once, from everybody. Each costs a descriptor and some 20 KB; a listener beyond it answers 421.
    connections: int = 4000
    #: Connections at once from one address (IPv6: one /64, which is what one customer gets). Loopback and the socket
    #: are exempt: a local program that opens many is the operator's own.
    connections_per_address: int = 50
    #: Connections that the kernel keeps waiting for us: a burst of clients while one commit is written.
    backlog: int = 1024

    #: Silence between commands: RFC 5321 4.5.3.2.7 asks for five minutes at least.
    idle: float = 300.0
    #: Silence inside a message; RFC 5321 4.5.3.2.5 has clients wait no longer themselves.
    data_idle: float = 180.0
    #: One message, first octet to last: the default maximum of 35 MiB then needs 10 KB/s.
    data_total: float = 3600.0
    #: A TLS handshake, or the header of a proxy: some round trips over a bad line.
    handshake: float = 30.0
    #: What the name of a client by the reverse DNS is waited for, counted from its arrival. Most answers are there before
    #: it has said MAIL; without one its mail is taken all the same, and its Received field names the address alone.
    name: float = 3.0
    #: Our last words to a client that does not read them.
    linger: float = 10.0
    #: How often the limits in time are looked at, so that no command has to set a timer.
    tick: float = 1.0
    #: What a shutdown waits for messages in flight: less than what service managers wait before SIGKILL.
    grace: float = 30.0

    #: A command line, CR LF included: MAIL with a long VERP sender and every parameter has some 1,500.
    command_line: int = 2048
    #: A line of an AUTH dialogue (RFC 4954 4).
    auth_line: int = 12288
    #: Commands obeyed in one go before other sessions have their turn.
    commands_per_turn: int = 100
    #: Commands that were wrong, in one session. A person at a terminal makes fewer, a scanner more.
    bad_commands: int = 20
    #: Recipients refused, in one session: a stale mailing list has some, a harvest of addresses thousands.
    refused_recipients: int = 100
    #: Failed logins in one session.
    failed_logins: int = 3
    #: Seconds that the answer to a failed login is held back, times the failures so far.
    login_delay: float = 1.0

    #: Octets read ahead of what the session has dealt with; beyond this the kernel holds the client back.
    input_buffer: int = 64 * 1024
