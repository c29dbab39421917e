"""The figures of ``smtpctl show stats``.

Counting a million envelopes takes some tenths of a second, so `Figures.now` is for a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from control.printing import duration
from control.roles.ingress import Front
from scheduler.runner import Runner
from spool.listing import DAMAGED_COUNTED, QueueReader
from spool.state import State
from spool.writer import SpoolWriter


@dataclass(frozen=True, slots=True)
class Figures:
    """Where the figures come from."""

    spool: SpoolWriter
    reader: QueueReader
    runner: Runner
    front: Front
    #: The keys of the queue that are at hand.
    fingerprints: Callable[[], Collection[str]]
    #: On the monotonic clock.
    started: float

    def now(self) -> Iterator[tuple[str, object]]:
        """Names and values, sorted by name."""
        counts = self.reader.counts()
        uptime = time.monotonic() - self.started
        figures: dict[str, object] = {
            **self.runner.snapshot().counters,
            "drop.damaged": self.front.set_aside,
            "queue.message": counts.messages,
            "queue.report": counts.reports,
            "scheduler.envelope": sum(counts.by_state.values()),
            "smtp.session": self.front.sessions,
            "uptime": int(uptime),
            "uptime.human": duration(uptime),
        }
        figures |= {f"queue.key.{key}": bodies for key, bodies in self.reader.keys().items()}
        figures |= {f"scheduler.envelope.{state.value}": counts.by_state.get(state, 0) for state in State}
        yield from sorted(figures.items())

    def troubles(self) -> Iterator[str]:
        """What the operator should look at."""
        yield from self.spool.troubles()
        if reason := self.runner.snapshot().trouble:
            yield f"nothing is delivered: {reason}"
        for finding in self.spool.findings:
            yield f"the database is damaged: {finding}; stop smtpd, and put a backup in its place"
        if damaged := self.reader.damaged_count():
            more = " or more" if damaged == DAMAGED_COUNTED else ""
            what_to_do = "smtpctl show queue --state damaged; release or remove them"
            yield f"envelopes set aside as damaged ({what_to_do}): {damaged}{more}"
        at_hand = self.fingerprints()
        for key, bodies in sorted(self.reader.keys().items()):
            if key not in at_hand:
                yield f"messages that wait for key {key}, which this daemon does not have: {bodies}"
        if orphans := self.spool.bodies.orphans():
            folder = self.spool.bodies.orphan_dir
            yield f"bodies without a message in {folder} (look at them, then delete them): {orphans}"
        if trouble := self.front.trouble:
            yield trouble
        if self.front.set_aside:
            yield f"{self.front.set_aside} files of the drop are set aside"
