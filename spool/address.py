"""Mail addresses as SMTP speaks of them: parse, quote, compare.

Guarantees: an `Address` never holds CR, LF, NUL or another control character, so that it may be written into a header,
a log line, an environment or another server's command without further thought. What `str()` writes, `parse_address`
reads back to an equal value.

Failure: `AddressSyntaxError`, whose text says what is wrong in words fit for a reply.

RFC 5321 4.1.2 (grammar), 4.5.3.1 (lengths); RFC 6531 3.3 (UTF-8 in both parts).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

#: RFC 5321 4.5.3.1.1 asks for 64 octets at least; OpenSMTPD takes 255, and VERP senders need more than 64.
MAX_LOCAL_OCTETS: Final = 255
#: RFC 5321 4.5.3.1.2.
MAX_DOMAIN_OCTETS: Final = 255

# A class of what is not allowed in ASCII is compiled in no time; one with all that lies beyond takes milliseconds.
_ATEXT = r"""[^\x00- "(),.:;<>@\[\\\]\x7f]"""
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_LETTER = r"[^\x00-/:-@\[-^`{-\x7f]"
_LABEL = rf"{_LETTER}(?:[^\x00-,./:-@\[-^`{{-\x7f]*{_LETTER})?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
#: What nearly all addresses are, in one look: ASCII, a dot-string and a host name.
_PLAIN = re.compile(
    r"([\w!#$%&'*+/=?^`{|}~\-]++(?:\.[\w!#$%&'*+/=?^`{|}~\-]++)*+)@(\w++(?:(?:\.|-++)\w++)*+)", re.ASCII
)
_QUOTED = re.compile(r'"((?:[^\x00-\x1f"\\\x7f]|\\[ -~])*)"')
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class AddressSyntaxError(ValueError):
    """Not an address that RFC 5321 or RFC 6531 allows."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: ``local`` without its quoting, ``domain`` as it was written. Both empty: the null sender."""

    local: str
    domain: str

    def __str__(self) -> str:
        if not self.local and not self.domain:
            return ""
        local = self.local if _DOT_STRING.fullmatch(self.local) else _quote(self.local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def is_null(self) -> bool:
        """Whether this is the null sender, to whom no report is ever sent (RFC 5321 4.5.5)."""
        return not self.local and not self.domain

    @property
    def is_ascii(self) -> bool:
        """Whether the address can be given to a server without SMTPUTF8 (RFC 6531 3.2)."""
        return self.local.isascii() and self.domain.isascii()

    def same_mailbox(self, other: Address) -> bool:
        """Equal but for the case of the domain; the local part is the receiving host's own business."""
        return self.local == other.local and self.domain.casefold() == other.domain.casefold()


#: ``MAIL FROM:<>``.
NULL_SENDER: Final = Address("", "")


def parse_address(text: str, default_domain: str = "") -> Address:
    """Read ``local@domain`` or ``"quoted local"@domain``, without angle brackets.

    An address without a domain takes ``default_domain``; when that is empty, it is an error.
    """
    plain = _PLAIN.fullmatch(text)
    if plain and len(plain[1]) <= MAX_LOCAL_OCTETS and len(plain[2]) <= MAX_DOMAIN_OCTETS:
        return Address(plain[1], plain[2])
    if bad := _CONTROL.search(text):
        raise AddressSyntaxError(f"control character {bad.group()!a} in address")
    local_text, at, domain = _split(text)
    if not at:
        domain = default_domain
    local = _unquote(local_text)
    if not local:
        raise AddressSyntaxError("no local part before '@'")
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        raise AddressSyntaxError(f"local part is longer than {MAX_LOCAL_OCTETS} octets")
    return Address(local, _check_domain(domain))


def is_domain(text: str) -> bool:
    """Whether ``text`` is a domain name or an address literal (RFC 5321 4.1.2 and 4.1.3)."""
    try:
        _check_domain(text)
    except AddressSyntaxError:
        return False
    return True


def _split(text: str) -> tuple[str, str, str]:
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None:
            raise AddressSyntaxError("unfinished or malformed quoted local part")
        rest = text[quoted.end() :]
        if rest and not rest.startswith("@"):
            raise AddressSyntaxError("text between the quoted local part and '@'")
        return quoted.group(), rest[:1], rest[1:]
    return text.rpartition("@") if "@" in text else (text, "", "")


def _unquote(local: str) -> str:
    if local.startswith('"'):
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    if local and not _DOT_STRING.fullmatch(local):
        raise AddressSyntaxError("local part is neither a dot-string nor quoted")
    return local


def _quote(local: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def _check_domain(domain: str) -> str:
    if not domain:
        raise AddressSyntaxError("no domain after '@'")
    if len(domain.encode()) > MAX_DOMAIN_OCTETS:
        raise AddressSyntaxError(f"domain is longer than {MAX_DOMAIN_OCTETS} octets")
    if domain.startswith("["):
        return _check_literal(domain)
    if not _DOMAIN.fullmatch(domain):
        raise AddressSyntaxError("domain is not a host name")
    return domain


def _check_literal(domain: str) -> str:
    inside = domain[1:-1] if domain.endswith("]") else ""
    try:
        # A zone means nothing elsewhere, and it may hold any character.
        if "%" in inside:
            raise ValueError
        if inside[:5].lower() == "ipv6:":
            ipaddress.IPv6Address(inside[5:])
        else:
            ipaddress.IPv4Address(inside)
    except ValueError:
        raise AddressSyntaxError("address literal is neither [IPv4] nor [IPv6:...]") from None
    return domain
