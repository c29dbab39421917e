"""The filters of a listener, asked as a session goes on.

Guarantees: a session of a listener without filters pays a look into an empty mapping for each phase. What a filter rewrites
is read like what a client says. What filters report or decide is in the log.

Failure: what a table or the DNS cannot answer is a temporary refusal.

smtpd.conf(5) of OpenSMTPD, "filter"; RFC 5321 3.1 (a greeting that refuses), 3.8 (421).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ingress import replies
from ingress.logline import quoted
from policy.errors import TableUnavailable
from policy.filtering import NameUnavailable, Seen, decide
from policy.filters import Deed, Filter, Phase
from policy.tables.freshness import freshen
from spool.reply import Reply

log = logging.getLogger(__name__)

#: The filters of each phase that has some.
Filters: TypeAlias = Mapping[Phase, tuple[Filter, ...]]


@dataclass(frozen=True, slots=True)
class Screening:
    """What the filters of a phase came to."""

    #: Why it goes no further; None when it does.
    refusal: Reply | None = None
    #: Whether the session ends with that.
    is_last: bool = False
    #: What takes the place of the client's argument, or empty.
    text: str = ""
    #: Whether what follows is marked as spam.
    junk: bool = False


PASSED: Final = Screening()


class ScreenedOff(Exception):
    """A filter refuses the command."""

    def __init__(self, refusal: Reply, is_last: bool) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.is_last = is_last


def by_phase(filters: Iterable[Filter]) -> Filters:
    """``filters`` in their order, for each phase apart."""
    found: dict[Phase, tuple[Filter, ...]] = {}
    for each in filters:
        found[each.phase] = (*found.get(each.phase, ()), each)
    return found


async def screen(filters: Sequence[Filter], seen: Seen, session: str) -> Screening:
    """Ask the filters of one phase about what was ``seen`` of the session that the log calls ``session``."""
    await freshen(each.question.table for each in filters if each.question.table is not None)
    try:
        decision = decide(filters, seen)
    except TableUnavailable as error:
        log.warning("%s smtp table-unavailable reason=%s", session, quoted(error))
        return Screening(replies.TROUBLE)
    except NameUnavailable as error:
        log.warning("%s smtp name-unavailable reason=%s", session, quoted(error))
        return Screening(replies.NAME_TROUBLE)
    for each in decision.reports:
        log.info("%s smtp filter-report filter=%s message=%s", session, quoted(each.name), quoted(each.text))
    if decision.decider is None:
        return PASSED
    return _outcome(decision.decider, session)


def demand(screening: Screening) -> Screening:
    """``screening``, unless it refused, which is raised as `ScreenedOff`."""
    if screening.refusal is not None:
        raise ScreenedOff(screening.refusal, screening.is_last)
    return screening


def _outcome(decider: Filter, session: str) -> Screening:
    phase, deed = decider.phase.value, decider.deed
    log.info("%s smtp filter filter=%s phase=%s action=%s", session, quoted(decider.name), phase, deed.value)
    match deed:
        case Deed.REJECT | Deed.DISCONNECT:
            reply = decider.reply
            return Screening(reply, deed is Deed.DISCONNECT or reply.code == replies.CLOSING)
        case Deed.REWRITE:
            return Screening(text=decider.text)
        case Deed.JUNK:
            return Screening(junk=True)
        case _:
            return PASSED
