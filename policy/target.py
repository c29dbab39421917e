"""What stands on the right of an alias: users, addresses, commands, files, refusals, included lists.

Targets are separated by commas. Quotes protect commas and blanks; a backslash takes the next character as it is.

Guarantees: no target holds a control character.

Failure: `TargetSyntaxError`; one bad target makes the whole value bad.

aliases(5) of OpenSMTPD.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from policy.errors import PolicyError
from spool.address import Address, AddressSyntaxError, parse_address
from spool.reply import EnhancedStatus, Reply

#: Targets of one value, duplicates among them: more than can ever be destinations, and each costs time at every RCPT.
MAX_TARGETS: Final = 20_000

_ERROR: Final = re.compile(r":?error:([45][0-9]{2}) (\S.*)")
_INCLUDE: Final = re.compile(r":?include:(/.*)")
_USER: Final = re.compile(r"[\w.+-]{1,255}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class TargetSyntaxError(PolicyError):
    """The value of an alias is not a list of targets."""


@dataclass(frozen=True, slots=True)
class MailboxTarget:
    """``user@domain``: the rules decide again."""

    address: Address

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class UserTarget:
    """A name on this machine, lower-case, perhaps with a tag: another alias, or a user."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class DirectTarget:
    """``|command`` or ``/file``."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ErrorTarget:
    """``error:NNN text``: the recipient is refused so."""

    reply: Reply

    def __str__(self) -> str:
        return f"error:{self.reply}"


@dataclass(frozen=True, slots=True)
class IncludeTarget:
    """``:include:/path``: the targets in a file."""

    path: str

    def __str__(self) -> str:
        return f":include:{self.path}"


Target: TypeAlias = MailboxTarget | UserTarget | DirectTarget | ErrorTarget | IncludeTarget


def parse_targets(value: str) -> tuple[Target, ...]:
    """The targets of ``value``, at least one and at most `MAX_TARGETS`."""
    if value.count(",") >= MAX_TARGETS:
        raise TargetSyntaxError(f"more than {MAX_TARGETS} targets")
    if bad := _CONTROL.search(value.replace("\t", " ")):
        raise TargetSyntaxError(f"control character 0x{ord(bad.group()):02x}")
    targets = tuple(_target(text) for text in _split(value) if text)
    if not targets:
        raise TargetSyntaxError("no target")
    return targets


def _split(value: str) -> list[str]:
    parts = [""]
    quote = ""
    chars = iter(value)
    for char in chars:
        if char == "\\":
            parts[-1] += next(chars, "")
        elif char == quote:
            quote = ""
        elif char in "\"'" and not quote:
            quote = char
        elif char == "," and not quote:
            parts.append("")
        else:
            parts[-1] += char
    if quote:
        raise TargetSyntaxError(f"{quote} without its end")
    return [part.strip() for part in parts]


def _target(text: str) -> Target:
    if match := _ERROR.fullmatch(text):
        return ErrorTarget(_reply(int(match.group(1)), match.group(2)))
    if match := _INCLUDE.fullmatch(text):
        return IncludeTarget(match.group(1))
    if text[0] in "|/":
        return _direct(text)
    if "@" in text:
        try:
            return MailboxTarget(parse_address(text))
        except AddressSyntaxError as error:
            raise TargetSyntaxError(f'"{text}" is no address: {error}') from error
    if _USER.fullmatch(text):
        return UserTarget(text.lower())
    raise TargetSyntaxError(f'"{text}" is neither a user, an address, |command, /file, error: nor :include:')


def _direct(text: str) -> DirectTarget:
    command = text[1:].strip()
    if not command:
        raise TargetSyntaxError(f'nothing after "{text[0]}"')
    return DirectTarget(f"|{command}" if text[0] == "|" else text)


def _reply(code: int, text: str) -> Reply:
    first, _, rest = text.partition(" ")
    status = EnhancedStatus.parse(first)
    if status is not None and status.klass == code // 100 and rest:
        return Reply(code, first, rest)
    # RFC 3463 3.1: nothing more is known of it.
    return Reply(code, f"{code // 100}.0.0", text)
