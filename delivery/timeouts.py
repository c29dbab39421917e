"""How long we wait for the other side.

RFC 5321 4.5.3.2 says how long at least; the time-outs before MAIL are shorter where another host could be tried meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds. Tests make them small."""

    #: TCP, for one address. The kernel itself would try for two minutes.
    connect: float = 30
    #: Head start of one address before the next is tried as well (RFC 8305 5).
    stagger: float = 0.25
    #: The greeting (RFC 5321 4.5.3.2.1).
    greeting: float = 300
    #: EHLO, STARTTLS, AUTH, RSET: "command" in spirit of 4.5.3.2.2.
    command: float = 300
    #: The TLS handshake, which no honest server draws out.
    handshake: float = 60
    #: 4.5.3.2.2.
    mail: float = 300
    #: 4.5.3.2.3.
    rcpt: float = 300
    #: 4.5.3.2.4.
    data: float = 120
    #: One block of content that the other side must take (4.5.3.2.5).
    block: float = 180
    #: The reply to the final dot (4.5.3.2.6). Waiting less makes duplicates (RFC 1047).
    dot: float = 600
    #: How long a connection without work stays open.
    idle: float = 10
    #: How long the other side may take to answer QUIT before we just go.
    quit: float = 5
