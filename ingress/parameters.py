"""The parameters of MAIL and RCPT: SIZE BODY SMTPUTF8 AUTH RET ENVID NOTIFY ORCPT.

Guarantees: values keep their case and are kept as they were written; what is kept has been checked, so it can be written
into a report or another server's command line. A parameter that we do not act on is refused, never ignored; the one
exception is AUTH=, which RFC 4954 5 lets a server drop.

Failure: `BadParameter`, which carries the reply.

RFC 5321 4.1.2, RFC 1870, RFC 6152, RFC 6531 3.4, RFC 4954 5, RFC 3461 4, RFC 6533 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ingress import replies
from spool.message import DEFAULT_NOTIFY, BodyKind, Notify, Ret
from spool.reply import Reply

#: RFC 3461 4.4.
MAX_ENVID: Final = 100
#: RFC 3461 4.2.
MAX_ORCPT: Final = 500
#: Twenty digits say more octets than any disk holds (RFC 1870 3).
_SIZE = re.compile(r"[0-9]{1,20}")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
#: xtext whose decoded form is printable ASCII again (RFC 3461 4: xchar and hexchar).
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))+")
#: What RFC 6533 3 adds to it in an SMTPUTF8 transaction.
_XTEXT_UTF8 = re.compile(r"(?:[^\x00-\x20+=\x7f-\x9f]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))+")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_NOTIFY = {"SUCCESS": Notify.SUCCESS, "FAILURE": Notify.FAILURE, "DELAY": Notify.DELAY}


class BadParameter(Exception):
    """A parameter is unknown, malformed or given twice; ``reply`` says which."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL said beside the sender."""

    #: Octets that the client announced, 0 when it did not.
    size: int = 0
    body_kind: BodyKind = BodyKind.PLAIN
    ret: Ret | None = None
    envid: str = ""

    @property
    def smtputf8(self) -> bool:
        """Whether addresses and headers may hold UTF-8 (RFC 6531)."""
        return BodyKind.SMTPUTF8 in self.body_kind


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What RCPT said beside the recipient."""

    notify: Notify = DEFAULT_NOTIFY
    notify_given: bool = False
    orcpt: str = ""


_PLAIN_MAIL: Final = MailParameters()
_PLAIN_RCPT: Final = RcptParameters()


def mail_parameters(text: str, dsn: bool) -> MailParameters:
    """Read what follows ``MAIL FROM:<...>``. Without ``dsn`` the listener does not offer RET and ENVID."""
    if not text:
        return _PLAIN_MAIL
    given = _split(text)
    _only(given, {"SIZE", "BODY", "SMTPUTF8", "AUTH"} | ({"RET", "ENVID"} if dsn else set()))
    kind = _body(given.get("BODY", "7BIT"))
    if "SMTPUTF8" in given:
        if given["SMTPUTF8"]:
            raise BadParameter(replies.bad_parameter("SMTPUTF8"))
        kind |= BodyKind.SMTPUTF8
    if "AUTH" in given and given["AUTH"] != "<>":
        _matching("AUTH", given["AUTH"], _XTEXT, MAX_ORCPT)
    size = int(_matching("SIZE", given["SIZE"], _SIZE, 20)) if "SIZE" in given else 0
    envid = _matching("ENVID", given["ENVID"], _XTEXT, MAX_ENVID) if "ENVID" in given else ""
    return MailParameters(size, kind, _ret(given["RET"]) if "RET" in given else None, envid)


def rcpt_parameters(text: str, dsn: bool, smtputf8: bool) -> RcptParameters:
    """Read what follows ``RCPT TO:<...>``. Without ``dsn`` the listener offers none of them."""
    if not text:
        return _PLAIN_RCPT
    given = _split(text)
    _only(given, {"NOTIFY", "ORCPT"} if dsn else set())
    notify = _notify(given["NOTIFY"]) if "NOTIFY" in given else DEFAULT_NOTIFY
    orcpt = _orcpt(given["ORCPT"], smtputf8) if "ORCPT" in given else ""
    return RcptParameters(notify, "NOTIFY" in given, orcpt)


def _split(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in text.split(" "):
        keyword, equals, value = word.partition("=")
        if not word:
            continue
        if not _KEYWORD.fullmatch(keyword) or (equals and not value):
            raise BadParameter(replies.PARAMETER_SYNTAX)
        name = keyword.upper()
        if name in given:
            raise BadParameter(replies.bad_parameter(name))
        given[name] = value
    return given


def _only(given: dict[str, str], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise BadParameter(replies.unsupported_parameter(name))


def _matching(name: str, value: str, form: re.Pattern[str], most: int) -> str:
    if len(value) > most or not form.fullmatch(value):
        raise BadParameter(replies.bad_parameter(name))
    return value


def _body(value: str) -> BodyKind:
    match value.upper():
        case "7BIT":
            return BodyKind.PLAIN
        case "8BITMIME":
            return BodyKind.EIGHT_BIT
    raise BadParameter(replies.bad_parameter("BODY"))


def _ret(value: str) -> Ret:
    try:
        return Ret(value.upper())
    except ValueError:
        raise BadParameter(replies.bad_parameter("RET")) from None


def _notify(value: str) -> Notify:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return Notify.NEVER
    notify = Notify.NEVER
    for word in words:
        if word not in _NOTIFY:
            raise BadParameter(replies.bad_parameter("NOTIFY"))
        notify |= _NOTIFY[word]
    return notify


def _orcpt(value: str, smtputf8: bool) -> str:
    kind, semicolon, address = value.partition(";")
    form = _XTEXT_UTF8 if smtputf8 and kind.lower() == "utf-8" else _XTEXT
    if not semicolon or not _ADDRESS_TYPE.fullmatch(kind) or len(value) > MAX_ORCPT or not form.fullmatch(address):
        raise BadParameter(replies.bad_parameter("ORCPT"))
    return value
