"""MAIL and RCPT for a given server: only parameters that it offers, and never an octet that could end the command.

Guarantees: the octets made here hold no CR, LF, NUL or other control character, wherever the addresses came from.

Failure: `Unsendable`, with the reply that the sender of the message gets: this message, or this recipient, can never be sent
through this server as it is.

RFC 5321 4.1.1.2 and 4.1.1.3; RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 3461 4 (RET, ENVID, NOTIFY, ORCPT).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import idna

from delivery.client import Offers
from spool.address import Address
from spool.bodies import Body
from spool.message import BodyKind, Message, Notify, Recipient
from spool.reply import Reply

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_XTEXT = re.compile(r"[!-~]+")

#: RFC 1870 6.2.
TOO_LARGE: Final = Reply(552, "5.3.4", "message too large for peer")
#: RFC 6531 3.5: codes for servers without SMTPUTF8.
NO_UTF8_SENDER: Final = Reply(550, "5.6.7", "the next server takes no addresses in UTF-8, as the sender's is")
NO_UTF8_RECIPIENT: Final = Reply(553, "5.6.7", "the next server takes no addresses in UTF-8, as this recipient's is")
NO_UTF8_HEADER: Final = Reply(554, "5.6.9", "the next server takes no headers in UTF-8, as this message has")


class Unsendable(Exception):
    """This can never be sent so; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message as it is about to be sent."""

    message: Message
    #: The envelope sender, rewritten if the action says so.
    sender: Address
    body: Body

    def needs_utf8(self, recipients: list[Address]) -> bool:
        """Whether the transaction must be an internationalised one (RFC 6531 3.4)."""
        return BodyKind.SMTPUTF8 in self.message.body_kind or not (
            self.sender.is_ascii and all(address.is_ascii for address in recipients)
        )


def check_parcel(parcel: Parcel, offers: Offers) -> Parcel:
    """The parcel as this server can take it. Raises `Unsendable`, and `BodyDamaged` if the header has to be looked at."""
    if offers.max_size and parcel.body.size > offers.max_size:
        raise Unsendable(TOO_LARGE)
    if offers.smtputf8:
        return parcel
    sender = _in_ascii(parcel.sender)
    if sender is None:
        raise Unsendable(NO_UTF8_SENDER)
    # Many clients declare SMTPUTF8 for every message; only a header that really has UTF-8 stands in the way.
    if BodyKind.SMTPUTF8 in parcel.message.body_kind and not _header_is_ascii(parcel.body):
        raise Unsendable(NO_UTF8_HEADER)
    return replace(parcel, sender=sender)


def mail_command(parcel: Parcel, offers: Offers, *, utf8: bool) -> bytes:
    """``MAIL FROM:<...>`` with its parameters, without CRLF. Raises `Unsendable`."""
    words = [f"MAIL FROM:<{parcel.sender}>"]
    if offers.size:
        words.append(f"SIZE={parcel.body.size}")
    # To a server without 8BITMIME the octets go as they are, as mail servers have done for decades (docs/relay.md).
    if offers.eight_bit and BodyKind.EIGHT_BIT in parcel.message.body_kind:
        words.append("BODY=8BITMIME")
    if offers.smtputf8 and utf8:
        words.append("SMTPUTF8")
    if offers.dsn:
        words += _mail_dsn(parcel.message)
    return _octets(words)


def rcpt_command(address: Address, recipient: Recipient, offers: Offers) -> bytes:
    """``RCPT TO:<...>`` with its parameters, without CRLF. Raises `Unsendable`."""
    sent = address if offers.smtputf8 else _in_ascii(address)
    if sent is None:
        raise Unsendable(NO_UTF8_RECIPIENT)
    words = [f"RCPT TO:<{sent}>"]
    if offers.dsn:
        words += _rcpt_dsn(recipient)
    return _octets(words)


def _mail_dsn(message: Message) -> list[str]:
    words = []
    if message.ret is not None:
        words.append(f"RET={message.ret.value}")
    if _XTEXT.fullmatch(message.envid):
        words.append(f"ENVID={message.envid}")
    return words


def _rcpt_dsn(recipient: Recipient) -> list[str]:
    words = []
    if recipient.notify_given:
        words.append(f"NOTIFY={_notify(recipient.notify)}")
    if _XTEXT.fullmatch(recipient.orcpt):
        words.append(f"ORCPT={recipient.orcpt}")
    return words


def _notify(notify: Notify) -> str:
    return ",".join(flag.name for flag in Notify if flag in notify and flag.name) or "NEVER"


def _octets(words: list[str]) -> bytes:
    octets = " ".join(words).encode("utf-8", "surrogateescape")
    if _CONTROL.search(octets):
        raise Unsendable(Reply(553, "5.1.3", "an address with a control character cannot be sent"))
    return octets


def _in_ascii(address: Address) -> Address | None:
    """The address with its domain in A-labels (RFC 6531 3.2 allows that), None when its local part needs UTF-8."""
    if address.is_ascii:
        return address
    try:
        domain = idna.encode(address.domain, uts46=True).decode()
    except idna.IDNAError:
        return None
    return Address(address.local, domain) if address.local.isascii() else None


def _header_is_ascii(body: Body) -> bool:
    """Whether the header section, as far as the first piece of the body shows it, is free of octets above 127."""
    for piece in body.chunks():
        header, end, _ = piece.partition(b"\r\n\r\n")
        return header.isascii() and (bool(end) or len(piece) == body.size)
    return True
