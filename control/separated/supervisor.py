"""The supervisor: root's process, which starts the others, gives them what they need, and starts them anew when they die.

It reads the configuration and binds the sockets, and runs errands for those that are not root (`control.separated.errands`).
It never reads a word of a client or of a message.

Guarantees: ready is said when every role does its work. When ingress or delivery dies, another takes its place; sockets stay
bound meanwhile. When the queue dies the others are ended before it is started again: nobody delivers what a new queue takes
for its own to deliver. Asked to stop, ingress ends first, then the queue, then delivery.

Failure: `StartError`, also when a write may be lost (74). A role that dies again and again is started ever more slowly.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from control.generation import Generation, GenerationRefused, read_generation
from control.notify import tell_ready, tell_reloading, tell_stopping
from control.separated.accounts import AccountMissing, Role, accounts
from control.separated.bonds import END, LOST, REFRESH_TABLE, SET_VOICE, SPEAK, STOP, Trouble, Voice
from control.separated.household import Household
from control.separated.premises import hand_over_spool
from control.separated.tables import TableWatch
from control.start import Start, StartError, control_socket, first_generation, prepare_drop, spool_refused
from control.walls.privileges import OF_SUPERVISOR, keep_capabilities
from spool.channel import CallFailed, ChannelClosed, Descriptors, Offer
from spool.errors import SpoolError

#: Seconds until a role that died is started again: the first time, and at most.
FIRST_PAUSE: Final = 0.1
LAST_PAUSE: Final = 30.0
#: Seconds without a death after which the next one is the first.
SOUND: Final = 60.0
#: Seconds between two looks at the files of tables.
WATCH: Final = 1.0
#: Seconds that a role has to end by itself: the grace of sessions and of deliveries, and some for the last words.
FAREWELL: Final = 60.0

_log: Final = logging.getLogger("control.daemon")


async def serve(start: Start, ready: Callable[[], None]) -> None:
    """Be the daemon until a signal asks for the end. Raises `StartError`."""
    places = start.source.places
    try:
        users = accounts()
        # Before there are threads.
        keep_capabilities(OF_SUPERVISOR)
        await anyio.to_thread.run_sync(hand_over_spool, places, users[Role.QUEUE])
    except AccountMissing as error:
        raise StartError(str(error)) from error
    except SpoolError as error:
        raise spool_refused(places, error) from error
    except OSError as error:
        raise StartError(f"{places.spool_dir}: {error.strerror}") from error
    prepare_drop(places)
    with control_socket(places) as control:
        household = Household(start, users, control)
        try:
            await Supervisor(start, household).serve(ready)
        except BaseExceptionGroup as group:
            raise _refusal_in(group) from group
        finally:
            with anyio.CancelScope(shield=True):
                await household.aclose()
    _log.info("Exiting")


def _refusal_in(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The `StartError` that ended the tasks, if one did."""
    refusals = group.subgroup(StartError)
    if refusals is None:
        return group
    first = refusals.exceptions[0]
    return _refusal_in(first) if isinstance(first, BaseExceptionGroup) else first


class Supervisor:
    """See the module."""

    def __init__(self, start: Start, household: Household) -> None:
        self._start = start
        self._source = start.source
        self._household = household
        self._watch = TableWatch()
        self._stop = anyio.Event()
        self._lost = anyio.Event()
        self._reloading = anyio.Lock()
        self._looking = anyio.Lock()

    async def serve(self, ready: Callable[[], None]) -> None:
        """Run every role until a signal asks for the end."""
        _log.info("info: Mailspool %s starting", version("mailspool"))
        generation = first_generation(self._start)
        async with anyio.create_task_group() as everything:
            everything.start_soon(self._end_when_lost)
            await self._begin(everything, generation)
            await everything.start(self._obey_signals, everything)
            ready()
            await self._look_after()
            await self._end()
            everything.cancel_scope.cancel()

    async def _begin(self, everything: TaskGroup, generation: Generation) -> None:
        offers = [
            Offer(SET_VOICE, self._set_voice),
            Offer(REFRESH_TABLE, self._refresh_table),
            Offer(LOST, self._was_lost),
        ]
        try:
            await self._household.move_in(everything, generation, offers)
        except SpoolError as error:
            raise spool_refused(self._source.places, error) from error
        except (ChannelClosed, CallFailed, OSError) as error:
            raise StartError(f"a process of smtpd ended at its start: {error}", os.EX_SOFTWARE) from error

    async def _look_after(self) -> None:
        """Until the end is asked for: nothing is started or supplied from then on."""
        async with anyio.create_task_group() as work:
            work.start_soon(self._keep)
            work.start_soon(self._watch_tables)
            await self._stop.wait()
            work.cancel_scope.cancel()

    # -- deaths -------------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Start anew what has died."""
        pause, last = FIRST_PAUSE, anyio.current_time()
        while True:
            await self._household.until_one_is_missing()
            if anyio.current_time() - last > SOUND:
                pause = FIRST_PAUSE
            await anyio.sleep(pause)
            last, pause = anyio.current_time(), min(2 * pause, LAST_PAUSE)
            try:
                await self._household.replace_missing()
            except (ChannelClosed, CallFailed, SpoolError, OSError) as error:
                _log.error("a process could not be started again: %s", error)

    async def _end_when_lost(self) -> None:
        await self._lost.wait()
        self._household.kill()
        raise StartError("a write to the spool may be lost", os.EX_IOERR)

    async def _was_lost(self, _: None, __: Descriptors) -> None:
        self._lost.set()

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Ingress, then the queue that takes what ingress still brings, then those who deliver for the queue."""
        household = self._household
        async with anyio.create_task_group() as group:
            group.start_soon(household.tell, Role.INGRESS, STOP)
            group.start_soon(household.tell, Role.QUEUE, STOP)
        await household.see_off(Role.INGRESS, FAREWELL)
        await household.tell(Role.HELPER, END)
        await household.tell(Role.QUEUE, END)
        await household.see_off(Role.QUEUE, FAREWELL)
        await household.tell(Role.DELIVERY, END)
        await household.see_off(Role.DELIVERY, FAREWELL)

    async def _obey_signals(self, everything: TaskGroup, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number is signal.SIGHUP:
                    everything.start_soon(self._reload)
                elif self._stop.is_set():
                    _log.warning("asked to stop twice: what is under way is broken off")
                    self._household.kill(Role.INGRESS, Role.DELIVERY)
                else:
                    tell_stopping()
                    self._stop.set()

    # -- the configuration --------------------------------------------------------------------------------------------

    async def _reload(self) -> None:
        """Give everybody a new configuration, or nobody; one reload at a time."""
        async with self._reloading:
            tell_reloading()
            try:
                listening = self._household.listening
                generation = await anyio.to_thread.run_sync(read_generation, self._source, listening)
                self._require_within_walls(generation)
                await self._household.give(generation)
                _log.info("info: configuration reloaded")
            except GenerationRefused as error:
                for reason in error.reasons:
                    _log.error("%s", reason)
                _log.error("the configuration was not reloaded: nothing has changed")
            finally:
                tell_ready()

    def _require_within_walls(self, generation: Generation) -> None:
        if reasons := self._household.refusals(generation.config):
            generation.discard()
            raise GenerationRefused(reasons)

    async def _watch_tables(self) -> None:
        """Bring what has changed in the files of tables; in the other processes nobody can read them."""
        while True:
            await self._bring_tables()
            await anyio.sleep(WATCH)

    async def _bring_tables(self) -> None:
        async with self._looking:
            tables = self._household.config.tables
            if await anyio.to_thread.run_sync(self._watch.has_news, tables):
                await self._household.bring_tables()

    async def _refresh_table(self, name: str, _: Descriptors) -> Trouble:
        if not name:
            await self._bring_tables()
            return Trouble("")
        table = self._household.config.tables.get(name)
        if table is None:
            return Trouble(f'there is no table "{name}" any more')
        await anyio.to_thread.run_sync(table.refresh)
        await self._bring_tables()
        return Trouble(table.trouble)

    # -- the log ------------------------------------------------------------------------------------------------------

    async def _set_voice(self, voice: Voice, _: Descriptors) -> None:
        self._start.journal.speak(voice.verbose, voice.traced)
        for role in (Role.INGRESS, Role.DELIVERY, Role.HELPER):
            await self._household.tell(role, SPEAK, voice)
