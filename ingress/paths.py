"""What follows MAIL and RCPT: a path in angle brackets, and parameters.

Guarantees: an address without a domain has got that of the host it was said to.

Failure: `BadPath`, which carries the reply, and `ingress.parameters.BadParameter`.

RFC 5321 4.1.1.2, 4.1.1.3, 4.1.2; RFC 6531 3.4.
"""

from __future__ import annotations

import re
from typing import Final

from ingress import replies
from ingress.parameters import BadParameter, MailParameters, mail_parameters, rcpt_parameters
from spool.address import NULL_SENDER, Address, AddressSyntaxError, parse_address
from spool.message import Recipient
from spool.reply import Reply

#: ``<path>`` and what follows it. A source route is dropped (RFC 5321 C), a quoted local part may hold anything.
_PATH: Final = re.compile(
    r'(FROM|TO): *<(?:@[^<>:" ]*:)?((?:[^"<>\\ ]++|"(?:[^"\\]|\\.)*+")*+)>(?: +(.*))?', re.IGNORECASE
)


class BadPath(Exception):
    """What follows the verb is no path; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def read_mail(argument: str, host: str, dsn: bool) -> tuple[Address, MailParameters]:
    """Understand ``FROM:<sender> parameters``; without ``dsn`` RET and ENVID are not offered."""
    path, given = _split("FROM", argument, replies.MAIL_SYNTAX)
    parameters = mail_parameters(given, dsn)
    sender = _address(path, host, parameters.smtputf8, replies.SENDER_SYNTAX) if path else NULL_SENDER
    return sender, parameters


def read_rcpt(argument: str, host: str, dsn: bool, smtputf8: bool) -> Recipient:
    """Understand ``TO:<recipient> parameters``; without ``dsn`` none of them is offered."""
    path, given = _split("TO", argument, replies.RCPT_SYNTAX)
    if not path:
        raise BadPath(replies.RCPT_SYNTAX)
    parameters = rcpt_parameters(given, dsn, smtputf8)
    address = _address(path, host, smtputf8, replies.RECIPIENT_SYNTAX)
    return Recipient(address, parameters.orcpt, parameters.notify, parameters.notify_given)


def with_path(argument: str, path: str) -> str:
    """``argument`` of MAIL or RCPT, which has been understood, with ``path`` (in its brackets) in place of its own."""
    match = _PATH.fullmatch(argument)
    assert match is not None
    return f"{match[1]}:{path}" + (f" {match[3]}" if match[3] else "")


def _split(word: str, argument: str, syntax: Reply) -> tuple[str, str]:
    match = _PATH.fullmatch(argument)
    if match is None or match[1].upper() != word:
        raise BadPath(syntax)
    return match[2], match[3] or ""


def _address(text: str, host: str, smtputf8: bool, syntax: Reply) -> Address:
    try:
        address = parse_address(text, default_domain=host)
    except AddressSyntaxError as error:
        raise BadPath(syntax.saying(f"{syntax.text}: {error}")) from error
    if not smtputf8 and not address.is_ascii:
        raise BadParameter(replies.NEEDS_SMTPUTF8)
    return address
