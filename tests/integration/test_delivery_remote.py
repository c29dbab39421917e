"""Batches that are delivered by another process; here both sides are in this one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import anyio
import pytest
from anyio.abc import TaskGroup

from delivery.dispatch import STRAY
from delivery.remote import IN_DOUBT, DeliveryDesk, RemoteDelivery
from policy.config import Config, Maildir, Relay
from policy.route import Route
from policy.smarthost import parse_smarthost
from spool.bodies import SMALL_BODY
from spool.channel import Channel, pair
from spool.ids import new_message_id
from spool.lane import Lane
from spool.message import Batch
from spool.outcome import Attempt, Damaged, Outcome
from spool.seal import Compression, Sealing, SealKey
from spool.writer import SpoolWriter
from tests.tools.spooled import DONE, LATER, NEVER, Letter, put, submission, take

pytestmark = pytest.mark.anyio

RELAY = Relay(name="relay", hosts=(parse_smarthost("smtp://mx.example.org"),))
MAILDIR = Maildir(name="maildir")
CONFIG = Config("smtpd.conf", "mail.example.org", (), {"relay": RELAY, "maildir": MAILDIR}, ())
ELSEWHERE = Route("mx", RELAY, "", RELAY.hosts)
HERE = Route("maildir:ann", MAILDIR, "ann")
LARGE = b"Subject: large\r\n\r\n" + b"a line of text\r\n" * (2 * SMALL_BODY // 16)


@dataclass
class Postman:
    """Delivers nothing; says of each envelope what the test wants, and keeps what it was given."""

    outcomes: list[Outcome] = field(default_factory=lambda: [DONE])
    batches: list[Batch] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    gate: anyio.Event | None = None
    begun: anyio.Event = field(default_factory=anyio.Event)
    trouble: Exception | None = None
    damage: str = ""

    async def deliver(self, batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        self.batches.append(batch)
        self.begun.set()
        if self.gate:
            await self.gate.wait()
        if self.trouble:
            raise self.trouble
        if self.damage:
            return [Damaged(one.envelope.id, self.damage) for one in batch.items]
        self.bodies += [one.body.read() for one in batch.items]
        outcomes = self.outcomes * len(batch.items)
        return [
            Attempt(one.envelope.id, 5, 7, route.name, outcome)
            for one, outcome in zip(batch.items, outcomes, strict=False)
        ]


@dataclass
class Wing:
    """A scheduler's side and that of its delivery process."""

    remote: RemoteDelivery
    postman: Postman
    spool: SpoolWriter
    #: The far end.
    channel: Channel

    async def deliver(self, route: Route, *letters: Letter) -> Sequence[Attempt | Damaged]:
        return await self.remote.deliver(await self.batch(route, *letters), route)

    async def batch(self, route: Route, *letters: Letter) -> Batch:
        lane = Lane(route.action.name, route.key)
        for letter in letters or (Letter(),):
            await put(self.spool, replace(letter, lane=lane))
        return Batch(lane, tuple(await take(self.spool)))


@pytest.fixture
async def wing(spool: SpoolWriter) -> AsyncIterator[Wing]:
    near, far = pair()
    remote, postman = RemoteDelivery(spool.clock), Postman()
    desk = DeliveryDesk(postman.deliver, lambda: CONFIG, spool.clock.now)
    async with anyio.create_task_group() as group:
        to_delivery, from_queue = Channel(near), Channel(far, desk.offers())
        await group.start(to_delivery.run)
        await group.start(from_queue.run)
        remote.attach(to_delivery)
        yield Wing(remote, postman, spool, from_queue)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("outcome", [DONE, replace(DONE, dsn_passed_on=True), LATER, NEVER])
async def test_what_came_of_a_batch_comes_back(wing: Wing, outcome: Outcome) -> None:
    wing.postman.outcomes = [outcome]
    (attempt,) = await wing.deliver(ELSEWHERE)
    assert isinstance(attempt, Attempt)
    assert (attempt.started, attempt.ended, attempt.outcome) == (5, 7, outcome)


async def test_a_batch_arrives_as_it_was_sent(wing: Wing) -> None:
    batch = await wing.batch(HERE, Letter(to=("ann@example.org", "bob@example.org")), Letter(body=b"A: b\r\n\r\nc\r\n"))
    await wing.remote.deliver(batch, HERE)
    (arrived,) = wing.postman.batches
    assert arrived == batch


@pytest.mark.parametrize("sealing", [Sealing(), Sealing(Compression.ZSTD, SealKey(b"k" * 32))], ids=["open", "sealed"])
async def test_a_large_body_arrives_as_it_was_accepted(wing: Wing, sealing: Sealing) -> None:
    wing.spool.seal_with(sealing)
    name = new_message_id(1)
    writer = await wing.spool.new_body(name)
    writer.write(LARGE)
    letter = Letter(to=("ann@example.org", "bob@example.org"), body=writer.finish(), lane=Lane("maildir", "ann"))
    await wing.spool.accept(submission(wing.spool.clock.now(), letter, name))
    await wing.remote.deliver(Batch(letter.lane, tuple(await take(wing.spool))), HERE)
    assert wing.postman.bodies == [LARGE, LARGE]


async def test_damage_that_delivery_finds_comes_back(wing: Wing) -> None:
    wing.postman.damage = "its octets are not those that were accepted"
    (damaged,) = await wing.deliver(HERE)
    assert isinstance(damaged, Damaged)
    assert damaged.reason == wing.postman.damage


async def test_an_action_that_delivery_does_not_know_defers(wing: Wing) -> None:
    (attempt,) = await wing.deliver(Route("mx", Relay(name="gone"), ""))
    assert isinstance(attempt, Attempt)
    assert 'no action "gone"' in attempt.outcome.reply.text


async def test_an_unforeseen_error_of_delivery_defers(wing: Wing) -> None:
    wing.postman.trouble = RuntimeError("a secret")
    (attempt,) = await wing.deliver(ELSEWHERE)
    assert isinstance(attempt, Attempt)
    assert attempt.outcome.reply == STRAY


async def test_the_history_says_what_may_have_been_sent_when_delivery_died(wing: Wing) -> None:
    wing.postman.gate = anyio.Event()
    results: list[Attempt | Damaged] = []
    async with anyio.create_task_group() as group:

        async def deliver() -> None:
            results.extend(await wing.deliver(ELSEWHERE))

        group.start_soon(deliver)
        await wing.postman.begun.wait()
        wing.channel.close()
    (attempt,) = results
    assert isinstance(attempt, Attempt)
    assert attempt.outcome == IN_DOUBT


async def test_batches_wait_until_there_is_somebody_to_deliver(wing: Wing) -> None:
    remote = RemoteDelivery(wing.spool.clock)
    batch = await wing.batch(ELSEWHERE)
    with anyio.move_on_after(0.02) as scope:
        await remote.deliver(batch, ELSEWHERE)
    assert scope.cancelled_caught


FOREIGN = {
    "another envelope": lambda one: replace(one, envelope="0" * 20 + ".1"),
    "a status of two lines": lambda one: replace(
        one, outcome=replace(LATER, reply=replace(LATER.reply, status="4.0.0\r\nBcc: x"))
    ),
    "a time that the database cannot hold": lambda one: replace(one, ended=1 << 63),
    "a time before all time": lambda one: replace(one, started=-1),
    "a code that is none": lambda one: replace(one, outcome=replace(LATER, reply=replace(LATER.reply, code=7))),
}


@pytest.mark.parametrize("forge", FOREIGN.values(), ids=FOREIGN.keys())
async def test_what_no_honest_delivery_says_counts_as_trouble(wing: Wing, forge: object) -> None:
    honest = wing.postman.deliver

    async def forged(batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
        return [forge(one) for one in await honest(batch, route)]  # type: ignore[operator]

    near, far = pair()
    desk = DeliveryDesk(forged, lambda: CONFIG, wing.spool.clock.now)
    async with anyio.create_task_group() as group:
        to_delivery, from_queue = Channel(near), Channel(far, desk.offers())
        await group.start(to_delivery.run)
        await group.start(from_queue.run)
        wing.remote.attach(to_delivery)
        (attempt,) = await wing.deliver(ELSEWHERE)
        group.cancel_scope.cancel()
    assert isinstance(attempt, Attempt)
    assert attempt.outcome.reply == STRAY


class Crew:
    """Processes that deliver, and keep what they get until they may answer."""

    def __init__(self, wing: Wing, remote: RemoteDelivery) -> None:
        self._wing = wing
        self._remote = remote
        self.taken: list[int] = []
        self.begun = anyio.Event()
        self.gate = anyio.Event()

    async def join(self, number: int, group: TaskGroup) -> Channel:
        """One more; the end of the channel that it has."""

        async def deliver(batch: Batch, route: Route) -> Sequence[Attempt | Damaged]:
            self.taken.append(number)
            self.begun.set()
            await self.gate.wait()
            return await self._wing.postman.deliver(batch, route)

        near, far = pair()
        desk = DeliveryDesk(deliver, lambda: CONFIG, self._wing.spool.clock.now)
        to_delivery, from_queue = Channel(near), Channel(far, desk.offers())
        await group.start(to_delivery.run)
        await group.start(from_queue.run)
        self._remote.attach(to_delivery, number)
        return from_queue


async def deliver_at_once(wing: Wing, crew: Crew, remote: RemoteDelivery, route: Route, number: int) -> None:
    """So many batches while none is answered."""
    async with anyio.create_task_group() as group:
        for _ in range(number):
            crew.begun = anyio.Event()
            group.start_soon(remote.deliver, await wing.batch(route), route)
            await crew.begun.wait()
        crew.gate.set()


async def test_relayed_mail_goes_to_whoever_has_least_to_do(wing: Wing) -> None:
    remote = RemoteDelivery(wing.spool.clock)
    crew = Crew(wing, remote)
    async with anyio.create_task_group() as group:
        await crew.join(1, group)
        await crew.join(2, group)
        await deliver_at_once(wing, crew, remote, ELSEWHERE, 4)
        group.cancel_scope.cancel()
    assert crew.taken == [1, 2, 1, 2]


async def test_the_first_relays_alone_while_all_connections_are_counted(wing: Wing) -> None:
    remote = RemoteDelivery(wing.spool.clock, lambda: True)
    crew = Crew(wing, remote)
    async with anyio.create_task_group() as group:
        await crew.join(2, group)
        await crew.join(1, group)
        await deliver_at_once(wing, crew, remote, ELSEWHERE, 3)
        group.cancel_scope.cancel()
    assert crew.taken == [1, 1, 1]


async def test_a_mailbox_is_always_served_by_the_same_one(wing: Wing) -> None:
    remote = RemoteDelivery(wing.spool.clock)
    crew = Crew(wing, remote)
    async with anyio.create_task_group() as group:
        for number in range(1, 5):
            await crew.join(number, group)
        await deliver_at_once(wing, crew, remote, HERE, 5)
        group.cancel_scope.cancel()
    assert len(set(crew.taken)) == 1


async def test_the_seat_of_one_that_has_gone_is_taken_by_the_next(wing: Wing) -> None:
    remote = RemoteDelivery(wing.spool.clock, lambda: True)
    crew = Crew(wing, remote)
    crew.gate.set()
    async with anyio.create_task_group() as group:
        (await crew.join(1, group)).close()
        await crew.join(1, group)
        with anyio.fail_after(2):
            await remote.deliver(await wing.batch(ELSEWHERE), ELSEWHERE)
        group.cancel_scope.cancel()
    assert crew.taken == [1]
