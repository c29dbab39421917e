"""Addresses and the commands that they come in: whatever is understood can be written and read back, holds no octet that
could end a line anywhere, and reaches the next server as it was meant.

The first octet of an input chooses what the rest is: an address, MAIL or RCPT, or a list as ``sendmail`` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from delivery.client import Offers
from delivery.commands import Parcel, Unsendable, check_parcel, mail_command, rcpt_command
from ingress.mailboxes import BadAddress, mailboxes
from ingress.parameters import BadParameter
from ingress.paths import BadPath, read_mail, read_rcpt, with_path
from spool.address import Address, AddressSyntaxError, parse_address
from spool.bodies import SmallBody
from spool.ids import MessageId
from spool.message import Message, Recipient
from spool.reply import Reply
from tests.fuzz.target import require

_HOST: Final = "mx.here.example"
_DIALOGS: Final = Path(__file__).parents[2] / "dialogs"
_COMMAND: Final = re.compile(r"(MAIL|RCPT) (.*)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SPECIALS: Final = re.compile(r'[ ()<>,;:\\"\[\]@]')
_ALL: Final = Offers(pipelining=True, eight_bit=True, smtputf8=True, dsn=True, size=True)
_NONE: Final = Offers()
_FORMS: Final = (
    "ann@example.org", '"a b"@example.org', r'"a\"b\\c"@example.org', "ann@[192.0.2.1]", "ann@[IPv6:2001:db8::1]", "ann",
    "ännchen@müller.example", '"a@b"@example.org', "@a.example:ann@example.org", "ann%b@example.org", "a!b@example.org",
    "Ann <ann@example.org>, (c(d)) bob, g: c@d, e;", '"Ann, B." <"a b"@c.example>', "<@r,@s:ann@b.example>", "a@b@c", '""@x',
)  # fmt: skip


class Addresses:
    """See the module."""

    def seeds(self) -> Iterable[bytes]:
        """Addresses of every form, and the commands of the dialogues."""
        for form in _FORMS:
            yield from (bytes([kind]) + form.encode() for kind in (0, 7))
            yield from (bytes([kind]) + b"TO:<" + form.encode() + b"> NOTIFY=NEVER ORCPT=rfc822;x" for kind in (4, 5))
        for path in sorted(_DIALOGS.glob("*.dialog")):
            for verb, argument in _COMMAND.findall(path.read_text()):
                yield bytes([1 if verb == "MAIL" else 4]) + argument.encode("utf-8", "replace")

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        kind, text = (octets[:1] or b"\0")[0] & 7, octets[1:].decode("utf-8", "surrogateescape")
        if kind == 0:
            _parse(text)
        elif kind == 7:
            _list(octets[1:])
        elif text.encode("utf-8", "replace") == octets[1:]:
            _command(text, is_mail=kind < 4, dsn=bool(kind & 1), smtputf8=kind in (4, 5))

    def close(self) -> None:
        """See `Target`."""


def make() -> Addresses:
    """For `tests.fuzz.target.load`."""
    return Addresses()


def _parse(text: str) -> None:
    for default in ("", _HOST):
        try:
            address = parse_address(text, default)
        except AddressSyntaxError as error:
            require(not _CONTROL.search(str(error)), f"a control character in {str(error)!r}")
            continue
        _judge(address)


def _judge(address: Address) -> None:
    written = str(address)
    require(not _CONTROL.search(written), f"a control character in {written!r}")
    require(parse_address(written) == address, f"{written!r} is not {address!r}")
    local, _, domain = written.rpartition("@")
    require(local.startswith('"') or not _SPECIALS.search(local), f"specials without quotes: {written!r}")
    require(domain.startswith("[") or not _SPECIALS.search(domain), f"specials in a domain: {written!r}")
    require(address.same_mailbox(parse_address(written)), f"{written!r} is another mailbox")


def _command(text: str, *, is_mail: bool, dsn: bool, smtputf8: bool) -> None:
    try:
        if is_mail:
            sender, parameters = read_mail(text, _HOST, dsn)
            require(read_mail(with_path(text, "<a@b>"), _HOST, dsn) == (Address("a", "b"), parameters), "with_path")
            message = Message(
                MessageId("m" * 20), sender, 0, 0.0, 1, parameters.body_kind, envid=parameters.envid, ret=parameters.ret
            )
            recipient = Recipient(Address("a", "b"))
        else:
            recipient = read_rcpt(text, _HOST, dsn, smtputf8)
            sender, message = Address("a", "b"), Message(MessageId("m" * 20), Address("a", "b"), 0, 0.0, 1)
    except (BadPath, BadParameter) as error:
        _judge_reply(error.reply)
        return
    for address in (sender, recipient.address):
        if not address.is_null:
            _judge(address)
    for offers in (_ALL, _NONE):
        _sent_on(message, recipient, offers)


def _judge_reply(reply: Reply) -> None:
    octets = reply.encode()
    require(octets.endswith(b"\r\n") and not _CONTROL.search(octets[:-2].decode()), f"no reply: {octets!r}")
    require(reply.code // 100 in (4, 5), f"not a refusal: {reply}")


def _sent_on(message: Message, recipient: Recipient, offers: Offers) -> None:
    """What the next server is told means the same to us."""
    parcel = Parcel(message, message.return_path, SmallBody(b"X: y\r\n\r\n"))
    try:
        parcel = check_parcel(parcel, offers)
        mail = mail_command(parcel, offers, utf8=True).decode()
        rcpt = rcpt_command(recipient.address, recipient, offers).decode()
    except Unsendable as error:
        _judge_reply(error.reply)
        return
    require(not _CONTROL.search(mail + rcpt), f"a control character in {mail!r} or {rcpt!r}")
    has_utf8 = not (message.return_path.is_ascii and recipient.address.is_ascii)
    if has_utf8 and not offers.smtputf8:
        return
    sender, _ = read_mail(mail.removeprefix("MAIL "), "", dsn=True)
    require(sender == message.return_path, f"{mail!r} is not from {message.return_path!r}")
    heard = read_rcpt(rcpt.removeprefix("RCPT "), "", dsn=True, smtputf8=True)
    require(heard.address == recipient.address, f"{rcpt!r} is not to {recipient.address!r}")
    if offers.dsn:
        require(heard == recipient, f"{rcpt!r} is not {recipient!r}")


def _list(octets: bytes) -> None:
    try:
        found = mailboxes(octets)
    except BadAddress as error:
        require(str(error).isprintable(), f"not printable: {str(error)!r}")
        return
    for address in filter(None, found):
        require(not re.search(rb"[\x00-\x1f\x7f]", address), f"a control character in {address!r}")
        bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", address)
        require(not re.search(rb"[ <>]", bare), f"it ends its brackets: {address!r}")
        try:
            read_rcpt(f"TO:<{address.decode()}>", _HOST, dsn=True, smtputf8=True)
        except BadPath as error:
            _judge_reply(error.reply)
