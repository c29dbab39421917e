"""How the daemon starts, whatever processes it becomes: what it was told, and what it takes before anything else.

Failure: `StartError`, whose status is that of the process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from control.generation import Generation, GenerationRefused, Source, open_generation
from control.journal import Journal
from control.sockets import SocketTaken, bind_unix, remove_unix
from ingress.dropdoor import make_drop
from policy.config import Config
from spool.errors import SpoolError, SpoolInUse
from spool.layout import Layout

if TYPE_CHECKING:
    from control.separated.cradled import Cradle


@dataclass(frozen=True, slots=True)
class Start:
    """What the command line came to."""

    source: Source
    config: Config
    journal: Journal
    #: What is paused from the beginning, as if by ``smtpctl pause``.
    paused: tuple[str, ...] = ()
    #: Whether all roles share one process, whoever starts it.
    one_process: bool = False
    #: The process that forks the roles, when it was started ahead of all this.
    cradle: Cradle | None = None


class StartError(Exception):
    """The daemon cannot start."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def first_generation(start: Start) -> Generation:
    """The configuration that was read, with its sockets. Raises `StartError`."""
    try:
        return open_generation(start.source, start.config)
    except GenerationRefused as error:
        raise StartError(str(error)) from error


def spool_refused(places: Layout, error: SpoolError) -> StartError:
    """Why the spool cannot be taken, for the operator."""
    if isinstance(error, SpoolInUse):
        return StartError(str(error), os.EX_TEMPFAIL)
    return StartError(f"{places.spool_dir}: {error}")


def prepare_drop(places: Layout) -> None:
    """Make the drop directory. Raises `StartError`."""
    try:
        make_drop(places)
    except OSError as error:
        raise StartError(f"{places.drop_dir}: {error.strerror}") from error


@contextmanager
def control_socket(places: Layout) -> Iterator[socket.socket]:
    """The control socket; at the end its name goes, and that of the submission socket beside it. Raises `StartError`."""
    try:
        listening = bind_unix(places.control_socket)
    except SocketTaken as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"{places.control_socket}: {error.strerror}") from error
    try:
        yield listening
    finally:
        listening.close()
        remove_unix(places.control_socket)
        remove_unix(places.submission_socket)
