"""Makes deposits, as whoever we are: the one piece of code for an agent and for the daemon of an ordinary user.

Guarantees: one result for each deposit, in order. Those for the same mailbox share its lock and its fsync.

Failure: `Abandoned` when nobody waits any more. An exception that nobody foresaw is the caller's to report; what it
interrupted is recognised by the repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from delivery import command, maildir, mbox
from delivery.content import is_marked_as_spam, was_delivered_to
from delivery.deposit import JUNK, Deposit, Desk, Result, ToCommand, ToMaildir, ToMbox, failed
from spool.errors import BodyDamaged
from spool.files import Ops
from spool.outcome import Damaged

_LOOP: Final = failed("5.4.6", "Loop detected")

_Deliver = Callable[[Sequence[Deposit], Ops, Desk], list[Result]]


def make_deposits(deposits: Sequence[Deposit], ops: Ops, desk: Desk) -> list[Result]:
    """Deliver all; see the module."""
    deposits = [_sorted(deposit) for deposit in deposits]
    results = [_decided_before(deposit) for deposit in deposits]
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, deposit in enumerate(deposits):
        if results[place] is None:
            groups.setdefault(_mailbox(deposit), []).append(place)
    for places in groups.values():
        chosen = [deposits[place] for place in places]
        for place, result in zip(places, _deliver_of(chosen[0])(chosen, ops, desk), strict=True):
            results[place] = result
    return [result for result in results if result is not None]


def _sorted(deposit: Deposit) -> Deposit:
    method = deposit.method
    if not isinstance(method, ToMaildir) or not method.sorts_junk:
        return deposit
    try:
        return replace(deposit, method=replace(method, folder=JUNK)) if is_marked_as_spam(deposit.body) else deposit
    except BodyDamaged:
        # Whoever reads it next says so.
        return deposit


def _decided_before(deposit: Deposit) -> Result | None:
    try:
        return _LOOP if was_delivered_to(deposit.body, deposit.address) else None
    except BodyDamaged as damage:
        return Damaged(deposit.envelope, str(damage))


def _mailbox(deposit: Deposit) -> tuple[str, ...]:
    match deposit.method:
        case ToMaildir(path=path, folder=folder):
            return ("maildir", path, folder)
        case ToMbox(path=path):
            return ("mbox", path)
        case ToCommand():
            return ("command",)


def _deliver_of(deposit: Deposit) -> _Deliver:
    match deposit.method:
        case ToMaildir():
            return maildir.deliver
        case ToMbox():
            return mbox.deliver
        case ToCommand():
            return command.deliver
