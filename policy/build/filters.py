"""``filter`` lines, and the filters that a listener names."""

from __future__ import annotations

import re
from typing import Final

from policy.build.workbench import Workbench
from policy.filters import ASKED_IN, DONE_IN, Deed, Filter, Phase, Question
from policy.grammar.syntax import ChainStatement, FilterStatement, Given, LiteralTable, Options, Word
from policy.suggestion import did_you_mean
from policy.tables.service import DOMAIN, MAILADDR, NETADDR, REGEX, STRING
from policy.tables.table import Shape, Table
from spool.address import AddressSyntaxError, is_domain, parse_address

#: RFC 5321 4.2.1: a permanent or a temporary refusal. The whole line has 512 octets at most.
_REPLY: Final = re.compile(r"[45][0-9]{2} [ -~]{1,500}")
_PATH: Final = re.compile(r"<(.*)>")
_LISTS: Final = ("src", "helo", "rdns")
_SERVICES: Final = {
    "src": NETADDR,
    "helo": DOMAIN,
    "rdns": DOMAIN,
    "auth": STRING,
    "mail-from": MAILADDR,
    "rcpt-to": MAILADDR,
}


def build_filters(bench: Workbench) -> None:
    """Every filter that can be used goes to ``bench.filters``, whether a listener names it or not."""
    for name, statement in bench.script.filters.items():
        if isinstance(statement, FilterStatement):
            bench.filters[name] = (_filter(bench, statement),)
    for name, statement in bench.script.filters.items():
        if isinstance(statement, ChainStatement):
            bench.filters[name] = tuple(_chained(bench, statement, ()))


def filters_of(bench: Workbench, options: Options) -> tuple[Filter, ...]:
    """Those that the option ``filter`` names, one behind the other."""
    given = options.find("filter")
    if given is None:
        return ()
    words = _names(bench, given.argument) if isinstance(given.argument, LiteralTable) else (given.string(),)
    return tuple(each for word in words if _is_declared(bench, word) for each in bench.filters.get(word.text, ()))


def _chained(bench: Workbench, chain: ChainStatement, within: tuple[str, ...]) -> list[Filter]:
    found: list[Filter] = []
    within = (*within, chain.name.text)
    seen: set[str] = set()
    for word in _names(bench, chain.names):
        statement = bench.script.filters.get(word.text)
        if word.text in within:
            bench.complain(word.place, f'chain "{word.text}" would hold itself')
        elif word.text in seen:
            bench.complain(word.place, f'"{word.text}" twice in chain "{chain.name.text}"')
        elif isinstance(statement, ChainStatement):
            found += _chained(bench, statement, within)
        elif _is_declared(bench, word):
            found += bench.filters.get(word.text, ())
        seen.add(word.text)
    return found


def _names(bench: Workbench, use: LiteralTable) -> tuple[Word, ...]:
    for value in use.values[:1]:
        bench.complain(value.place, 'expected the names of filters alone, as in { "a", "b" }')
    return use.keys


def _is_declared(bench: Workbench, word: Word) -> bool:
    declared = bench.script.names("filter")
    if word.text not in declared:
        known = did_you_mean(word.text, declared, "declared are")
        bench.complain(word.place, f'no filter "{word.text}" is declared{known}')
    return word.text in declared


def _filter(bench: Workbench, statement: FilterStatement) -> Filter:
    phase, deed = Phase(statement.phase.text), Deed(statement.deed.word)
    question = _question(bench, statement.question, phase)
    _check_phase(bench, statement.deed, phase, DONE_IN.get(deed, tuple(Phase)))
    text = "" if statement.deed.argument is None else statement.deed.string().text
    if deed in (Deed.REJECT, Deed.DISCONNECT) and not _REPLY.fullmatch(text):
        expected = 'expected a code that begins with 4 or 5, and a text: "550 go away"'
        bench.complain(statement.deed.string().place, f'"{text}" is no reply: {expected}')
    elif deed is Deed.REWRITE:
        _check_rewritten(bench, phase, statement.deed.string())
    return Filter(statement.name.text, phase, question, deed, text)


def _question(bench: Workbench, given: Given, phase: Phase) -> Question:
    _check_phase(bench, given, phase, ASKED_IN.get(given.word, tuple(Phase)))
    table: Table | None = None
    if given.argument is not None:
        wanted = Shape.LIST if given.is_regex or given.word in _LISTS else Shape.EITHER
        service = REGEX if given.is_regex else _SERVICES[given.word]
        table = bench.shelf.use(given.table(), wanted, f'"{given.word}"', service)
    return Question(given.word, table, given.negated, given.is_regex)


def _check_phase(bench: Workbench, given: Given, phase: Phase, phases: tuple[Phase, ...]) -> None:
    if phase not in phases:
        can = ", ".join(each.value for each in phases)
        bench.complain(given.place, f'"{given.word}" is of no use in phase {phase.value}: expected one of {can}')


def _check_rewritten(bench: Workbench, phase: Phase, word: Word) -> None:
    """The new argument must be one that a client could have given."""
    if phase in (Phase.HELO, Phase.EHLO):
        if not is_domain(word.text):
            bench.complain(word.place, f'"{word.text}" is no host name or address literal')
        return
    path = _PATH.fullmatch(word.text)
    if path is None or (not path[1] and phase is Phase.RCPT_TO):
        bench.complain(word.place, f'"{word.text}" is no path: expected an address in angle brackets')
        return
    try:
        if path[1]:
            parse_address(path[1], default_domain="localhost")
    except AddressSyntaxError as error:
        bench.complain(word.place, f'"{word.text}" is no path: {error}')
