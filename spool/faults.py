"""Exceptions that mean something beyond their process, as values that a `spool.channel` carries.

Guarantees: what is raised at the other side has the type, the number and the text of what was raised here. No other
exception crosses: its text might say what is none of the other side's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec

from spool.errors import (
    BodyDamaged,
    DuplicateMessage,
    SpoolError,
    SpoolFull,
    SpoolInUse,
    SpoolLost,
    SpoolTooNew,
    SpoolUnavailable,
    UnknownEnvelope,
)

#: The exceptions that a channel carries, by their names.
Faults: TypeAlias = Mapping[str, type[Exception]]

_SPOOL: Final = (
    BodyDamaged, DuplicateMessage, SpoolError, SpoolFull, SpoolInUse, SpoolLost, SpoolTooNew, SpoolUnavailable,
    UnknownEnvelope,
)  # fmt: skip
#: The spool's own.
SPOOL_FAULTS: Final[Faults] = MappingProxyType({kind.__name__: kind for kind in _SPOOL})

#: What those are believed who may say nothing of the spool: that it went wrong.
NO_FAULTS: Final[Faults] = MappingProxyType({})


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """One of them."""

    kind: str
    #: ``errno``, 0 where there is none.
    number: int
    text: str


def fault_of(error: Exception, known: Faults) -> Fault | None:
    """The value for ``error``; None when it is none of those that are ``known``."""
    kind = type(error).__name__
    if known.get(kind) is not type(error):
        return None
    if isinstance(error, OSError):
        return Fault(kind, error.errno or 0, error.strerror or "")
    return Fault(kind, 0, str(error))


def exception_of(fault: Fault, known: Faults) -> Exception | None:
    """The exception again; None when it is none of those that are ``known``."""
    kind = known.get(fault.kind)
    if kind is None:
        return None
    return kind(fault.number, fault.text) if issubclass(kind, OSError) else kind(fault.text)
