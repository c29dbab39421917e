"""Writes down what attempts came to, until it is written.

Outcomes that end while the spool commits go together into the next commit; sessions do not wait for it. When the spool
cannot write, nothing new is tried until it can: a retry of mail whose delivery could not be recorded is a duplicate.

Guarantees: what was put is recorded, in the order it was put, or the process ends first. Cancelling `Recorder.run` does
not tear a write apart.

Failure: `SpoolLost` comes out of `Recorder.run`. A full or unavailable spool is waited for, and said in
`Recorder.trouble`. An outcome that the spool refuses for any other reason is logged, and its envelope set aside where the
operator sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from scheduler.limits import RouteLoad
from scheduler.pool import LaneInHand, Pool
from spool.door import SpoolDoor
from spool.errors import SpoolFull, SpoolLost, SpoolUnavailable
from spool.lane import LaneVerdict
from spool.message import Batch, Claimed
from spool.outcome import Damaged
from spool.settlement import Settlement

#: Seconds between two tries to record while the disk is full: an operator who makes room sees mail flow at once.
PAUSE: Final = 1.0

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """Batches of one lane that are out of our hands, and all that the spool has to know of them."""

    pool: Pool
    lane: LaneInHand
    batches: Sequence[Batch]
    settlements: Sequence[Settlement] = ()
    verdict: LaneVerdict | None = None
    #: Never tried.
    returned: Sequence[Claimed] = ()
    damaged: Sequence[Damaged] = ()
    #: The load of the session that this was, or None when there was none.
    load: RouteLoad | None = None


class Recorder:
    """See the module. ``recorded`` is called for each `Ended` that the spool knows."""

    def __init__(self, spool: SpoolDoor, recorded: Callable[[Ended], None]) -> None:
        #: Why outcomes cannot be recorded now; empty when they can.
        self.trouble = ""
        self._spool = spool
        self._recorded = recorded
        self._queue: list[Ended] = []
        self._writing: list[Ended] = []
        self._news = anyio.Event()
        self._quiet = anyio.Event()
        self._ready = anyio.Event()
        self._ready.set()

    def put(self, ended: Ended) -> None:
        """Have this recorded."""
        if ended.verdict is not None:
            ended.lane.verdicts += 1
        self._queue.append(ended)
        self._news.set()

    @property
    def unrecorded(self) -> int:
        """Outcomes that the spool does not know of yet."""
        return sum(len(ended.settlements) for ended in [*self._writing, *self._queue])

    async def ready(self) -> None:
        """Wait until outcomes can be recorded."""
        await self._ready.wait()

    async def idle(self) -> None:
        """Wait until everything that was put is recorded, or cannot be for now."""
        while (self._queue or self._writing) and not self.trouble:
            self._quiet = anyio.Event()
            await self._quiet.wait()

    async def done(self) -> None:
        """Wait until everything that was put is recorded, however long that takes."""
        while self._queue or self._writing:
            await self.ready()
            await self.idle()

    async def run(self) -> None:
        """Record what is put, for ever."""
        while True:
            while self._queue:
                await self.flush()
            self._news = anyio.Event()
            self._quiet.set()
            await self._news.wait()

    async def flush(self) -> None:
        """Record what was put so far."""
        self._writing, self._queue = self._queue, []
        batch = self._writing
        await self._record(batch)
        returned = [one for ended in batch for one in ended.returned]
        if returned:
            await self._until_written(lambda: self._spool.unclaim(returned))
        for damaged in (one for ended in batch for one in ended.damaged):
            await self._set_aside(damaged)
        self._writing = []
        for ended in batch:
            if ended.verdict is not None:
                ended.lane.verdicts -= 1
            if ended.load is not None:
                ended.load.unrecorded -= 1
            ended.pool.settled(ended.lane, ended.batches)
            self._recorded(ended)

    async def _record(self, batch: Sequence[Ended]) -> None:
        settlements = [settlement for ended in batch for settlement in ended.settlements]
        verdicts = [ended.verdict for ended in batch if ended.verdict is not None]
        if not settlements and not verdicts:
            return
        try:
            await self._until_written(lambda: self._spool.record(settlements, verdicts))
        except SpoolLost:
            raise
        except Exception:
            log.exception("outcomes cannot be recorded together; trying one by one")
            await self._record_singly(settlements, verdicts)

    async def _record_singly(self, settlements: Sequence[Settlement], verdicts: Sequence[LaneVerdict]) -> None:
        for settlement in settlements:
            await self._record_one(settlement)
        for verdict in verdicts:
            await self._record_verdict(verdict)

    async def _record_one(self, settlement: Settlement) -> None:
        envelope = settlement.attempt.envelope
        try:
            await self._until_written(lambda: self._spool.record([settlement]))
        except SpoolLost:
            raise
        except Exception:
            log.exception("the outcome of %s cannot be recorded", envelope)
            reason = f"outcome not recorded: {settlement.attempt.outcome.reply}"
            await self._set_aside(Damaged(envelope, reason), was_sent=True)

    async def _record_verdict(self, verdict: LaneVerdict) -> None:
        try:
            await self._until_written(lambda: self._spool.record([], [verdict]))
        except SpoolLost:
            raise
        except Exception:
            log.exception("a lane's state cannot be recorded: %s", verdict)

    async def _set_aside(self, damaged: Damaged, *, was_sent: bool = False) -> None:
        envelope, reason = damaged.envelope, damaged.reason
        try:
            await self._until_written(lambda: self._spool.set_aside(envelope, reason, was_sent=was_sent))
        except SpoolLost:
            raise
        except Exception:
            log.exception("%s cannot be set aside", damaged.envelope)

    async def _until_written(self, write: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    await write()
            except (SpoolFull, SpoolUnavailable) as error:
                self._stumbled(error)
                await anyio.sleep(PAUSE)
            else:
                self._recovered()
                return

    def _stumbled(self, error: Exception) -> None:
        if not self.trouble:
            log.error("delivery paused: outcomes cannot be recorded: %s", error)
            self.trouble = str(error)
            self._ready = anyio.Event()
            self._quiet.set()

    def _recovered(self) -> None:
        if self.trouble:
            log.info("delivery resumed: outcomes are recorded again")
            self.trouble = ""
            self._ready.set()
