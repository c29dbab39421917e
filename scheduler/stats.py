"""What the scheduler has done since it started, and what it is doing now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spool.state import Event


@dataclass(slots=True)
class Tally:
    """Running counts since the start."""

    delivered: int = 0
    deferred: int = 0
    failed: int = 0
    #: Ended because their time was over.
    expired: int = 0
    damaged: int = 0
    #: Reports handed on to their senders.
    reports: int = 0
    #: Reports, or mail without a sender, that nobody can be told about any more.
    lost_reports: int = 0

    def add(self, event: Event) -> None:
        """One attempt ended."""
        match event:
            case Event.DELIVERED:
                self.delivered += 1
            case Event.DEFERRED:
                self.deferred += 1
            case Event.FAILED:
                self.failed += 1
            case Event.EXPIRED:
                self.expired += 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The scheduler at one moment."""

    #: ``key=value`` of ``smtpctl show stats``, under OpenSMTPD's names where it has one.
    counters: Mapping[str, int]
    #: Kinds of traffic that the operator paused: ``mta``, ``mda``.
    paused: frozenset[str]
    #: Why nothing is delivered although mail waits (the disk is full); empty when all is well.
    trouble: str
