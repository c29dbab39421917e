"""What ``mta limit``, ``mda limit`` and ``scheduler limit`` say.

What the operator does not set is None: there the house's own measure holds, which fits itself to what servers bear.
Delays are in seconds, as they are written. smtpd.conf(5) of OpenSMTPD 7.8 reads these keys without naming them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class MtaLimits:
    """How the mail for one domain, or through one smarthost, may be relayed."""

    #: The version of IP that connections are kept to, 4 or 6; None means both.
    family: int | None = None
    max_conn_per_host: int | None = None
    #: A route is a pair of source and destination address.
    max_conn_per_route: int | None = None
    max_conn_per_source: int | None = None
    #: A connector is a pair of relay and source address.
    max_conn_per_connector: int | None = None
    max_conn_per_relay: int | None = None
    max_conn_per_domain: int | None = None
    conn_delay_host: int | None = None
    conn_delay_route: int | None = None
    conn_delay_source: int | None = None
    conn_delay_connector: int | None = None
    conn_delay_relay: int | None = None
    conn_delay_domain: int | None = None
    #: How long a route rests after a connection of it has ended, or could not be opened.
    reconn_delay_route: int | None = None
    #: Messages that one session takes.
    session_mail_max: int | None = None
    session_transaction_delay: int | None = None
    #: How long a session without work is kept.
    session_keepalive: int | None = None
    #: Refused recipients in a row after which a session is ended.
    max_failures_per_session: int | None = None

    @property
    def counts_connections(self) -> bool:
        """Whether somebody has to know of all connections there are, and were."""
        names = (each.name for each in fields(self) if "conn" in each.name)
        return any(getattr(self, name) is not None for name in names)


@dataclass(frozen=True, slots=True)
class MdaLimits:
    """How many deliveries on this machine may run at once."""

    max_session: int | None = None
    max_session_per_user: int | None = None


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """How much the scheduler may have in hand."""

    max_inflight: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """All of them."""

    mta: MtaLimits = field(default_factory=MtaLimits)
    #: By domain, or name of a smarthost, lower-case.
    mta_for: Mapping[str, MtaLimits] = field(default_factory=dict)
    mda: MdaLimits = field(default_factory=MdaLimits)
    scheduler: SchedulerLimits = field(default_factory=SchedulerLimits)

    def for_all(self) -> tuple[tuple[str, MtaLimits | MdaLimits | SchedulerLimits], ...]:
        """Those of no domain, each with the words that begin its line."""
        return ("mta limit", self.mta), ("mda limit", self.mda), ("scheduler limit", self.scheduler)

    @property
    def counts_connections(self) -> bool:
        """Whether a connection of any mail counts."""
        return any(limits.counts_connections for limits in (self.mta, *self.mta_for.values()))

    def of_relay(self, name: str) -> MtaLimits:
        """Those for the domain or the smarthost ``name``."""
        return self.mta_for.get(name.lower(), self.mta)


def limit_keys(kind: type[MtaLimits] | type[MdaLimits] | type[SchedulerLimits]) -> tuple[str, ...]:
    """The keys of a ``limit`` line that have a number behind them."""
    return tuple(each.name.replace("_", "-") for each in fields(kind) if each.name != "family")


MTA_KEYS: Final = limit_keys(MtaLimits)
MDA_KEYS: Final = limit_keys(MdaLimits)
SCHEDULER_KEYS: Final = limit_keys(SchedulerLimits)

#: Keys that bound how much waiting mail OpenSMTPD keeps in memory, or takes from one queue to the next.
WITHOUT_EFFECT: Final[Mapping[str, frozenset[str]]] = {
    "mta": frozenset({"task-hiwat", "task-lowat", "task-release"}),
    "mda": frozenset({"task-hiwat", "task-lowat", "task-release"}),
    "scheduler": frozenset({"max-schedule", "max-evp-batch-size", "max-msg-batch-size"}),
}
