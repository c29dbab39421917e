"""Agents, as the daemon sees them: started for a user, kept warm for a while, bounded in number.

Agents are forked by the nursery (`delivery.nursery`), because a process with threads must not fork and go on; see
`delivery.agent` for what one does before it reads a word.

Guarantees: at most `MAX_SESSIONS` agents at work and `MAX_IDLE` without. When one proves dead before it began, another
takes its place at once; its death while it worked defers what it worked on, and nothing is lost.

Failure: see `Hands`. `aclose` waits for the agents to end and kills those that do not.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio import CapacityLimiter, to_thread

from delivery.deposit import Deposit, Refused, Result, ToCommand, ToMbox, deferred
from delivery.forward_file import unpack_answer
from delivery.frames import Loaded, deposit_frames, load, unpack_intent, unpack_result
from delivery.hands import MAX_LOOKS, MAX_SESSIONS, Commit
from delivery.identity import Identity
from delivery.loop_wire import LoopWire
from delivery.recruits import Duty, Recruit, Recruits
from delivery.trouble import mailbox_trouble
from delivery.wire import Hangup
from policy.forward import ForwardAnswer, ForwardDeferred
from spool.bodies import LargeBody
from spool.errors import SpoolError
from spool.ids import EnvelopeId
from spool.outcome import Damaged, Stage

#: Processes without work that are kept. A start costs as much as a dozen deliveries, so as many as may work at a time: who
#: gets mail now gets more within seconds. Each has 2 to 3 MB of its own.
MAX_IDLE: Final = MAX_SESSIONS
#: The same of those that look at .forward files: what they say is remembered, so each is asked seldom.
MAX_IDLE_LOOKERS: Final = MAX_LOOKS
#: Seconds that one is kept: mail comes in bursts, and a start costs as much as several deliveries.
IDLE: Final = 30.0
#: Seconds after which an agent that has said nothing is given up: a file system that hangs. Commands have their own limits.
PATIENCE: Final = 600.0
#: Seconds that agents have to end when the daemon does.
FAREWELL: Final = 5.0

#: Seconds that a mailbox is believed to be there. Whoever can remove it from the directory can make it there too, as whoever
#: delivers to it does when it is missing; one that root removed makes its mail wait for the next attempt.
PREPARED: Final = 5.0
#: Mailboxes of which that is remembered.
MAX_PREPARED: Final = 1000

_log = logging.getLogger("delivery.agent")


class NotBegun(Exception):
    """The agent was gone before it had all of its work: nothing was done."""


class Agent:
    """A running agent. Its socket is closed by whoever lets go of it last: the work under way, or its end."""

    def __init__(self, who: Identity, recruit: Recruit) -> None:
        self.who = who
        self.pid = recruit.pid
        self.pidfd = recruit.pidfd
        self.opens = recruit.opens
        self.duty = recruit.duty
        self._recruit = recruit
        self._wire = LoopWire(recruit.wire.socket, PATIENCE)
        self._is_at_work = False
        self._has_ended = False

    async def look(self) -> ForwardAnswer:
        """Have it look at the .forward; raises `NotBegun` and `TimeoutError`."""
        self._begin()
        try:
            await self._wire.send_json({"look": True})
            return unpack_answer(await self._wire.receive_json())
        except Hangup as error:
            raise NotBegun from error
        finally:
            self._let_go(at_work=True)

    async def make(self, deposits: Sequence[Deposit], commit: Commit) -> list[Result]:
        """Have it make deposits; raises `NotBegun`, `Hangup` and `TimeoutError`."""
        self._begin()
        loaded = load(deposits)
        try:
            sound = [one for one in loaded if one.damage is None]
            made = iter(await self._make(sound, commit) if sound else [])
            return [one.damage or next(made) for one in loaded]
        finally:
            for one in loaded:
                one.close()
            self._let_go(at_work=True)

    def _begin(self) -> None:
        if self._has_ended:
            raise NotBegun
        self._is_at_work = True

    async def _make(self, loaded: Sequence[Loaded], commit: Commit) -> list[Result]:
        try:
            await self._wire.send(deposit_frames(loaded))
            await self._wire.receive_json()
        except Hangup as error:
            raise NotBegun from error
        places = {
            one.deposit.envelope: one.deposit.method.path for one in loaded if isinstance(one.deposit.method, ToMbox)
        }
        limit = sum(_limit(one.deposit) for one in loaded)
        while True:
            match await self._wire.receive_json(limit):
                case {"intents": [*intents]}:
                    await self._wire.send_json({"refused": await _commit(intents, places, commit)})
                case {"results": [*results]} if len(results) == len(loaded):
                    return [_result(fields, one) for fields, one in zip(results, loaded, strict=True)]
                case {"trouble": str(text)}:
                    _log.error("the agent of %s: %s", self.who.name, text)
                    raise Hangup("an unexpected error")
                case _:
                    raise Hangup("a word that nobody knows")

    def _let_go(self, *, at_work: bool) -> None:
        self._is_at_work = self._is_at_work and not at_work
        if self._has_ended and not self._is_at_work:
            self._wire.close()

    def ended(self) -> None:
        """Its process is over."""
        os.close(self.pidfd)
        self._has_ended = True
        self._let_go(at_work=False)

    def dismiss(self) -> None:
        """Let it end: it notices between two steps, and so does whoever waits for it."""
        self._wire.hang_up()

    def kill(self) -> None:
        """End it at once. Called in the loop, as is `ended`."""
        if not self._has_ended:
            self._recruit.hirer.kill(self._recruit)


def _result(fields: Any, loaded: Loaded) -> Result:
    """What became of this deposit, and of no other."""
    result = unpack_result(fields)
    if isinstance(result, Damaged) and result.envelope != loaded.deposit.envelope:
        raise Hangup("a result of another deposit")
    return result


async def _commit(fields: Sequence[Any], places: Mapping[EnvelopeId, str], commit: Commit) -> str:
    """Why the intents could not be committed; empty when they are. They must be about these mailboxes."""
    intents = [unpack_intent(one) for one in fields]
    if any(places.get(intent.envelope) != intent.path for intent in intents):
        raise Hangup("an intent about another mailbox")
    try:
        await commit(intents)
    except SpoolError as error:
        return f"the intent could not be kept: {error}"
    return ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Who can lock mailboxes that are there, and until when that is believed (the loop's time)."""

    who: Identity
    until: float


class AgentHands:
    """See the module."""

    def __init__(
        self, commit: Commit, recruiter: Recruits, idle: float = IDLE, looks_with: Duty = Duty.DELIVER
    ) -> None:
        """Agents for looking are started with that duty; who delivers too may want to go on with them."""
        self._commit = commit
        self._recruiter = recruiter
        self._keep = idle
        self._looks_with = looks_with
        self._most_idle = MAX_IDLE_LOOKERS if looks_with is Duty.LOOK else MAX_IDLE
        self._limiter = CapacityLimiter(MAX_SESSIONS)
        self._lookers = CapacityLimiter(MAX_LOOKS)
        self._looking = anyio.Semaphore(MAX_LOOKS)
        self._room = anyio.Semaphore(MAX_SESSIONS)
        #: Those without work, the longest idle first.
        self._idle: OrderedDict[Agent, asyncio.TimerHandle] = OrderedDict()
        #: All that have not ended.
        self._running: set[Agent] = set()
        self._ended = anyio.Event()
        self._is_closing = False
        self._prepared: dict[tuple[Identity, tuple[str, ...]], _Prepared] = {}

    @property
    def becomes_others(self) -> bool:
        """See `Hands`."""
        return True

    @property
    def running(self) -> list[Agent]:
        """Agents that have not ended."""
        return list(self._running)

    async def make(self, who: Identity, deposits: Sequence[Deposit]) -> list[Result]:
        """See `Hands`."""
        try:
            async with self._room:
                return await self._make(who, deposits)
        except Refused as refused:
            return [refused.outcome] * len(deposits)
        except (NotBegun, OSError) as error:
            why = getattr(error, "strerror", None) or "it ended at once"
            text = f"no delivery process could be started for {who.name}: {why}"
            return [deferred("4.3.0", text, Stage.ROUTE)] * len(deposits)

    async def _make(self, who: Identity, deposits: Sequence[Deposit]) -> list[Result]:
        paths = sorted({one.method.path for one in deposits if isinstance(one.method, ToMbox)})
        if paths:
            who = await self._with_mailboxes(who, tuple(paths))
        opens = any(isinstance(one.body, LargeBody) and one.body.opening for one in deposits)
        while (kept := self._kept(who, Duty.DELIVER, opens)) is not None:
            with suppress(NotBegun):
                return await self._work(kept, deposits)
        return await self._work(await self._start(who, Duty.DELIVER, self._limiter, opens), deposits)

    async def _with_mailboxes(self, who: Identity, paths: tuple[str, ...]) -> Identity:
        """See `Recruits.prepare`, which is remembered for a moment."""
        now = asyncio.get_running_loop().time()
        prepared = self._prepared.get((who, paths))
        if prepared is None or prepared.until <= now:
            if len(self._prepared) >= MAX_PREPARED:
                self._prepared.clear()
            able = await to_thread.run_sync(self._prepare, who, paths, limiter=self._limiter)
            prepared = self._prepared[who, paths] = _Prepared(able, now + PREPARED)
        return prepared.who

    def _prepare(self, who: Identity, paths: Sequence[str]) -> Identity:
        try:
            return self._recruiter.prepare(who, paths)
        except OSError as error:
            raise Refused(mailbox_trouble(error, " ".join(paths))) from error

    async def look(self, who: Identity) -> ForwardAnswer:
        """See `Eyes`."""
        if self._is_closing:
            return ForwardDeferred("nobody can look at it any more: the daemon ends")
        try:
            async with self._looking:
                while (kept := self._kept(who, Duty.LOOK)) is not None:
                    with suppress(NotBegun):
                        return await self._look(kept)
                return await self._look(await self._start(who, self._looks_with, self._lookers))
        except (NotBegun, OSError) as error:
            why = getattr(error, "strerror", None) or "it ended at once"
            return ForwardDeferred(f"no process could look at it for {who.name}: {why}")

    async def _look(self, agent: Agent) -> ForwardAnswer:
        try:
            answer = await agent.look()
        except BaseException:
            # It has nothing of anybody's in hand, and may hang in a file system for ever.
            agent.dismiss()
            agent.kill()
            raise
        self._rest(agent)
        return answer

    async def _work(self, agent: Agent, deposits: Sequence[Deposit]) -> list[Result]:
        try:
            results = await agent.make(deposits, self._commit)
        except (Hangup, OSError) as error:
            agent.kill()
            _log.warning("the delivery process of %s ended at work: %s", agent.who.name, error)
            text = f"the delivery process of {agent.who.name} ended at work"
            return [deferred("4.3.0", text)] * len(deposits)
        except BaseException:
            agent.dismiss()
            raise
        self._rest(agent)
        return results

    def _kept(self, who: Identity, duty: Duty, opens: bool = False) -> Agent | None:
        fit = (agent for agent in self._idle if agent.who == who and agent.opens >= opens)
        agent = next((agent for agent in fit if agent.duty in (duty, Duty.DELIVER)), None)
        if agent is not None:
            self._idle.pop(agent).cancel()
        return agent

    async def _start(self, who: Identity, duty: Duty, limiter: CapacityLimiter, opens: bool = False) -> Agent:
        with anyio.CancelScope(shield=True):
            recruit = await to_thread.run_sync(self._recruiter.recruit, who, duty, opens, limiter=limiter)
        agent = Agent(who, recruit)
        self._running.add(agent)
        asyncio.get_running_loop().add_reader(agent.pidfd, self._has_ended, agent)
        return agent

    def _has_ended(self, agent: Agent) -> None:
        asyncio.get_running_loop().remove_reader(agent.pidfd)
        self._running.discard(agent)
        agent.ended()
        if agent in self._idle:
            self._idle.pop(agent).cancel()
        if not self._running:
            self._ended.set()

    def _rest(self, agent: Agent) -> None:
        if agent not in self._running:
            return
        if len(self._idle) == self._most_idle:
            self._dismiss(next(iter(self._idle)))
        self._idle[agent] = asyncio.get_running_loop().call_later(self._keep, self._dismiss, agent)

    def _dismiss(self, agent: Agent) -> None:
        self._idle.pop(agent).cancel()
        agent.dismiss()

    async def aclose(self) -> None:
        """See the module."""
        self._is_closing = True
        for agent in self.running:
            agent.dismiss()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(FAREWELL):
                await self._until_ended()
            for agent in self.running:
                agent.kill()
            await self._until_ended()
            await to_thread.run_sync(self._recruiter.close, limiter=self._limiter)

    async def _until_ended(self) -> None:
        while self._running:
            self._ended = anyio.Event()
            await self._ended.wait()


def _limit(deposit: Deposit) -> float:
    return deposit.method.limit if isinstance(deposit.method, ToCommand) else 0.0
