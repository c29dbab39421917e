"""Format specifiers in paths and commands: said to be wrong when the configuration is read, and not to every message.

Guarantees: what draws no complaint here can be expanded, but for substrings that begin behind the end of a value.

smtpd.conf(5), FORMAT SPECIFIERS.
"""

from __future__ import annotations

import re
from typing import Final

from policy.suggestion import did_you_mean

#: What delivery can put in, but for ``mda`` in a wrapper.
NAMES: Final = (
    *(f"{address}{part}" for address in ("sender", "rcpt", "dest") for part in ("", ".user", ".domain")),
    "user.username",
    "user.directory",
    "mbox.from",
)
MODIFIERS: Final = ("lowercase", "raw", "strip", "uppercase")

_SPECIFIER: Final = re.compile(r"%%|%\{(?P<inside>[^{}]*)(?P<end>\})?")
_PARTS: Final = re.compile(r"(?P<name>[^\[\]:]*)(?:\[(?P<slice>[^\]]*)\])?(?::(?P<modifiers>.*))?")
_SLICE: Final = re.compile(r"-?[0-9]{1,4}(?::(?:-?[0-9]{1,4})?)?|:(?:-?[0-9]{1,4})?")


def specifier_trouble(text: str) -> str:
    """What is wrong with the first wrong specifier of ``text``; empty when none is."""
    found = (_trouble(match) for match in _SPECIFIER.finditer(text) if match.group() != "%%")
    return next((trouble for trouble in found if trouble), "")


def _trouble(match: re.Match[str]) -> str:
    if match["end"] is None:
        return f'"{match.group()}" has no end: expected "}}"'
    parts = _PARTS.fullmatch(match["inside"])
    if parts is None:
        return f'"{match.group()}" is no format specifier: expected such as %{{rcpt.user}} or %{{rcpt.user[0:3]:lowercase}}'
    if parts["name"].lower() == "mda":
        return f'"{match.group()}" stands for a command in "mda wrapper" only, without more'
    if parts["name"].lower() not in NAMES:
        return f'unknown format specifier "{match.group()}"{did_you_mean(parts["name"], NAMES)}'
    if parts["slice"] is not None and not _SLICE.fullmatch(parts["slice"]):
        return f'"[{parts["slice"]}]" in "{match.group()}" is no substring: expected such as [0:3], [2:] or [-3:]'
    wrong = [each for each in (parts["modifiers"] or "").split("|") if each not in MODIFIERS]
    if parts["modifiers"] is not None and wrong:
        return f'unknown modifier "{wrong[0]}" in "{match.group()}"{did_you_mean(wrong[0], MODIFIERS)}'
    return ""
