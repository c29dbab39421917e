"""Options that choose envelopes, of ``show queue``, ``hold``, ``release``, ``remove`` and ``schedule``, and their meaning.

Failure: `ControlError` with what was found and what was expected.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from control.client import ControlError
from spool.filter import ANY, Filter, Trait
from spool.state import Kind, State

#: For getopt(3).
CHOOSING: Final = tuple(f"{name}=" for name in Filter.__struct_fields__ if name != "uid")
COUNTING: Final = ("count", "by=")

T = TypeVar("T", bound=enum.Enum)

_AGE = re.compile(r"(?:\d{1,9}[smhdw])+")
_PART = re.compile(r"(\d+)([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def chosen(arguments: tuple[str, ...], options: Sequence[tuple[str, str]]) -> tuple[str, Filter]:
    """The id and the filter of a command; ``all`` when only options say which."""
    wanted = _filter(options)
    if not arguments and wanted == ANY:
        raise ControlError("which envelopes? Say an id, all, or an option such as --domain")
    return arguments[0] if arguments else "all", wanted


def listed(arguments: tuple[str, ...], options: Sequence[tuple[str, str]]) -> tuple[str, Filter]:
    """The same where nothing said means all."""
    return arguments[0] if arguments else "all", _filter(options)


def counted(options: Sequence[tuple[str, str]]) -> Trait | None:
    """By what envelopes are to be counted."""
    given = dict(options)
    return _one_of(Trait, "--by", given["--by"]) if "--by" in given else None


def _filter(options: Sequence[tuple[str, str]]) -> Filter:
    said: dict[str, Any] = {}
    for name, value in options:
        field = name.removeprefix("--")
        if f"{field}=" not in CHOOSING:
            continue
        if field in said:
            raise ControlError(f"{name} is given twice")
        if not value:
            raise ControlError(f"{name} needs a value")
        said[field] = _value(field, value)
    return Filter(**said)


def _value(field: str, text: str) -> object:
    match field:
        case "state":
            return _one_of(State, "--state", text)
        case "kind":
            return _one_of(Kind, "--kind", text)
        case "older" | "newer":
            return _age(f"--{field}", text)
    return text


def _one_of(choices: type[T], option: str, text: str) -> T:
    try:
        return choices(text)
    except ValueError:
        names = ", ".join(str(one.value) for one in choices)
        raise ControlError(f"{option} {text}: expected one of {names}") from None


def _age(option: str, text: str) -> int:
    """Milliseconds."""
    if not _AGE.fullmatch(text):
        raise ControlError(f"{option} {text}: expected a time such as 90s, 30m, 12h, 3d or 1d12h")
    return 1000 * sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
