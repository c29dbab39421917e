"""Reports held to the letter of RFC 3464, 6522 and 6533, octet by octet, by rules written down from those texts alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: Fields of the message and of a recipient in their order (RFC 3464 2.2, 2.3), and whether they must be there.
_ABOUT_MESSAGE = {
    "original-envelope-id": False,
    "reporting-mta": True,
    "dsn-gateway": False,
    "received-from-mta": False,
    "arrival-date": False,
}
_ABOUT_RECIPIENT = {
    "original-recipient": False,
    "final-recipient": True,
    "action": True,
    "status": True,
    "remote-mta": False,
    "diagnostic-code": False,
    "last-attempt-date": False,
    "final-log-id": False,
    "will-retry-until": False,
}
_FIELD = re.compile(r"([!-9;-~]+):((?:[^\r\n]|\r\n[ \t])*)\r\n")
_TYPED = re.compile(r"[ ]*([A-Za-z0-9][A-Za-z0-9-]*)[ ]*;[ ]*(.*[^ ])")
_STATUS = re.compile(r"[ ]*([245])\.[0-9]{1,3}\.[0-9]{1,3}[ ]*")
_DATE = re.compile(
    r"[ ]*(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4}"
    r" [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}[ ]*"
)
_CLASS_OF = {"failed": "5", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2"}
_TYPED_FIELDS = ("reporting-mta", "original-recipient", "final-recipient", "remote-mta", "diagnostic-code")
_DATES = ("arrival-date", "last-attempt-date", "will-retry-until")
#: RFC 6533 3: an address in a place that is ASCII alone.
_UTF8_XTEXT = re.compile(r"(?:[!-*,-<>-\[\]-~]|\\x\{(?:[0-9A-F]{2,5}|10[0-9A-F]{4})\})+")


@dataclass
class Group:
    """The fields about the message or about one recipient, unfolded, by their names in small letters."""

    fields: dict[str, str] = field(default_factory=dict)

    def typed(self, name: str) -> tuple[str, str]:
        """The type and the value of ``type; value``."""
        match = _TYPED.fullmatch(self.fields[name])
        assert match, f"{name} is no type and value: {self.fields[name]!r}"
        return match[1].lower(), match[2]


@dataclass
class Parts:
    """A report, taken apart."""

    header: Group
    words: bytes
    is_international: bool
    about_message: Group
    recipients: list[Group]
    returned_type: str
    returned: bytes


def parse(report: bytes) -> Parts:
    """Take a report apart; `AssertionError` for whatever the RFCs do not allow."""
    assert report.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", report), "lines end in CRLF"
    assert max(map(len, report.split(b"\r\n"))) <= 998, "RFC 5322 2.1.1"
    header, content = _entity(report)
    kind, parameters = _content_type(header)
    assert kind == "multipart/report", "RFC 6522 3"
    assert header.fields["mime-version"].strip() == "1.0"
    is_international = parameters["report-type"] == "global-delivery-status"
    assert is_international or parameters["report-type"] == "delivery-status"
    parts = [_entity(part) for part in _split(content, parameters["boundary"].encode())]
    assert len(parts) in (2, 3), "RFC 6522 3: two parts, or three"
    _check_encodings(header, [each for each, _ in parts], [each for _, each in parts])
    assert _content_type(parts[0][0])[0] == "text/plain"
    assert _content_type(parts[1][0])[0] == f"message/{parameters['report-type']}"
    about_message, recipients = _status_fields(parts[1][1], is_international=is_international)
    returned_type, returned = (_content_type(parts[2][0])[0], parts[2][1]) if len(parts) == 3 else ("", b"")
    plain, global_ = ("message/rfc822", "text/rfc822-headers"), ("message/global", "message/global-headers")
    assert returned_type in ("", *(global_ if is_international else plain))
    return Parts(header, parts[0][1], is_international, about_message, recipients, returned_type, returned)


def _entity(octets: bytes) -> tuple[Group, bytes]:
    header, _, content = octets.partition(b"\r\n\r\n")
    return _fields(header.decode() + "\r\n"), content


def _fields(text: str) -> Group:
    group, at = Group(), 0
    while at < len(text):
        match = _FIELD.match(text, at)
        assert match, f"no field: {text[at : at + 80]!r}"
        name = match[1].lower()
        assert name not in group.fields, f"{name} twice"
        group.fields[name] = match[2].replace("\r\n", "")
        assert all(line.strip() for line in match[2].split("\r\n")), "RFC 5322 3.2.2: no folded line is blank"
        at = match.end()
    return group


def _content_type(header: Group) -> tuple[str, dict[str, str]]:
    kind, *parameters = header.fields["content-type"].split(";")
    pairs = (each.strip().partition("=") for each in parameters)
    return kind.strip().lower(), {name.lower(): value.strip('"') for name, _, value in pairs}


def _split(content: bytes, boundary: bytes) -> list[bytes]:
    assert re.fullmatch(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", boundary), "RFC 2046 5.1.1"
    assert content.startswith(b"--" + boundary + b"\r\n")
    *parts, end = (b"\r\n" + content).split(b"\r\n--" + boundary)
    assert end == b"--\r\n", "the last delimiter"
    assert parts[0] == b""
    assert all(part.startswith(b"\r\n") for part in parts[1:])
    return [part[2:] for part in parts[1:]]


def _check_encodings(header: Group, headers: list[Group], contents: list[bytes]) -> None:
    eight_bit = False
    for part, content in zip(headers, contents, strict=True):
        declared = part.fields.get("content-transfer-encoding", "7bit").strip()
        assert declared in ("7bit", "8bit", "quoted-printable")
        assert content.isascii() or declared == "8bit", "octets above 127 that nothing declares"
        eight_bit |= declared == "8bit"
    assert not eight_bit or header.fields.get("content-transfer-encoding", "").strip() == "8bit", "RFC 2045 6.4"


def _status_fields(content: bytes, *, is_international: bool) -> tuple[Group, list[Group]]:
    assert is_international or content.isascii(), "RFC 3464 2.1: 7bit"
    text = content.decode()
    about_message, *recipients = [_fields(group + "\r\n") for group in text.removesuffix("\r\n").split("\r\n\r\n")]
    _check_order(about_message, _ABOUT_MESSAGE)
    assert recipients, "RFC 3464 2.1: at least one recipient"
    for group in [about_message, *recipients]:
        _check_values(group, is_international=is_international)
    for recipient in recipients:
        _check_order(recipient, _ABOUT_RECIPIENT)
        _check_action(recipient)
    return about_message, recipients


def _check_order(group: Group, known: dict[str, bool]) -> None:
    names = list(group.fields)
    assert names == [name for name in known if name in group.fields], f"order, or unknown fields: {names}"
    assert all(name in group.fields for name, is_needed in known.items() if is_needed), f"a field is missing: {names}"


def _check_values(group: Group, *, is_international: bool) -> None:
    for name in _TYPED_FIELDS:
        if name in group.fields:
            kind, value = group.typed(name)
            assert kind != "utf-8" or is_international or _UTF8_XTEXT.fullmatch(value), f"RFC 6533 3: {value!r}"
            assert kind != "rfc822" or value.isascii(), f"{value!r} is no address of RFC 822"
    for name in _DATES:
        assert name not in group.fields or _DATE.fullmatch(group.fields[name]), f"{name}: {group.fields[name]!r}"


def _check_action(recipient: Group) -> None:
    action, status = recipient.fields["action"].strip(), _STATUS.fullmatch(recipient.fields["status"])
    assert status, f"RFC 3464 2.3.4: {recipient.fields['status']!r}"
    assert status[1] == _CLASS_OF[action], f"{action} with {status[0]}"
    assert ("will-retry-until" in recipient.fields) <= (action == "delayed"), "RFC 3464 2.3.9"
