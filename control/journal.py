"""The daemon's log: one line an event, to standard error or to syslog, with traces that can be turned on by subsystem.

Guarantees: a line holds no control character and at most `MAX_LINE` octets, whatever a peer put into it; an exception takes
the same one line; writing to syslog never waits. Lines of several processes do not run into one another. An ordinary line
is written by the end of the loop's turn, a warning or an error at once.

Failure: `UnknownSubsystem` for a trace of something that is not here. Lines that syslog does not take are counted, and the
number is the first thing it hears when it listens again. A standard error that is closed loses its lines in silence.

RFC 3164 4.1 (what syslog reads).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TextIO

from control.process import SYSLOG_SOCKET

#: Octets of one line: room for two long addresses and a remote server's reply, and what every syslog daemon takes whole.
MAX_LINE: Final = 2000
#: Octets of one write to standard error: a pipe takes so many as one piece (POSIX, PIPE_BUF).
MAX_PIECE: Final = 4096
#: The innermost frames of an exception that are worth a line.
MAX_FRAMES: Final = 6
#: RFC 3164 4.1.1: facility 2 is "mail system".
_FACILITY_MAIL: Final = 2 << 3
#: Lower than DEBUG: a subsystem that is traced says everything.
_TRACED: Final = 1

#: The rooms of the house, each the parent of its modules' loggers.
PACKAGES: Final = ("spool", "policy", "ingress", "scheduler", "delivery", "control")

_MTA = ("delivery.relay",)
#: What ``-T`` and ``smtpctl trace`` call a part of the daemon, and the loggers that speak for it.
SUBSYSTEMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "all": PACKAGES,
        "expand": ("policy.expand",),
        "lookup": ("policy.tables",),
        "mda": ("delivery.agent", "delivery.dispatch"),
        "mta": _MTA,
        "queue": ("spool",),
        "rules": ("policy.ruleset",),
        "scheduler": ("scheduler",),
        "smtp": ("ingress",),
        "table": ("policy.tables",),
        "tables": ("policy.tables",),
        "transfer": _MTA,
    }
)

#: What every record has; the rest is the ``extra`` of whoever wrote it.
_ORDINARY: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SEVERITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_SEVERITY = 7


class UnknownSubsystem(ValueError):
    """There is no such subsystem to trace."""


class LineFormatter(logging.Formatter):
    """One event, one line: what happened, the ``extra`` of it as ``key=value``, the exception it came with."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        text = record.getMessage()
        attributes = vars(record)
        if not attributes.keys() <= _ORDINARY:
            text += "".join(f" {key}={_value(value)}" for key, value in attributes.items() if key not in _ORDINARY)
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text} ({_trouble(record.exc_info[1])})"
        text = _prefix(record) + text
        if text.isascii() and text.isprintable() and len(text) <= MAX_LINE:
            return text
        return _bounded(_CONTROL.sub(_escape, text))


class StreamLines(logging.Handler):
    """Lines for a text stream. Those of one turn of the loop leave in one write: a write costs more than a line."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []
        self._is_flushing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Have the line written, and at once if it is a warning or there is no loop."""
        self._lines.append(self.format(record) + "\n")
        if record.levelno >= logging.WARNING or not self._will_flush():
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or contextlib.nullcontext():
            lines, self._lines = self._lines, []
            # A closed stream has nobody who could be told.
            with contextlib.suppress(OSError, ValueError):
                for piece in _pieces(lines):
                    self._stream.write(piece)
                    self._stream.flush()

    def close(self) -> None:
        """Write what waits; the stream stays open."""
        self.flush()
        super().close()

    def _will_flush(self) -> bool:
        """See to it that the present turn of the loop ends in a flush; false in a thread that has no loop."""
        if self._is_flushing:
            return True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._is_flushing = True
        loop.call_soon(self._flush_turn)
        return True

    def _flush_turn(self) -> None:
        self._is_flushing = False
        self.flush()


class SyslogHandler(logging.Handler):
    """Lines for the machine's log daemon, facility mail. Raises `OSError` when it is not there at the start."""

    def __init__(self, path: str = SYSLOG_SOCKET) -> None:
        super().__init__()
        self._path = path
        self._lost = 0
        self._socket = syslog_socket(path)
        #: Whether the log daemon has gone, and this process may not connect to another by itself.
        self.is_cut_off = False

    def take(self, connected: socket.socket) -> None:
        """Go on by another socket to the log daemon."""
        with self.lock or contextlib.nullcontext():
            self._socket.close()
            self._socket = connected
            self.is_cut_off = False

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the line over, or count it as lost."""
        if self._lost and self._send(4, f"warn: {self._lost} log lines are missing: syslog did not take them"):
            self._lost = 0
        if not self._send(_severity(record.levelno), self.format(record)):
            self._lost += 1

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()

    def _send(self, severity: int, text: str) -> bool:
        line = f"<{_FACILITY_MAIL | severity}>{_stamp(int(time.time()))} smtpd[{os.getpid()}]: {text}".encode()
        try:
            self._socket.send(line, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return self._send_again(line)
        return True

    def _send_again(self, line: bytes) -> bool:
        """A log daemon that was started anew listens on a new socket of the same name."""
        try:
            self._socket.connect(self._path)
            self._socket.send(line, socket.MSG_DONTWAIT)
        except PermissionError:
            self.is_cut_off = True
            return False
        except OSError:
            return False
        return True


def syslog_socket(path: str = SYSLOG_SOCKET) -> socket.socket:
    """A socket to the machine's log daemon. Raises `OSError`."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made


class Journal:
    """Who may speak, and how loudly: the levels of the process's loggers, as ``-v``, ``-T`` and ``smtpctl`` set them."""

    def __init__(self, handler: logging.Handler, verbose: bool = False) -> None:
        handler.setFormatter(LineFormatter())
        #: Whether nobody at the terminal reads it.
        self.is_elsewhere = isinstance(handler, SyslogHandler)
        self._handler = handler
        self._verbose = verbose
        self._traced: set[str] = set()
        root = logging.getLogger()
        root.setLevel(logging.WARNING)
        root.addHandler(handler)
        self._thrift = _Thrift()
        self._apply()

    @property
    def is_cut_off(self) -> bool:
        """Whether lines are lost until `reconnect`."""
        return isinstance(self._handler, SyslogHandler) and self._handler.is_cut_off

    def reconnect(self, connected: socket.socket) -> None:
        """Write to this socket from now on, which somebody else has connected to the log daemon."""
        if isinstance(self._handler, SyslogHandler):
            self._handler.take(connected)
        else:
            connected.close()

    def set_verbose(self, verbose: bool) -> None:
        """Whether debug lines are written."""
        self._verbose = verbose
        self._apply()

    def trace(self, subsystem: str) -> None:
        """Have a subsystem say everything."""
        self._traced.add(_known(subsystem))
        self._apply()

    def untrace(self, subsystem: str) -> None:
        """The end of `trace`; ``all`` ends every trace."""
        if _known(subsystem) == "all":
            self._traced.clear()
        self._traced.discard(subsystem)
        self._apply()

    @property
    def verbose(self) -> bool:
        """Whether debug lines are written."""
        return self._verbose

    @property
    def traced(self) -> frozenset[str]:
        """The subsystems that say everything."""
        return frozenset(self._traced)

    def speak(self, verbose: bool, traced: Iterable[str]) -> None:
        """Be exactly as loud as another process."""
        self._verbose = verbose
        self._traced = set(map(_known, traced))
        self._apply()

    def close(self) -> None:
        """Give the loggers back as they were."""
        logging.getLogger().removeHandler(self._handler)
        for name in _every_logger():
            logging.getLogger(name).setLevel(logging.NOTSET)
        self._thrift.end()
        self._handler.close()

    def _apply(self) -> None:
        traced = {name for subsystem in self._traced for name in SUBSYSTEMS[subsystem]}
        for name in _every_logger():
            level = logging.NOTSET
            if name in PACKAGES:
                level = logging.DEBUG if self._verbose else logging.INFO
            logging.getLogger(name).setLevel(_TRACED if name in traced else level)


class _Thrift:
    """Spares records what no line of ours tells: who called, in which thread and process (logging, "Optimization").

    Finding that out is half of what a line costs.
    """

    def __init__(self) -> None:
        self._source = logging._srcfile
        logging._srcfile = None
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

    def end(self) -> None:
        logging._srcfile = self._source
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = True


def open_journal(to_syslog: bool, verbose: bool = False) -> Journal:
    """The log of this process: syslog if asked for and there, else standard error."""
    if not to_syslog:
        return Journal(StreamLines(sys.stderr), verbose)
    try:
        return Journal(SyslogHandler(), verbose)
    except OSError as error:
        journal = Journal(StreamLines(sys.stderr), verbose)
        logging.getLogger(__name__).warning("no syslog at %s (%s): logging here", SYSLOG_SOCKET, error.strerror)
        return journal


def _known(subsystem: str) -> str:
    if subsystem not in SUBSYSTEMS:
        raise UnknownSubsystem(f"invalid trace keyword: {subsystem} (known: {' '.join(SUBSYSTEMS)})")
    return subsystem


def _every_logger() -> frozenset[str]:
    return frozenset(name for names in SUBSYSTEMS.values() for name in names)


def _prefix(record: logging.LogRecord) -> str:
    if record.levelno >= logging.ERROR:
        return "error: "
    if record.levelno >= logging.WARNING:
        return "warn: "
    return "" if record.levelno >= logging.INFO else f"debug: {record.name}: "


def _severity(level: int) -> int:
    return next((severity for least, severity in _SEVERITIES if level >= least), _DEBUG_SEVERITY)


@functools.lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    """RFC 3164 4.1.2."""
    return time.strftime("%b %e %H:%M:%S", time.localtime(second))


def _pieces(lines: Iterable[str]) -> Iterable[str]:
    """Whole lines, as many as one write takes."""
    piece, octets = "", 0
    for line in lines:
        length = len(line) if line.isascii() else len(line.encode())
        if piece and octets + length > MAX_PIECE:
            yield piece
            piece, octets = "", 0
        piece += line
        octets += length
    if piece:
        yield piece


def _value(value: object) -> str:
    """A value, in quotes where it could not be told from what follows."""
    text = str(value)
    if text and not set(text) & set(' "='):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _trouble(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    places = " > ".join(f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__}: {error}; {places}" if places else f"{type(error).__name__}: {error}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _bounded(line: str) -> str:
    raw = line.encode()
    return line if len(raw) <= MAX_LINE else raw[: MAX_LINE - 3].decode(errors="ignore") + "..."
