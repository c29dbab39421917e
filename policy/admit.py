"""One RCPT: rules and expansion together.

Guarantees: what is admitted has at least one envelope, and each names an action of the configuration it was admitted by.

Failure: `TableUnavailable`, which is temporary for the client (451 4.3.0).

RFC 5321 3.3, 3.4; reply texts as OpenSMTPD's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from anyio import create_task_group

from policy.config import Config, Facts
from policy.errors import TableUnavailable
from policy.expand import MAX_DEPTH, expand
from policy.forward import NO_FORWARDS, ForwardAnswer, Forwards, Pending
from policy.route import lane_key, local_key
from policy.tables.freshness import freshen
from policy.tables.passwd import Found, User, Users
from policy.tables.sourced import SourcedTable
from policy.tables.table import Table
from policy.trail import FinalDestination, Refusal
from policy.watch import UNWATCHED, Watch
from spool.lane import Lane
from spool.message import NewEnvelope, Notify, Recipient
from spool.reply import Reply
from spool.settlement import shared

_Item = TypeVar("_Item")

#: So many .forward files of one recipient are asked for at once; a list of a hundred users is one RCPT, not a hundred.
MAX_FETCHES: Final = 8


@dataclass(frozen=True, slots=True)
class Admitted:
    """The recipient is ours to deliver, to each of these."""

    envelopes: tuple[NewEnvelope, ...]
    #: The recipient as it was given, if the sender is to be told that it stands for several (RFC 3461 5.2.7.2).
    expanded: Recipient | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The recipient is refused. ``reason`` is for our own log: it may name users, files and rules."""

    reply: Reply
    reason: str


async def admit(
    config: Config,
    facts: Facts,
    recipient: Recipient,
    users: Users,
    forwards: Forwards = NO_FORWARDS,
    watch: Watch = UNWATCHED,
) -> Admitted | Refused:
    """Decide about ``recipient``."""
    await freshen(table for table in config.tables.values() if not _is_secret(table))
    known, people = _Known(forwards), _KnownUsers(users)
    # Each round brings users, or the .forward of users, who are a step further away than those of the round before.
    for _round in range(2 * (MAX_DEPTH + 1)):
        try:
            found = expand(config, facts, people, recipient.address, known, watch)
        except Refusal as refusal:
            return Refused(refusal.reply, str(refusal))
        except Pending as pending:
            await people.learn(pending.names)
            await known.learn(pending.users)
        else:
            several = len(found) > 1 and Notify.SUCCESS in recipient.notify and not facts.mail_from.is_null
            meant = shared(recipient) if several else recipient
            envelopes = tuple(_envelope(config, facts, meant, final) for final in found)
            return Admitted(envelopes, recipient if several else None)
    raise AssertionError("an expansion asks for no user twice")


class _Known:
    """What is known of users' .forward files, all through one expansion: an answer that was used is not forgotten."""

    def __init__(self, forwards: Forwards) -> None:
        self._forwards = forwards
        self._answers: dict[User, ForwardAnswer] = {}

    def known(self, user: User) -> ForwardAnswer | None:
        """See `Forwards`."""
        answer = self._answers.get(user) or self._forwards.known(user)
        if answer is not None:
            self._answers[user] = answer
        return answer

    async def fetch(self, user: User) -> ForwardAnswer:
        """See `Forwards`."""
        return await self._forwards.fetch(user)

    async def learn(self, users: Iterable[User]) -> None:
        """Fetch the .forward of ``users``."""
        await _several_at_once(users, self._learn_one)

    async def _learn_one(self, user: User) -> None:
        self._answers[user] = await self._forwards.fetch(user)


class _KnownUsers:
    """What is known of users, all through one expansion."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._answers: dict[str, Found | TableUnavailable] = {}

    def known(self, name: str) -> Found | None:
        """See `Users`."""
        answer = self._answers.get(name) or self._users.known(name)
        if isinstance(answer, TableUnavailable):
            raise answer
        if answer is not None:
            self._answers[name] = answer
        return answer

    async def fetch(self, name: str) -> Found:
        """See `Users`."""
        return await self._users.fetch(name)

    async def learn(self, names: Iterable[str]) -> None:
        """Find out whose these are."""
        await _several_at_once(names, self._learn_one)

    async def _learn_one(self, name: str) -> None:
        try:
            self._answers[name] = await self._users.fetch(name)
        except TableUnavailable as error:
            # The expansion says it where it comes to this name.
            self._answers[name] = error


async def _several_at_once(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]]) -> None:
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with create_task_group() as group:
        for _worker in range(MAX_FETCHES):
            group.start_soon(worker)


def _envelope(config: Config, facts: Facts, recipient: Recipient, final: FinalDestination) -> NewEnvelope:
    destination = final.destination
    key = lane_key(final.action, destination.address.domain, local_key(destination))
    # RFC 3461 4.1: nobody is told of a delay who has not left that open; RFC 5321 4.5.5: a null sender is nobody.
    warns = config.warn_intervals and Notify.DELAY in recipient.notify and not facts.mail_from.is_null
    return NewEnvelope(
        recipient,
        destination,
        Lane(final.action.name, key),
        config.ttl_of(final.action.name),
        config.warn_intervals[0] if warns else None,
    )


def _is_secret(table: Table) -> bool:
    # A recipient does not wait for a vault that no recipient needs.
    return isinstance(table, SourcedTable) and table.is_secret
