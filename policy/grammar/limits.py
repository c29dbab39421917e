"""``mta``, ``mda`` and ``scheduler`` lines: limits, and wrappers of commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from policy.errors import Place
from policy.grammar.arguments import whole
from policy.grammar.cursor import Cursor
from policy.grammar.settings import processes, second_word
from policy.grammar.syntax import Script, Word
from policy.limits import MDA_KEYS, MTA_KEYS, SCHEDULER_KEYS, WITHOUT_EFFECT, MtaLimits
from policy.suggestion import did_you_mean

_VERSIONS: Final = {"inet4": 4, "inet6": 6}
#: Why a key that OpenSMTPD has changes nothing.
_NOTHING_TO_LIMIT: Final = "mail that waits is not kept in memory here, so there is nothing to limit"


def mta(cursor: Cursor, script: Script, place: Place) -> None:
    """``limit [for domain NAME] [inet4|inet6] KEY N ...``, ``max-deferred N``, ``processes N``."""
    match second_word(cursor, "mta"):
        case "max-deferred":
            whole(cursor)
            cursor.warn(place, f'"mta max-deferred" has no effect: {_NOTHING_TO_LIMIT}')
        case "processes":
            script.mta_processes = processes(cursor)
        case _ if cursor.accept_word("for"):
            _mta_limit_for(cursor, script)
        case _:
            script.limits = replace(script.limits, mta=_mta_limits(cursor, script.limits.mta))
    cursor.end_directive()


def mda(cursor: Cursor, script: Script, _place: Place) -> None:
    """``limit KEY N ...``, ``wrapper NAME COMMAND``."""
    if second_word(cursor, "mda") == "wrapper":
        _wrapper(cursor, script)
    else:
        given = _pairs(cursor, "mda", MDA_KEYS)
        script.limits = replace(script.limits, mda=replace(script.limits.mda, **given))
    cursor.end_directive()


def scheduler(cursor: Cursor, script: Script, _place: Place) -> None:
    """``limit KEY N ...``."""
    second_word(cursor, "scheduler")
    given = _pairs(cursor, "scheduler", SCHEDULER_KEYS)
    script.limits = replace(script.limits, scheduler=replace(script.limits.scheduler, **given))
    cursor.end_directive()


def _mta_limit_for(cursor: Cursor, script: Script) -> None:
    if not cursor.accept_word("domain"):
        cursor.fail_expecting('"domain" after "mta limit for"')
    name = cursor.string("the domain, or the name of a smarthost").text.lower()
    limits = script.limits
    # As in OpenSMTPD, a domain begins with what was said for all before it.
    changed = _mta_limits(cursor, limits.mta_for.get(name, limits.mta))
    script.limits = replace(limits, mta_for={**limits.mta_for, name: changed})


def _mta_limits(cursor: Cursor, limits: MtaLimits) -> MtaLimits:
    while not cursor.at_line_end:
        if family := cursor.accept_word(*_VERSIONS):
            limits = replace(limits, family=_VERSIONS[family.text])
        else:
            limits = replace(limits, **_pair(cursor, "mta", MTA_KEYS))
    return limits


def _pairs(cursor: Cursor, directive: str, keys: tuple[str, ...]) -> dict[str, int]:
    given: dict[str, int] = {}
    while not cursor.at_line_end:
        given |= _pair(cursor, directive, keys)
    return given


def _pair(cursor: Cursor, directive: str, keys: tuple[str, ...]) -> Mapping[str, int]:
    key = cursor.string(f"a limit of {directive} ({', '.join(keys)})")
    if key.text in WITHOUT_EFFECT[directive]:
        whole(cursor)
        cursor.warn(key.place, f'"{key.text}" has no effect: {_NOTHING_TO_LIMIT}')
        return {}
    if key.text not in keys:
        cursor.fail(key.place, f'unknown limit "{key.text}" of {directive}{did_you_mean(key.text, keys)}')
    number = whole(cursor)
    if not number.value and not _may_be_zero(key):
        cursor.fail(number.place, f"{key.text} of 0 would let nothing through: expected at least 1")
    return {key.text.replace("-", "_"): number.value}


def _may_be_zero(key: Word) -> bool:
    return "delay" in key.text or key.text == "session-keepalive"


def _wrapper(cursor: Cursor, script: Script) -> None:
    name = cursor.string("the name of the wrapper")
    script.begun.add(("wrapper", name.text))
    if name.text in script.wrappers:
        cursor.complain(name.place, f'wrapper "{name.text}" is declared already, at {script.wrappers[name.text].place}')
    command = cursor.string("the command of the wrapper, with %{mda} for the one that it wraps")
    if not command.text.strip():
        cursor.fail(command.place, "an empty string is no command")
    script.wrappers.setdefault(name.text, command)
