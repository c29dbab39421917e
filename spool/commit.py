"""Group commit: one thread, one connection, and whatever piled up during the last fsync goes into the next transaction.

Guarantees: outcomes go before everything else that waits. A job is answered after the commit that holds it, all jobs of a
commit in one wake-up of the loop. A lonely job waits for nobody.

Failure: once `SpoolLost` came up, every job is answered with it, and nothing more is written.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from spool.errors import SpoolLost
from spool.opening import OpenSpool, abandon_spool, close_spool
from spool.store import Piece
from spool.upkeep import Upkeep

_log: Final = logging.getLogger(__name__)

#: Envelopes, or outcomes, in one transaction: some 20 ms of work, so that nobody waits long for an answer.
BATCH_ENVELOPES: Final = 256
#: Octets of bodies in one transaction, for the same reason.
BATCH_OCTETS: Final = 8 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Job:
    """Something for the spool's thread to do, and who waits for it."""

    future: asyncio.Future[Any]


@dataclass(slots=True, eq=False)
class Write(Job):
    """A piece of a transaction."""

    piece: Piece
    #: The large body that must be on disk before, by name.
    body: str = ""
    octets: int = 0
    envelopes: int = 1
    #: Whether it is an outcome or an operator's command, which go first, and get the reserve on a full disk.
    first: bool = False
    #: What to do with the result when nobody waits for it any more.
    unwanted: Callable[[Any], None] | None = None


@dataclass(slots=True, eq=False)
class Read(Job):
    """A question, answered between transactions."""

    piece: Callable[[sqlite3.Connection], object]


class Stop(Job):
    """The end: what was put before is done first."""


#: A job, and its result or its error.
Answer = tuple[Job, object]


class Committer(threading.Thread):
    """The spool's thread. ``answer`` is called in it, with what a commit came to; it must not raise."""

    def __init__(self, spool: OpenSpool, upkeep: Upkeep, answer: Callable[[list[Answer], bool], None]) -> None:
        super().__init__(name="spool", daemon=True)
        self._spool = spool
        self._store = spool.store
        self._upkeep = upkeep
        self._answer = answer
        self._arrived: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._outcomes: deque[Write] = deque()
        self._others: deque[Write] = deque()
        self._reads: list[Read] = []
        self._stop: Stop | None = None
        #: Why nothing is written any more, or None.
        self.lost: SpoolLost | None = None

    def put(self, job: Job) -> None:
        """From any thread."""
        self._arrived.put(job)

    def run(self) -> None:
        """Until `Stop` came and all before it is done."""
        while self._stop is None or self._outcomes or self._others or self._reads:
            self._gather()
            writes, reads = self._next_batch(), self._take_reads()
            try:
                self._do(writes, reads)
            except Exception as error:
                self._lose(error, [*writes, *reads])
        self._answer([(self._stop, self._close())], False)

    def _close(self) -> Exception | None:
        try:
            (abandon_spool if self.lost else close_spool)(self._spool)
        except Exception as error:
            return error
        return self.lost

    def _gather(self) -> None:
        """Wait for work or for the next chore; then take all that is there."""
        try:
            if not (self._outcomes or self._others or self._reads):
                self._sort(self._arrived.get(timeout=self._patience()))
            while True:
                self._sort(self._arrived.get_nowait())
        except queue.Empty:
            return

    def _patience(self) -> float | None:
        return None if self.lost else max(0.0, self._upkeep.due - self._upkeep.monotonic())

    def _sort(self, job: Job) -> None:
        match job:
            case Write(first=True):
                self._outcomes.append(job)
            case Write():
                self._others.append(job)
            case Read():
                self._reads.append(job)
            case Stop():
                self._stop = job

    def _next_batch(self) -> list[Write]:
        batch: list[Write] = []
        envelopes = octets = 0
        for waiting in (self._outcomes, self._others):
            while waiting and envelopes < BATCH_ENVELOPES and octets < BATCH_OCTETS:
                job = waiting.popleft()
                batch.append(job)
                envelopes += job.envelopes
                octets += job.octets
        return batch

    def _take_reads(self) -> list[Read]:
        reads, self._reads = self._reads, []
        return reads

    def _do(self, writes: list[Write], reads: list[Read]) -> None:
        if self.lost:
            self._answer([(job, self.lost) for job in (*writes, *reads)], False)
            return
        if writes:
            self._write(writes)
        if reads:
            self._answer([(job, self._store.read(job.piece)) for job in reads], False)
        if self._upkeep.due <= self._upkeep.monotonic():
            self._upkeep.work()

    def _write(self, jobs: list[Write]) -> None:
        store, bodies = self._store, self._store.bodies
        bodies.publish([job.body for job in jobs if job.body])
        done = store.run([job.piece for job in jobs], sum(job.first for job in jobs))
        answers: list[Answer] = list(zip(jobs, done.results, strict=True))
        for job, result in zip(jobs, done.results, strict=True):
            if job.body:
                (bodies.discard if isinstance(result, Exception) else bodies.settle)(job.body)
        self._answer(answers, done.made_due)
        self._upkeep.wrote(sum(job.octets for job in jobs), sum(job.envelopes for job in jobs))

    def _lose(self, error: Exception, jobs: Iterable[Job]) -> None:
        """Nothing that comes after a write that may be lost can be trusted."""
        self.lost = error if isinstance(error, SpoolLost) else SpoolLost(f"unexpected: {error!r}")
        _log.critical("spool lost", extra={"reason": str(self.lost)}, exc_info=error)
        self._answer([(job, self.lost) for job in jobs], False)
