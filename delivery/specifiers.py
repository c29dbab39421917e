"""Format specifiers: ``%{sender.user[0:3]:lowercase|strip}`` in the paths and arguments of actions.

Guarantees: what an address puts in is data: unless ``raw`` is asked for, characters that mean something to a shell become
colons. In a path a value never adds a component: its slashes become colons whatever is asked for, and a result with a
component ``..`` that the operator did not write is refused.

Failure: `SpecifierError` for what the operator wrote, `UnfitValue` for what an address would have made of it.

smtpd.conf(5), FORMAT SPECIFIERS. Unlike OpenSMTPD 7.8, a substring and modifiers may stand together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Octets of a result: no path is longer.
MAX_RESULT: Final = 4096
#: What becomes a colon: all that a shell could read as anything but part of a word. A quoted local part may hold any of it.
_ESCAPED: Final = str.maketrans(dict.fromkeys("!\"#$%&'()*;<>?\\^`{|}~ \t", ":"))
#: These come from the system, not from an address.
_OWN: Final = frozenset({"user.directory"})

_SPECIFIER = re.compile(r"%(?:%|\{([^{}]*)\}|(\{))")
_PARTS = re.compile(r"(?P<name>[A-Za-z.]+)(?:\[(?P<slice>[^\]]*)\])?(?::(?P<modifiers>[a-z|]+))?")
_SLICE = re.compile(r"(-?[0-9]{1,4})?(:)?(-?[0-9]{1,4})?")
_MODIFIERS: Final = frozenset({"lowercase", "uppercase", "strip", "raw"})


class SpecifierError(ValueError):
    """The operator's text cannot be expanded, for anybody or for this message."""


class UnfitValue(ValueError):
    """An address cannot be used in this place."""


@dataclass(frozen=True, slots=True)
class Values:
    """What the specifiers stand for in one delivery."""

    texts: Mapping[str, str]
    #: What separates a user from a tag, for ``strip``.
    delimiter: str = "+"
    #: The home of whoever delivers.
    home: str = ""


def expand(text: str, values: Values) -> str:
    """Replace every specifier by its value; ``%%`` is a percent sign, a lone ``%`` stays."""
    return _expand(text, values, is_path=False)


def expand_path(text: str, values: Values) -> str:
    """The same for a path of a file."""
    result = _expand(text, values, is_path=True)
    if ".." in result.split("/") and ".." not in text.split("/"):
        raise UnfitValue(f"{result} leads out of its directory")
    return result


def _expand(text: str, values: Values, *, is_path: bool) -> str:
    def value_of(match: re.Match[str]) -> str:
        if match.group() == "%%":
            return "%"
        if match.group(1) is None:
            raise SpecifierError(f"a specifier without its end: {text!r}")
        return _value(match.group(1), values, is_path=is_path)

    result = _SPECIFIER.sub(value_of, text)
    if len(result.encode("utf-8", "surrogateescape")) > MAX_RESULT:
        raise UnfitValue(f"longer than {MAX_RESULT} octets when expanded: {text!r}")
    return result


def _value(specifier: str, values: Values, *, is_path: bool) -> str:
    parts = _PARTS.fullmatch(specifier)
    name = parts["name"].lower() if parts else ""
    modifiers = parts["modifiers"].split("|") if parts and parts["modifiers"] else []
    if parts is None or name not in values.texts or not _MODIFIERS.issuperset(modifiers):
        raise SpecifierError(f"unknown format specifier: %{{{specifier}}}")
    value = values.texts[name]
    if value and parts["slice"] is not None:
        value = _substring(value, parts["slice"], specifier)
    for modifier in modifiers:
        value = _modified(value, modifier, values.delimiter)
    if name in _OWN:
        return value
    if "raw" not in modifiers:
        value = value.translate(_ESCAPED)
    return value.replace("/", ":") if is_path else value


def _substring(value: str, bounds: str, specifier: str) -> str:
    match = _SLICE.fullmatch(bounds)
    if match is None or not (match[1] or match[2]):
        raise SpecifierError(f"not a substring: %{{{specifier}}}")
    begin = int(match[1] or 0)
    last = int(match[3]) if match[3] else len(value) - 1
    end = last if match[2] else begin
    begin, end = (position + len(value) if position < 0 else position for position in (begin, end))
    if not 0 <= begin < len(value):
        raise SpecifierError(f"the substring begins outside of {value!r}: %{{{specifier}}}")
    return value[begin : max(end + 1, begin)]


def _modified(value: str, modifier: str, delimiter: str) -> str:
    match modifier:
        case "lowercase":
            return value.lower()
        case "uppercase":
            return value.upper()
        case "strip":
            local, at, domain = value.partition("@")
            return local.partition(delimiter)[0] + at + domain
        case _:
            return value
