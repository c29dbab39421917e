"""Leaving the terminal: the command returns to its caller only when the daemon stands, and its exit status tells.

The caller waits at a pipe while the child of its child starts; what the start has to complain about still reaches the
caller's standard error.

Failure: the status that `Starting.failed` was given, or `os.EX_SOFTWARE` when the daemon died without a word.
"""

from __future__ import annotations

import contextlib
import os
import signal


class Starting:
    """The daemon's end of the pipe at which its caller waits. What is said after the first word is not heard."""

    def __init__(self, pipe: int, keep_stderr: bool) -> None:
        self._pipe: int | None = pipe
        #: Standard error stays open when there is no other place to log to.
        self._keep_stderr = keep_stderr

    def ready(self) -> None:
        """The daemon stands: the caller ends with 0, and the terminal is let go."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1) if self._keep_stderr else (0, 1, 2):
            os.dup2(null, descriptor)
        if null > 2:
            os.close(null)
        self._tell(os.EX_OK)

    def failed(self, status: int) -> None:
        """The daemon does not stand: the caller ends with ``status``."""
        self._tell(status)

    def _tell(self, status: int) -> None:
        if self._pipe is None:
            return
        pipe, self._pipe = self._pipe, None
        # Whoever started us may not have waited for the answer.
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, bytes([status]))
        os.close(pipe)


def into_background(keep_stderr: bool) -> Starting:
    """Go on in a process without a terminal; the process that called this ends when it hears of the start.

    To be called before the first thread and the first event loop.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        _end_as_told(reading)
    os.close(reading)
    os.setsid()
    # A session leader without a terminal could still acquire one; its child cannot.
    if os.fork():
        os._exit(os.EX_OK)
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return Starting(writing, keep_stderr)


def _end_as_told(reading: int) -> None:
    answer = os.read(reading, 1)
    os._exit(answer[0] if answer else os.EX_SOFTWARE)
