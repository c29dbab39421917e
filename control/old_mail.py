"""What mail of OpenSMTPD is in our words: its envelopes and reports, for the lanes of the present configuration.

Guarantees: the same message has the same id at every reading, so that it is taken once.

Failure: `OldSpoolError` for an envelope that says something impossible.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from control.old_spool import OldSpoolError
from policy.config import Config
from spool.address import NULL_SENDER, Address, AddressSyntaxError, parse_address
from spool.archive import (
    Moved,
    MovedClient,
    MovedDestination,
    MovedEnvelope,
    MovedLine,
    MovedOutcome,
    MovedRecipient,
    ResultName,
    RetName,
    Wish,
)
from spool.lane import REPORTS
from spool.outcome import Stage
from spool.state import Event, Kind

#: An alias that names a file is a command there.
_FILE = re.compile(r"\S*mail\.mboxfile (?:-f \S+ )?(/.*)")
_WISHES: Final[Mapping[int, Wish]] = {1: "success", 2: "failure", 4: "delay"}
_NEVER: Final = 8
_REPORTS: Final[Mapping[str, tuple[Kind, Event, ResultName]]] = {
    "failed": (Kind.FAILED, Event.FAILED, "failed"),
    "delayed": (Kind.DELAYED, Event.DEFERRED, "deferred"),
    "delivered": (Kind.DELIVERED, Event.DELIVERED, "delivered"),
}
_CODES: Final[Mapping[ResultName, int]] = {"failed": 550, "deferred": 451, "delivered": 250}
#: Seconds that a report may wait, as long as the spool's own.
_REPORT_TTL: Final = 4 * 24 * 3600

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OldMail:
    """A message and its envelopes as the old spool has them."""

    id: str
    body: bytes
    envelopes: Sequence[Fields]


class Translator:
    """For one configuration and one moment (wall time)."""

    def __init__(self, config: Config, now: float) -> None:
        self._config = config
        self._now = now

    def check(self, fields: Fields) -> None:
        """Raise `OldSpoolError` for an envelope that `moved` could not say."""
        self._recipient(1, fields)
        self._address(fields["sender"])
        _ret(fields.get("dsn-ret", ""))
        if fields["type"] == "bounce":
            self._line(fields, 1)
        else:
            self._mail(fields, 1)

    def moved(self, mail: OldMail) -> Moved:
        """The message with all its envelopes, each of which was checked."""
        first = mail.envelopes[0]
        sender = self._address(first["sender"])
        recipients = [self._recipient(number, fields) for number, fields in enumerate(mail.envelopes, 1)]
        numbered = list(enumerate(mail.envelopes, 1))
        envelopes = [self._mail(fields, number) for number, fields in numbered if fields["type"] != "bounce"]
        for kind in _REPORTS:
            lines = [self._line(fields, n) for n, fields in numbered if _report_of(fields) == kind]
            if lines:
                ordinal = len(mail.envelopes) + len(envelopes) + 1
                envelopes.append(self._report(sender, _REPORTS[kind][0], lines, ordinal))
        arrived = min(_number(fields, "ctime") for fields in mail.envelopes)
        return Moved(
            id=_id(mail.id, arrived),
            sender_local=sender.local,
            sender_domain=sender.domain,
            arrived=arrived,
            received=arrived,
            size=len(mail.body),
            sha256=hashlib.sha256(mail.body).hexdigest(),
            eight_bit=not mail.body.isascii(),
            smtputf8=False,
            envid=first.get("dsn-envid", ""),
            ret=_ret(first.get("dsn-ret", "")),
            client=_client(first),
            last_ordinal=max(envelope.ordinal for envelope in envelopes),
            recipients=recipients,
            envelopes=envelopes,
            history=[],
        )

    def _mail(self, fields: Fields, number: int) -> MovedEnvelope:
        if fields["type"] not in ("mda", "mta"):
            raise OldSpoolError(f"type {fields['type']!a}: expected mda, mta or bounce")
        action = fields.get("dispatcher", "")
        if not action:
            raise OldSpoolError("it has no dispatcher, and so no action")
        arrived = float(_number(fields, "ctime"))
        tried = _number(fields, "last-try")
        return MovedEnvelope(
            ordinal=number,
            kind=Kind.MAIL,
            state="ready",
            recipient=number,
            destination=self._destination(fields),
            action=action,
            key="",
            due=self._now,
            deadline=arrived + self._config.ttl_of(action) / 1000,
            warn_at=self._warn_at(arrived, _number(fields, "last-bounce")),
            attempts=_number(fields, "retry"),
            was_in_flight=False,
            last_try=float(tried) if tried else None,
            error=_printable(fields.get("errorline", "")),
            report=[],
        )

    def _warn_at(self, arrived: float, told: int) -> float | None:
        owed = (arrived + interval / 1000 for interval in self._config.warn_intervals)
        return next((at for at in owed if at > told), None)

    def _line(self, fields: Fields, number: int) -> MovedLine:
        kind = _report_of(fields)
        if kind not in _REPORTS:
            raise OldSpoolError(f"bounce-type {kind!a}: expected failed, delayed or delivered")
        _, event, result = _REPORTS[kind]
        arrived = float(_number(fields, "ctime"))
        outcome = MovedOutcome(
            result=result,
            code=_CODES[result],
            status="",
            text=_printable(fields.get("errorline", "")),
            remote="",
            stage=Stage.LOCAL,
            dsn_passed_on=False,
        )
        deadline = arrived + self._config.queue_ttl / 1000
        destination = self._destination(fields)
        return MovedLine(
            recipient=number, destination=destination, event=event, at=arrived, deadline=deadline, outcome=outcome
        )

    def _report(self, sender: Address, kind: Kind, lines: list[MovedLine], ordinal: int) -> MovedEnvelope:
        destination = MovedDestination(local=sender.local, domain=sender.domain, user="", extension="", target="")
        return MovedEnvelope(
            ordinal=ordinal,
            kind=kind,
            state="ready",
            recipient=None,
            destination=destination,
            action=REPORTS.action,
            key=REPORTS.key,
            due=self._now,
            deadline=self._now + _REPORT_TTL,
            warn_at=None,
            attempts=0,
            was_in_flight=False,
            last_try=None,
            error="",
            report=lines,
        )

    def _recipient(self, number: int, fields: Fields) -> MovedRecipient:
        given = self._address(fields["rcpt"])
        wanted = _number(fields, "dsn-notify")
        wishes: list[Wish] = [wish for bit, wish in _WISHES.items() if wanted & bit]
        return MovedRecipient(
            number=number,
            local=given.local,
            domain=given.domain,
            orcpt=fields.get("dsn-orcpt", ""),
            notify=wishes if wanted else ["failure", "delay"],
            notify_given=bool(wanted),
        )

    def _destination(self, fields: Fields) -> MovedDestination:
        where = self._address(fields["dest"])
        return MovedDestination(
            local=where.local,
            domain=where.domain,
            user=fields.get("mda-user", ""),
            extension=fields.get("mda-subaddress", ""),
            target=_target(fields.get("mda-exec", "")),
        )

    def _address(self, text: str) -> Address:
        if text in ("@", ""):
            return NULL_SENDER
        try:
            return parse_address(text, self._config.server_name)
        except AddressSyntaxError as error:
            raise OldSpoolError(f"{text!a}: {error}") from None


def _id(message: str, arrived: int) -> str:
    """A message id that says when it came, and that the same message always gets."""
    rest = hashlib.sha256(f"opensmtpd {message} {arrived}".encode()).digest()[:6]
    raw = (arrived * 1000 % (1 << 48)).to_bytes(6) + rest
    return base64.b32hexencode(raw).decode().rstrip("=").lower()


def _report_of(fields: Fields) -> str:
    return fields.get("bounce-type", "") if fields["type"] == "bounce" else ""


def _client(fields: Fields) -> MovedClient:
    address = fields.get("sockaddr", "local").strip("[]")
    login = fields.get("username", "")
    local = address == "local"
    protocol = "local" if local else "ESMTPA" if "authenticated" in fields.get("flags", "").split() else "ESMTP"
    host = "" if fields["hostname"] in ("<unknown>", "localhost") else fields["hostname"]
    return MovedClient(address=address, host=host, helo=fields["helo"], protocol=protocol, login=login, uid=None)


def _target(command: str) -> str:
    if found := _FILE.fullmatch(command):
        return found[1]
    return f"|{command}" if command else ""


def _ret(text: str) -> RetName:
    match text:
        case "" | "FULL" | "HDRS":
            return text
    raise OldSpoolError(f"dsn-ret {text!a}: expected FULL or HDRS")


def _number(fields: Fields, name: str) -> int:
    text = fields.get(name, "0")
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise OldSpoolError(f"{name} {text!a} is no number")
    return int(text)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
