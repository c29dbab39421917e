"""Filters asked: which of them decides about one phase of one session.

Guarantees: they are asked in their order, and none behind the one that decides. A confirmed name is one that leads back to
the client's address; ``rdns`` is about the name as the client's own zone has it, confirmed or not, because filters refuse
more often than they allow.

Failure: `TableUnavailable` when a table cannot answer, and `NameUnavailable` when the DNS did not; nothing may be decided
then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from policy.errors import PolicyError
from policy.filters import Deed, Filter, Question
from policy.tables.services import has_address, has_domain, has_regex, has_source, has_string
from policy.tables.table import Table
from spool.address import NULL_SENDER, Address, AddressSyntaxError, parse_address


class NameUnavailable(PolicyError):
    """A filter asks for the client's name, and the DNS gave no answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a client when its filters are asked."""

    #: IP address as text, or ``local`` for the submission socket.
    source: str
    #: The name in the reverse DNS; empty when there is none.
    name: str = ""
    is_confirmed: bool = False
    #: False when the DNS gave no answer.
    is_certain: bool = True
    helo: str = ""
    #: None before there is one.
    login: str | None = None
    sender: Address = NULL_SENDER
    #: The recipient in question.
    recipient: Address = NULL_SENDER
    #: Separates a user from a tag.
    delimiter: str = "+"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the filters of a phase came to."""

    #: The filter that decides; None when none does.
    decider: Filter | None
    #: Those whose words go into the log.
    reports: tuple[Filter, ...] = ()


def decide(filters: Iterable[Filter], seen: Seen) -> Decision:
    """Ask ``filters``, which are those of one phase."""
    reports: list[Filter] = []
    for each in filters:
        if _is_so(each.question, seen) is each.question.negated:
            continue
        if each.deed is not Deed.REPORT:
            return Decision(each, tuple(reports))
        reports.append(each)
    return Decision(None, tuple(reports))


def _is_so(question: Question, seen: Seen) -> bool:
    return _QUESTIONS[question.what](question, seen)


def _fcrdns(_: Question, seen: Seen) -> bool:
    _demand_name(seen)
    return seen.is_confirmed


def _rdns(question: Question, seen: Seen) -> bool:
    if not seen.name:
        _demand_name(seen)
    return bool(seen.name) and (question.table is None or _is_listed(question, has_domain, seen.name))


def _demand_name(seen: Seen) -> None:
    if not seen.is_certain:
        raise NameUnavailable(f"the name of {seen.source} cannot be looked up now")


def _src(question: Question, seen: Seen) -> bool:
    key = f"[{seen.source}]" if question.is_regex and ":" in seen.source else seen.source
    return _is_listed(question, has_source, key)


def _helo(question: Question, seen: Seen) -> bool:
    return _is_listed(question, has_domain, seen.helo)


def _auth(question: Question, seen: Seen) -> bool:
    if seen.login is None or question.table is None:
        return seen.login is not None
    if "@" not in seen.login:
        return bool(seen.login) and _is_listed(question, has_string, seen.login)
    try:
        return _is_listed_address(question, parse_address(seen.login), seen)
    except AddressSyntaxError:
        return False


def _mail_from(question: Question, seen: Seen) -> bool:
    return _is_listed_address(question, seen.sender, seen)


def _rcpt_to(question: Question, seen: Seen) -> bool:
    return _is_listed_address(question, seen.recipient, seen)


def _is_listed(question: Question, has: Callable[[Table, str], bool], key: str) -> bool:
    assert question.table is not None
    return has_regex(question.table, key) if question.is_regex else has(question.table, key)


def _is_listed_address(question: Question, address: Address, seen: Seen) -> bool:
    assert question.table is not None
    if question.is_regex:
        return has_regex(question.table, str(address) or "@")
    return has_address(question.table, address, seen.delimiter)


_QUESTIONS: Final[Mapping[str, Callable[[Question, Seen], bool]]] = {
    "fcrdns": _fcrdns,
    "rdns": _rdns,
    "src": _src,
    "helo": _helo,
    "auth": _auth,
    "mail-from": _mail_from,
    "rcpt-to": _rcpt_to,
}
