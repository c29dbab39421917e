"""The limits of the SMTP server, all of them, each with its reason.

They protect the machine from strangers; what an operator sets in smtpd.conf (message size, recipients, messages a session)
is in `policy.config.Config`. Seconds and octets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

#: Servers that say in the header that they had a message: RFC 5321 6.3 asks for 100 at least; above it the message is taken
#: to run in a circle.
MAX_HOPS: Final = 100
#: Octets of a header: mailing list software writes some 20 KB, a To field of thousands of people 200.
MAX_HEADER: Final = 256 * 1024
#: Octets of a text line. RFC 5321 asks for 1,000 and programs write more; the bound keeps one line from being the message.
MAX_TEXT_LINE: Final = 65535
#: Envelopes beside one for each recipient: a thousand times the same user with a hundred targets in a .forward must not fill
#: the memory and the spool. A single recipient may become more, see `policy.expand`.
MAX_SURPLUS: Final = 10_000
#: Octets that all messages under way may take in our memory, as `ingress.memory` counts them: recipients, headers, and
#: bodies that are not in a file. A hundred messages of a thousand recipients are below it, and thousands of ordinary ones.
MAX_MEMORY: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """One set of limits; tests make smaller ones."""

    #: Connections at once, from everybody. Each costs a descriptor and some 10 KB, in TLS 30 (`bench.strangers`); a listener
    #: beyond it answers 421.
    connections: int = 4000
    #: Connections at once from one address (IPv6: one /64, which is what one customer gets). Loopback is
    #: exempt: a local program that opens many is the operator's own.
    connections_per_address: int = 50
    #: Connections at once of one user at the socket, whom the kernel names: nobody here keeps strangers from being served.
    connections_per_user: int = 400
    #: New connections of one address: so many at once, and then so many a second. A server that opens one for each message
    #: of a mailing is below it; one that opens a hundred a second wears us out with handshakes. Loopback is exempt.
    arrivals_at_once: int = 300
    arrivals_per_second: float = 5.0
    #: Addresses whose arrivals are remembered; those that have been quiet are forgotten first.
    arrivals_kept: int = 20_000
    #: Shares of the connections at which stress begins and ends. Well apart, or it would come and go all the time.
    stress_begins: float = 0.75
    stress_ends: float = 0.5
    #: Silence between commands under stress: servers answer within a second or two.
    stress_idle: float = 15.0
    #: Connections that the kernel keeps waiting for us: a burst of clients while one commit is written.
    backlog: int = 1024

    #: Silence between commands, and the time for one command line however slowly it comes: RFC 5321 4.5.3.2.7 asks for five
    #: minutes at least.
    idle: float = 300.0
    #: How long a session may go on without a message or a login: whoever has nothing for us holds a place of others. It is
    #: counted from one message to the next, so that a long session that works is never cut off.
    fruitless: float = 3600.0
    #: Silence inside a message; RFC 5321 4.5.3.2.5 has clients wait no longer themselves.
    data_idle: float = 180.0
    #: Octets a second that a message must come with, beyond `data_idle` that every message may take: slower than any line,
    #: and faster than those who send an octet now and then to hold a connection. Only what we wait for the client counts.
    data_rate: float = 512.0
    #: One message, first octet to last: the default maximum of 35 MiB then needs 10 KB/s.
    data_total: float = 3600.0
    #: A TLS handshake, or the header of a proxy: some round trips over a bad line.
    handshake: float = 30.0
    #: How long a TLS session can be taken up again at most. The keys for that open what was said with TLS 1.2, so they go.
    ticket_keys: float = 12 * 3600.0
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
    #: Commands without a message taken or a login: NOOP, RSET, greetings and begun transactions. RCPT has limits of its own.
    idle_commands: int = 200
    #: Recipients refused, in one session: a stale mailing list has some, a harvest of addresses thousands.
    refused_recipients: int = 100
    #: Failed logins in one session.
    failed_logins: int = 3
    #: Seconds from the beginning of a login to the answer that it failed, times the failures of the session so far: longer
    #: than a check takes, so that the time does not tell why it failed.
    login_delay: float = 1.0
    #: Failed logins of an address or an account that slow nobody: people mistype, and telephones have old passwords.
    login_slips: float = 5.0
    #: How often `login_delay` an attempt is held back at most, once there were more: clients wait for thirty seconds.
    login_delays: float = 8.0
    #: Failed logins of one address (IPv6: one /64) from which on it is not listened to. An office behind one address with a
    #: few such telephones stays below it.
    address_failures: float = 60.0
    #: Seconds in which half of these failures are forgotten: an address then has some 2,000 guesses a day at most.
    failures_fade: float = 1800.0
    #: Addresses, and accounts, whose failures are remembered, at some 200 octets each.
    failures_kept: int = 20_000

    #: Octets read ahead of what the session has dealt with; beyond this the kernel holds the client back.
    input_buffer: int = 64 * 1024

    def share(self, processes: int) -> Self:
        """What is left for each of so many processes that share the listeners: together they allow no more than one.

        Clients spread by chance, so one of them may find its share used up a little before all of it is.
        """
        return replace(
            self,
            connections=_part(self.connections, processes),
            connections_per_address=_part(self.connections_per_address, processes),
            connections_per_user=_part(self.connections_per_user, processes),
            arrivals_at_once=_part(self.arrivals_at_once, processes),
            arrivals_per_second=self.arrivals_per_second / processes,
            login_slips=self.login_slips / processes,
            address_failures=self.address_failures / processes,
        )

    def under_stress(self) -> Self:
        """The same limits when connections run short: shorter patience, fewer errors; what honest clients do stays possible.

        Servers answer within seconds, and people's programs too; who does not is let go, and may come again.
        """
        return replace(
            self,
            idle=min(self.idle, self.stress_idle),
            data_idle=min(self.data_idle, 30.0),
            fruitless=min(self.fruitless, 120.0),
            handshake=min(self.handshake, 10.0),
            linger=min(self.linger, 2.0),
            bad_commands=min(self.bad_commands, 3),
            idle_commands=min(self.idle_commands, 20),
            refused_recipients=min(self.refused_recipients, 20),
            failed_logins=min(self.failed_logins, 1),
        )


def _part(whole: int, processes: int) -> int:
    return max(1, whole // processes)
