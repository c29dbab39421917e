"""A generation of the configuration: read, checked and with its sockets bound, before anything of it takes effect.

Guarantees: nothing here changes the generation that runs; what was bound for one that is refused is closed.

Failure: `GenerationRefused`, with a sentence for each thing that is wrong.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from control.sealing import sealing_of
from ingress.errors import ListenError
from ingress.openings import Opening, Place, bind
from policy.config import Config, Listener, ListenerTls
from policy.errors import ConfigError, PolicyError
from policy.parser import Loaded, load_config
from policy.queue_key import KeyUnusable
from spool.layout import Layout
from spool.seal import Sealing, SealKey

if TYPE_CHECKING:
    from policy.pki import KeyMaterial

#: What an operator can do about it.
_HINTS: Final = {
    errno.EACCES: "a port below 1024 needs root",
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}

_log = logging.getLogger("control.generation")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from, each time that it is read."""

    places: Layout
    #: Absolute path of the configuration.
    path: str
    macros: Mapping[str, str]
    #: The key of the queue that was asked for when the daemon started.
    asked: SealKey | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A configuration, and its listeners ready to be opened."""

    config: Config
    openings: tuple[Opening, ...]
    sealing: Sealing
    #: What the certificates of the listeners were when they were read, for a process that may not read them.
    keys: Mapping[Place, KeyMaterial] = field(default_factory=dict)

    def discard(self) -> None:
        """Close what was bound for it."""
        _close(self.openings)


class GenerationRefused(Exception):
    """It cannot be put into practice; ``reasons`` are sentences."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


def read_generation(source: Source, listening: Collection[Place]) -> Generation:
    """What the configuration says now; ``listening`` are the places that are open already."""
    try:
        loaded = load_config(source.path, source.places, source.macros)
    except ConfigError as error:
        raise GenerationRefused([finding.headline for finding in error.findings]) from error
    log_warnings(loaded)
    return open_generation(source, loaded.config, listening)


def log_warnings(loaded: Loaded) -> None:
    """Tell the log what is allowed and probably not meant."""
    for warning in loaded.warnings:
        _log.warning("%s", warning.headline)


def open_generation(source: Source, config: Config, listening: Collection[Place] = ()) -> Generation:
    """``config`` with the certificates of its listeners, with its keys, and with sockets for those that are not open yet."""
    openings: list[Opening] = []
    keys: dict[Place, KeyMaterial] = {}
    reasons: list[str] = []
    sealing = Sealing()
    try:
        sealing = sealing_of(config, source.asked)
        # What that takes is loaded now, not when the first mail waits for it.
        sealing.begin("")
    except KeyUnusable as error:
        reasons.append(str(error))
    for listener in config.listeners:
        try:
            closed = _secured(listener, keys)
            if closed.place not in listening:
                closed = replace(closed, socket=bind(listener, source.places.submission_socket))
            openings.append(closed)
        except PolicyError as error:
            reasons.append(str(error))
        except ListenError as error:
            reasons.append(_explained(error))
    if reasons:
        _close(openings)
        raise GenerationRefused(reasons)
    return Generation(config, tuple(openings), sealing, keys)


def _close(openings: Iterable[Opening]) -> None:
    for opening in openings:
        if opening.socket is not None:
            opening.socket.close()


def _secured(listener: Listener, keys: dict[Place, KeyMaterial]) -> Opening:
    """The listener with its certificates, which go to ``keys`` too; it has no socket yet."""
    opening = Opening(listener, None)
    if listener.tls is ListenerTls.NONE:
        return opening
    # Reading certificates takes 8 MB of code: for those who have one.
    from policy.pki import key_material, server_context

    keys[opening.place] = found = key_material(listener)
    make = partial(server_context, listener, found)
    return replace(opening, tls=make(), renew=make)


def _explained(error: ListenError) -> str:
    """The error, with what can be done about it."""
    cause = error.__cause__
    hint = _HINTS.get(cause.errno or 0, "") if isinstance(cause, OSError) else ""
    return f"{error} ({hint})" if hint else str(error)
