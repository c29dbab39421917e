"""The drop directory: where ``sendmail`` leaves mail while nobody listens, and how that comes into the spool.

It is looked at once a second, and read when something in it has changed, when something that could not be taken is
due again, and every minute in any case. What is taken is unlinked after the commit.

Guarantees: a file that was left whole is unlinked only when the spool owns its message; a crash in between changes
nothing, as the spool knows the name. Two readers of one drop take each message once. What is no message, or concerns
nobody any more, is set aside in ``drop-damaged``, logged and counted, never thrown away; what is unfinished, when it
is older than a day and nobody writes to it. No file, whatever it is, keeps another from being read.

Failure: trouble with the directory or with a file is logged and tried again. `SpoolLost` comes through.

`ingress.dropfile` describes the files.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterable
from typing import Final

import anyio
from anyio.to_thread import run_sync

from ingress.dropdoor import DropDoor, Unfit
from ingress.dropfile import NAME_DIGITS, NAME_LENGTH
from ingress.dropped import Dropped, Unfinished
from ingress.replay import Later, replay
from ingress.transaction import House
from spool.errors import SpoolLost

log = logging.getLogger(__name__)

#: Everybody may put a file there and take back his own; nobody but the daemon sees what there is.
DROP_MODE: Final = 0o1733
#: Seconds between two looks at the directory.
POLL: Final = 1.0
#: Milliseconds after which the directory is read whether or not it has changed.
FULL_SCAN: Final = 60_000
#: Two changes within a tick of the file system's clock look like one: a directory is not known before it has rested so long.
SETTLED_NS: Final = 1_000_000_000
#: Milliseconds until something is tried again: the first time, and at most.
FIRST_DELAY: Final = 1_000
LAST_DELAY: Final = 300_000
#: The same for what may be finished any moment: looking costs little.
LAST_UNFINISHED_DELAY: Final = 10_000
#: Seconds after which what is unfinished will never be finished.
UNFINISHED_AGE: Final = 24 * 3600
#: Files that are taken at a time, so that one commit serves several.
PARALLEL: Final = 8
#: Files that one reading of the directory takes on; the next reading follows at once.
PAGE: Final = 1_000
#: Files of which it is remembered when they are due again; others are tried at every reading.
REMEMBERED: Final = 10_000


class DropReader:
    """Takes what comes into the drop behind ``door``, until `stop`. While it is ``paused`` nothing is taken."""

    def __init__(self, door: DropDoor, house: House) -> None:
        self.paused = False
        #: Files in ``drop-damaged``; known once `run` has begun.
        self.set_aside = 0
        self._door = door
        self._house = house
        self._clock = house.spool.clock.clock
        self._stopped = anyio.Event()
        self._waiting = _Waiting()
        #: When the directory had changed last when it was read; None when it has to be read again.
        self._seen: int | None = None
        self._next_full_scan = 0
        self._complaint = ""

    def stop(self) -> None:
        """Take nothing more; `run` returns when what is being taken is taken."""
        self._stopped.set()

    async def run(self) -> None:
        """Watch the drop."""
        self.set_aside = await run_sync(self._door.count_aside)
        if self.set_aside:
            log.warning("drop set-aside files=%d", self.set_aside)
        while not self._stopped.is_set():
            if not self.paused:
                await self.look()
            with anyio.move_on_after(POLL):
                await self._stopped.wait()

    async def look(self) -> None:
        """See whether there is something to do, and do it."""
        now = self._clock.boottime_ms()
        try:
            changed = await run_sync(self._door.changed)
            if now >= self._next_full_scan or changed != self._seen or self._waiting.has_due(now):
                self._note(changed, now)
                await self._read(now)
            self._complaint = ""
        except OSError as error:
            self._complain(f"the drop directory: {error.strerror}")

    def _note(self, changed: int, now: int) -> None:
        age = int(self._clock.wall() * 1e9) - changed
        self._seen = None if 0 <= age < SETTLED_NS else changed
        if now >= self._next_full_scan:
            self._next_full_scan = now + FULL_SCAN

    async def _read(self, now: int) -> None:
        names = await run_sync(self._due_names, now)
        if len(names) == PAGE:
            self._seen = None
        room = anyio.CapacityLimiter(PARALLEL)
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(self._take_in_turn, room, name)

    def _due_names(self, now: int) -> list[str]:
        present, due = self._waiting.sift(self._door.names(), now)
        self._waiting.keep(present)
        return due

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            log.error("drop unreadable reason=%s", complaint)
            self._complaint = complaint

    # -- one file -----------------------------------------------------------------------------------------------------

    async def _take_in_turn(self, room: anyio.CapacityLimiter, name: str) -> None:
        async with room:
            if self._stopped.is_set():
                return
            try:
                if await self._take(name):
                    await run_sync(self._door.unlink, name)
                    self._waiting.forget(name)
            except FileNotFoundError:
                self._waiting.forget(name)  # another reader has taken it, or its owner has taken it back
            except SpoolLost:
                raise
            except Exception as error:
                log.warning("drop put-off file=%a reason=%a", name, str(error), exc_info=not isinstance(error, OSError))
                self._waiting.put_off(name, self._clock.boottime_ms(), LAST_DELAY)

    async def _take(self, name: str) -> bool:
        """Whether the spool owns the message in this file now."""
        try:
            if len(name) != NAME_LENGTH or not NAME_DIGITS.issuperset(name):
                raise Unfit("sendmail gives no such names")
            with await run_sync(self._opened, name) as dropped:
                return await self._replay(dropped, name)
        except Unfit as error:
            await run_sync(self._put_aside, name, str(error))
        except Later as error:
            log.info('drop put-off file=%s reason="%s"', name, error)
            self._waiting.put_off(name, self._clock.boottime_ms(), LAST_DELAY)
        return False

    async def _replay(self, dropped: Dropped, name: str) -> bool:
        try:
            await replay(self._house, dropped, name)
        except Unfinished:
            # In either direction: the clock may have been set back since.
            if abs(self._clock.wall() - dropped.modified) > UNFINISHED_AGE and not dropped.is_written():
                raise Unfit("it was never finished") from None
            self._waiting.put_off(name, self._clock.boottime_ms(), LAST_UNFINISHED_DELAY)
            return False
        return True

    def _opened(self, name: str) -> Dropped:
        return Dropped(self._door.open(name))

    def _put_aside(self, name: str, reason: str) -> None:
        aside = self._door.set_aside(name)
        self.set_aside += 1
        self._waiting.forget(name)
        log.warning('drop set-aside file=%a uid=%d as=%s reason="%s"', name, aside.uid, aside.path, reason)


class _Waiting:
    """When files that could not be taken are due again; forgets some rather than grow without bound."""

    def __init__(self) -> None:
        #: Due (ms since boot) and delay by name.
        self._waits: dict[str, tuple[int, int]] = {}
        #: The last name of a page that was not all: the next one goes on behind it.
        self._turned = ""

    def has_due(self, now: int) -> bool:
        return any(due <= now for due, _ in self._waits.values())

    def sift(self, names: Iterable[str], now: int) -> tuple[set[str], list[str]]:
        """Of all ``names``, those that wait, and at most `PAGE` that are due."""
        waiting: set[str] = set()
        due: list[str] = []
        for name in names:
            wait = self._waits.get(name)
            if wait is not None:
                waiting.add(name)
            if wait is None or wait[0] <= now:
                due.append(name)
        return waiting, self._page(due)

    def _page(self, due: list[str]) -> list[str]:
        # In turn, so that no crowd of files that cannot be taken keeps another from being read.
        if len(due) > PAGE:
            due.sort()
            start = bisect.bisect_right(due, self._turned)
            due = (due[start:] + due[:start])[:PAGE]
            self._turned = due[-1]
        return due

    def keep(self, names: set[str]) -> None:
        self._waits = {name: wait for name, wait in self._waits.items() if name in names}

    def put_off(self, name: str, now: int, longest: int) -> None:
        _, delay = self._waits.get(name, (0, FIRST_DELAY // 2))
        delay = min(2 * delay, longest)
        if name in self._waits or len(self._waits) < REMEMBERED:
            self._waits[name] = (now + delay, delay)

    def forget(self, name: str) -> None:
        self._waits.pop(name, None)
