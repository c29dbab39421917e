"""The blocking side of the control socket, for commands that start, ask and end.

Failure: `NotRunning` when nobody answers at the socket; `RequestRefused` with the daemon's reason; `ConnectionLost` when it
went away in the middle of an answer, or does not speak our protocol.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple

from control.protocol import (
    MAX_ANSWER,
    PREFIX,
    AnyAnswer,
    Done,
    ProtocolError,
    Refused,
    Request,
    frame,
    payload_length,
    read_answer,
)
from spool.layout import Layout

if TYPE_CHECKING:
    from control.listings import ListingRequest

#: Seconds without a word after which the daemon counts as stuck. Removing a million envelopes takes minutes.
PATIENCE: Final = 600.0


class ControlError(Exception):
    """The daemon did not do what it was asked. ``status`` is what the command exits with."""

    status = 1


class NotRunning(ControlError):
    """Nobody answers at the control socket."""

    def __init__(self) -> None:
        super().__init__("smtpd doesn't seem to be running")


class RequestRefused(ControlError):
    """The daemon says no, and why."""


class RequestForbidden(RequestRefused):
    """The daemon says no to this user."""

    status = os.EX_NOPERM


class ConnectionLost(ControlError):
    """The daemon went away, or is of another version."""


class Listing(NamedTuple):
    """Rows, and whether a daemon gave them."""

    rows: Iterator[AnyAnswer]
    running: bool


class Connection:
    """A conversation with the daemon."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise NotRunning from error
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self, request: Request) -> Iterator[AnyAnswer]:
        """The rows of an answer, and last its `Done`."""
        try:
            self._socket.sendall(frame(request))
            while not isinstance(answer := self._read(), Done):
                if isinstance(answer, Refused):
                    raise RequestForbidden(answer.reason) if answer.forbidden else RequestRefused(answer.reason)
                yield answer
        except (OSError, ProtocolError) as error:
            raise ConnectionLost(f"the connection to smtpd broke: {error}") from error
        yield answer

    def _read(self) -> AnyAnswer:
        length = payload_length(self._exactly(PREFIX), MAX_ANSWER)
        return read_answer(self._exactly(length))

    def _exactly(self, wanted: int) -> bytes:
        data = self._stream.read(wanted)
        if len(data) < wanted:
            raise ProtocolError("it was closed in the middle of an answer")
        return data


def look_up(layout: Layout, request: ListingRequest) -> Listing:
    """What the daemon answers, or the spool itself when no daemon runs."""
    try:
        connection = Connection(layout.control_socket)
    except NotRunning:
        # The spool's own code is read only here.
        from control.offline import ask_spool

        return Listing(ask_spool(layout, request), running=False)
    return Listing(rows_of(connection, request), running=True)


def rows_of(connection: Connection, request: Request) -> Iterator[AnyAnswer]:
    """The rows of one answer; the connection is closed behind them."""
    with connection:
        yield from (answer for answer in connection.ask(request) if not isinstance(answer, Done))
