"""What happens to mail that waits: some of it is past its deadline when its lane fails, of some its sender is owed a notice.

Guarantees: nothing expires without a failure of its lane after its deadline. A delay notice is owed by the message's age and
is found within a tick, whatever the mail waits for. Each step is a bounded transaction, so that mail of others flows
meanwhile, however many wait.

Failure: when the spool cannot write, what is overdue is left to the lane's next failure, and notices to the next tick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import Final

import anyio

from policy.config import Config
from spool.door import SpoolDoor
from spool.errors import SpoolFull, SpoolUnavailable
from spool.lane import LaneFailed

#: Lanes that are swept at the same time.
LANES: Final = 256
#: Lanes that wait for that. Others that fail meanwhile are swept when they fail again.
MAX_WAITING: Final = 10_000

log: Final = logging.getLogger(__name__)


class Sweeper:
    """Ends what is overdue after lane failures, a few lanes at a time, and warns every ``tick`` seconds."""

    def __init__(self, spool: SpoolDoor, config: Callable[[], Config], tick: float) -> None:
        #: Envelopes that it ended.
        self.expired = 0
        self._spool = spool
        self._config = config
        self._tick = tick
        #: When each lane failed that is still to be swept.
        self._failed: dict[int, int] = {}
        self._news = anyio.Event()

    def lane_failed(self, verdict: LaneFailed) -> None:
        """The spool knows of this failure."""
        if len(self._failed) < MAX_WAITING:
            self._failed[verdict.lane_id] = verdict.at
            self._news.set()

    async def run(self) -> None:
        """Sweep after failures and warn in time, for ever."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._warn_in_time)
            await self._sweep_after_failures()

    async def _warn_in_time(self) -> None:
        while True:
            try:
                while await self._spool.warn(self._spool.clock.now(), self._config().warn_intervals):
                    pass
            except (SpoolFull, SpoolUnavailable) as error:
                log.warning("delay notices have to wait: %s", error)
            await anyio.sleep(self._tick)

    async def _sweep_after_failures(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            while self._failed:
                # Together, so that they share commits.
                async with anyio.create_task_group() as together:
                    for lane_id in list(islice(self._failed, LANES)):
                        together.start_soon(self._sweep, lane_id, self._failed.pop(lane_id))

    async def _sweep(self, lane_id: int, at: int) -> None:
        try:
            while ended := await self._spool.expire(lane_id, at):
                self.expired += ended
        except (SpoolFull, SpoolUnavailable) as error:
            log.warning("what waits beyond its time is left to the lane's next failure: %s", error)
