"""The header of a message, as octets: where it ends, what is in it, what we add and take away.

Nothing is decoded and no MIME is read. A message of a stranger keeps every octet but for Bcc fields and addresses without a
domain (`ingress.addressing`); one that was submitted on this machine is given the Date and Message-ID that it lacks.

Guarantees: what `trace` and `complete` write is ASCII but for an address or a name in an SMTPUTF8 transaction, and every
value in it has been checked, so nobody can add a field of his own.

Failure: `header_end` answers None for text that does not begin with a header.

RFC 5322 2.2, 3.6 (fields); RFC 5321 4.4 (Received); RFC 3848 and RFC 6531 4.3 (its protocol names).
"""

from __future__ import annotations

import email.utils
import functools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from spool.address import Address
from spool.ids import MessageId
from spool.message import Client

#: The field that filters mark a message with, for the junk folders of Maildirs.
SPAM_MARK: Final = b"X-Spam: Yes\r\n"

# Possessive, so that a hostile header costs one pass. Blanks before the colon are an old form that readers accept.
_FIELD = rb"[!-9;-~]++[ \t]*+:[^\r\n]*+\r\n(?:[ \t][^\r\n]*+\r\n)*+"
_HEADER = re.compile(rb"(?:" + _FIELD + rb")*+")
#: What a login may not hold that stands in a field.
_NO_WORD = re.compile(r"[^!#-'*+\-./0-9=?@A-Z^-~]")
_BCC = re.compile(rb"^bcc[ \t]*+:[^\r\n]*+\r\n(?:[ \t][^\r\n]*+\r\n)*+", re.IGNORECASE | re.MULTILINE)
_HOP = re.compile(rb"^received[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_DATE = re.compile(rb"^date[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*+:", re.IGNORECASE | re.MULTILINE)


def header_end(content: bytes) -> int | None:
    """Where the fields at the beginning of ``content`` end: at an empty line, at one that is no field, or with the text.

    None when there is text and its first line is neither a field nor empty.
    """
    found = _HEADER.match(content)
    end = found.end() if found else 0
    return end if end or not content or content.startswith(b"\r\n") else None


def hops(header: bytes) -> int:
    """How many servers say that they had it."""
    return len(_HOP.findall(header)) if b"received" in header.lower() else 0


def without_bcc(header: bytes) -> bytes:
    """``header`` without its Bcc fields: whom they name is nobody else's business."""
    return _BCC.sub(b"", header) if b"bcc" in header.lower() else header


def complete(header: bytes, message: MessageId, host: str, wall: float) -> bytes:
    """``header`` with the Date and the Message-ID that RFC 5322 3.6 demands (RFC 6409 8.2 and 8.3)."""
    added = b""
    if not _DATE.search(header):
        added += b"Date: " + _date(int(wall)) + b"\r\n"
    if not _MESSAGE_ID.search(header):
        added += f"Message-ID: <{message}@{host}>\r\n".encode()
    return header + added


@dataclass(frozen=True, slots=True)
class Trace:
    """What a Received field says."""

    client: Client
    #: The name of our listener.
    host: str
    message: MessageId
    #: ``TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO``, or empty.
    tls: str = ""
    #: Whether the client stays unnamed (``mask-src``).
    masked: bool = False
    #: The login that is to be told (``received-auth``), or empty.
    login: str = ""
    #: The recipient when it is the only one: naming one of several would tell each of the others.
    recipient: Address | None = None


def received(trace: Trace, wall: float) -> bytes:
    """The Received field."""
    client = trace.client
    lines = [
        f"Received: from {client.helo} ({_host(client)})\r\n\tby" if not trace.masked else "Received: by",
        f" {trace.host} (Mailspool) with {client.protocol} id {trace.message}",
        f" ({trace.tls})" if trace.tls else "",
        f" auth=yes user={_NO_WORD.sub('?', trace.login)}" if trace.login and trace.tls else "",
        f"\r\n\tfor <{trace.recipient}>" if trace.recipient else "",
        ";\r\n\t",
    ]
    return "".join(lines).encode() + _date(int(wall)) + b"\r\n"


def _host(client: Client) -> str:
    literal = f"[IPv6:{client.address}]" if ":" in client.address else f"[{client.address}]"
    return f"{client.host} {literal}" if client.host else literal


def protocol(esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """The name of a session's protocol: ESMTPSA and its kin; plain SMTP has no variants."""
    if not esmtp:
        return "SMTP"
    return ("UTF8SMTP" if smtputf8 else "ESMTP") + ("S" if tls else "") + ("A" if authenticated else "")


def is_loopback(address: str) -> bool:
    """Whether an IP address in its plain form is this machine's own loopback; ``local``, the socket, counts as one."""
    return address in ("local", "::1") or address.startswith("127.")


@functools.lru_cache(maxsize=4)
def _date(second: int) -> bytes:
    """RFC 5322 3.3, with the offset of the machine's time zone; the same for every message of a second."""
    return email.utils.format_datetime(datetime.fromtimestamp(second, UTC).astimezone()).encode()
